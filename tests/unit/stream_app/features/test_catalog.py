"""The catalogue: what it refuses, what its hash and the layout's tag depend on, and the page made from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stream_app.errors import ContractError
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declare import Catalogue, Feature
from stream_app.features.document import features_markdown
from stream_app.features.engine import FeatureEngine
from stream_app.features.layout import catalogue_hash, kind_layout

PAGE = Path(__file__).parents[4] / "docs" / "features.md"


def with_feature(of: str, **changes: object) -> Catalogue:
    features = tuple(replace(f, **changes) if f.name == of else f for f in CATALOGUE.features)  # type: ignore[arg-type]
    return replace(CATALOGUE, features=features)


def swapped() -> Catalogue:
    first, second, *rest = CATALOGUE.features
    return replace(CATALOGUE, features=(second, first, *rest))


def with_tile(tile_ms: int) -> Catalogue:
    return replace(CATALOGUE, windows=(replace(CATALOGUE.windows[0], tile_ms=tile_ms), *CATALOGUE.windows[1:]))


CHANGES: dict[str, Callable[[], Catalogue]] = {
    "the order of features": swapped,
    "a name": lambda: with_feature("amount", name="order_amount"),
    "a default": lambda: with_feature("device_amount_vs_mean_7d", default=2.0),
    "a range": lambda: with_feature("amount", high=5.0),
    "a prior": lambda: with_feature("user_cart_rate_1d", prior=(2.0, 40.0)),
    "a window": lambda: with_feature("user_carts_1d", window="7d"),
    "a measure": lambda: with_feature("user_carts_1d", measure="views"),
    "a bitmap's size": lambda: with_feature("ip_distinct_users_1d", words=2),
    "a tile": lambda: with_tile(120_000),
    "a feature less": lambda: replace(CATALOGUE, features=CATALOGUE.features[:-1]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_hash_changes_with(what: str) -> None:
    assert catalogue_hash(CHANGES[what]()) != catalogue_hash(CATALOGUE)


def test_the_hash_does_not_change_with_prose_units_and_expiry() -> None:
    prose = with_feature("amount", meaning="another sentence", reason="another", unit="EUR")
    kinds = tuple(replace(kind, meaning="x", ttl_ms=1) for kind in CATALOGUE.kinds)
    assert catalogue_hash(prose) == catalogue_hash(replace(CATALOGUE, kinds=kinds)) == catalogue_hash(CATALOGUE)
    assert len(catalogue_hash(CATALOGUE)) == 16


def test_state_stays_readable_when_only_features_change_and_starts_anew_when_tiles_do() -> None:
    user = CATALOGUE.kinds[0]
    tag = kind_layout(CATALOGUE, user).tag
    for same in (swapped(), with_feature("user_cart_rate_1d", prior=(2.0, 40.0)), with_feature("amount", name="a")):
        assert kind_layout(same, same.kinds[0]).tag == tag
    for other in (with_tile(120_000), with_feature("user_carts_1d", window="7d")):
        assert kind_layout(other, other.kinds[0]).tag != tag


WRONG: dict[str, tuple[Callable[[], Catalogue], str]] = {
    "a name twice": (lambda: with_feature("amount", name="price"), "'price' is declared 2 times"),
    "an unknown window": (lambda: with_feature("user_carts_1d", window="2d"), "unknown window '2d'"),
    "an unknown measure": (lambda: with_feature("user_carts_1d", measure="x"), "unknown measure 'x'"),
    "an unknown entity": (lambda: with_feature("user_carts_1d", entity="shop"), "unknown entity 'shop'"),
    "a default out of range": (lambda: with_feature("amount", default=-1.0), "outside"),
    "a rate whose default is not its prior": (lambda: with_feature("user_cart_rate_1d", default=0.5), "and give 0.5"),
    "a distinct count without a bitmap": (lambda: with_feature("ip_distinct_users_1d", words=0), "1 to 16 words"),
    "a sum of hashes": (lambda: with_feature("user_carts_1d", measure="device"), "adds up the hashes"),
    "a tile that does not divide": (lambda: with_tile(70_000), "no multiple of its tile"),
    "lateness by a shared kind": (lambda: replace(CATALOGUE, kinds=CATALOGUE.kinds[1:]), "must exist and not be shared"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_catalogue_is_refused_for(what: str) -> None:
    build, message = WRONG[what]
    with pytest.raises(ContractError, match="contradicts itself") as refused:
        build()
    assert message in str(refused.value)


def test_a_refused_catalogue_names_every_problem_at_once() -> None:
    wrong = replace(CATALOGUE.features[0], window="2d", default=-1.0)
    with pytest.raises(ContractError) as refused:
        replace(CATALOGUE, features=(wrong,))
    assert "'2d'" in str(refused.value)
    assert "outside" in str(refused.value)


def test_a_catalogue_of_one_feature_works() -> None:
    age = Feature("age", "m", "r", "user", "age", "seconds", 1e9)
    small = replace(CATALOGUE, kinds=CATALOGUE.kinds[:1], features=(age,), measures=(), windows=())
    engine = FeatureEngine(small, allowed_lateness_ms=0)
    engine.warm()
    assert engine.feature_names == ("age",)


def test_the_prose_of_the_shipped_catalogue_is_ascii_and_complete() -> None:
    for feature in CATALOGUE.features:
        for text in (feature.name, feature.meaning, feature.reason, feature.unit):
            assert text
            assert text.isascii()
            assert "|" not in text  # it would break the table


def test_the_page_is_what_the_catalogue_generates() -> None:
    assert PAGE.read_text(encoding="utf-8") == features_markdown(CATALOGUE)


def test_expiry_outlives_the_longest_window_of_its_entity() -> None:
    for kind in CATALOGUE.kinds:
        windows = [CATALOGUE.window(f.window) for f in CATALOGUE.features if f.entity == kind.name and f.window]
        assert all(kind.ttl_ms >= w.length_ms + w.tile_ms for w in windows)
