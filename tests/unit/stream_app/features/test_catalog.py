"""The catalogue: what it refuses, what its hash and the layouts depend on, what the shipped one has, and its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from stream_app.docgen.features_page import features_markdown
from stream_app.errors import ContractError
from stream_app.events import Click
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import ENTITIES, EVENT, Aggregation, Catalogue, Feature
from stream_app.features.engine import FeatureEngine
from tests.unit.stream_app.features.cases import NOON, new_run

PAGE = Path(__file__).parents[4] / "docs" / "features.md"


def with_feature(of: str, **changes: object) -> Catalogue:
    assert any(f.name == of for f in CATALOGUE.features), of
    features = tuple(replace(f, **changes) if f.name == of else f for f in CATALOGUE.features)  # type: ignore[arg-type]
    return replace(CATALOGUE, features=features)


def swapped() -> Catalogue:
    first, second, *rest = CATALOGUE.features
    return replace(CATALOGUE, features=(second, first, *rest))


def with_window(**changes: object) -> Catalogue:
    return replace(CATALOGUE, windows=(replace(CATALOGUE.windows[0], **changes), *CATALOGUE.windows[1:]))  # type: ignore[arg-type]


def with_kind(of: str, **changes: object) -> Catalogue:
    return replace(CATALOGUE, kinds=tuple(replace(k, **changes) if k.name == of else k for k in CATALOGUE.kinds))  # type: ignore[arg-type]


def hash_of(catalogue: Catalogue) -> str:
    return FeatureEngine(catalogue, allowed_lateness_ms=0).catalogue_hash


def layouts_of(catalogue: Catalogue) -> dict[str, str]:
    return FeatureEngine(catalogue, allowed_lateness_ms=0).layout_records()


CHANGES: dict[str, Callable[[], Catalogue]] = {
    "the order of features": swapped,
    "a name": lambda: with_feature("amount", name="order_amount"),
    "a default": lambda: with_feature("device_amount_vs_mean_7d", default=2.0),
    "an upper bound": lambda: with_feature("amount", high=5.0),
    "a lower bound": lambda: with_feature("amount", low=-5.0),
    "a prior": lambda: with_feature("user_cart_rate_1d", prior=(2.0, 40.0)),
    "a window": lambda: with_feature("user_carts_1d", window="7d"),
    "a base window": lambda: with_feature("user_spend_trend_1d_30d", base="7d"),
    "a measure": lambda: with_feature("user_carts_1d", measure="views"),
    "a denominator": lambda: with_feature("user_cart_rate_1d", per="clicks"),
    "an entity": lambda: with_feature("user_carts_1d", entity="device"),
    "an aggregation": lambda: with_feature("user_order_max_30d", aggregation="min"),
    "a sketch's size": lambda: with_feature("ip_distinct_users_1d", words=2),
    "a half-life": lambda: with_feature("user_activity_decayed_1d", half_life_ms=1),
    "how many cells are the top": lambda: with_feature("user_taste_top3_share", top=4),
    "a tile": lambda: with_window(tile_ms=20_000),
    "spare tiles": lambda: with_window(spare_tiles=5),
    "a session's gap": lambda: with_kind("user", session_gap_ms=60_000),
    "a feature less": lambda: replace(CATALOGUE, features=CATALOGUE.features[:-1]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_hash_changes_with(what: str) -> None:
    assert hash_of(CHANGES[what]()) != hash_of(CATALOGUE)


def test_the_hash_does_not_change_with_prose_units_and_expiry() -> None:
    prose = with_feature("amount", meaning="another sentence", reason="another", unit="EUR")
    kinds = tuple(replace(kind, meaning="x", ttl_ms=2 * kind.ttl_ms) for kind in CATALOGUE.kinds)
    assert hash_of(prose) == hash_of(replace(CATALOGUE, kinds=kinds)) == hash_of(CATALOGUE)
    assert len(hash_of(CATALOGUE)) == 16


def test_the_layout_stays_when_only_features_change_and_is_another_when_tiles_are() -> None:
    layouts = layouts_of(CATALOGUE)
    for same in (swapped(), with_feature("user_cart_rate_1d", prior=(2.0, 40.0)), with_feature("amount", name="a")):
        assert layouts_of(same) == layouts
    for other in (with_window(tile_ms=20_000), with_feature("user_order_max_30d", window="7d")):
        assert layouts_of(other) != layouts


WRONG: dict[str, tuple[Callable[[], Catalogue], str]] = {
    "a name twice": (lambda: with_feature("amount", name="price"), "'price' is declared 2 times"),
    "an unknown window": (lambda: with_feature("user_carts_1d", window="2d"), "unknown window '2d'"),
    "a window too few": (lambda: with_feature("user_carts_1d", window=""), "unknown window ''"),
    "a window too many": (lambda: with_feature("user_age_seconds", window="1d"), "takes no window, but has '1d'"),
    "an unknown base window": (lambda: with_feature("user_spend_trend_1d_30d", base="2d"), "unknown base window '2d'"),
    "an unknown measure": (lambda: with_feature("user_carts_1d", measure="x"), "unknown measure 'x'"),
    "a measure too many": (lambda: with_feature("user_age_seconds", measure="views"), "takes no measure, but has 'views'"),
    "no denominator": (lambda: with_feature("user_cart_rate_1d", per=""), "unknown denominator ''"),
    "an unknown entity": (lambda: with_feature("user_carts_1d", entity="shop"), "unknown entity 'shop'"),
    "an unknown aggregation": (lambda: with_feature("user_carts_1d", aggregation="median"), "unknown aggregation 'median'"),
    "an own value of an entity": (lambda: with_feature("amount", entity="user"), "unknown entity 'user'"),
    "a default out of range": (lambda: with_feature("amount", default=-1.0), "default -1.0 is outside"),
    "a rate whose default is not its prior": (
        lambda: with_feature("user_cart_rate_1d", default=0.5),
        "must give the default 0.5",
    ),
    "a prior over nothing": (lambda: with_feature("user_hour_share", prior=(1.0, 0.0)), "must have a denominator above 0"),
    "a distinct count without words": (lambda: with_feature("user_distinct_queries_1h", words=0), "words must be 1 to 16, not 0"),
    "words where nothing is distinct": (lambda: with_feature("user_carts_1d", words=2), "words must be 0, not 2"),
    "a histogram of too many cells": (lambda: with_feature("user_scene_share", cells=65), "cells must be 1 to 64, not 65"),
    "more at the top than cells": (lambda: with_feature("user_taste_top3_share", top=65), "top must be 1 to"),
    "histograms of two sizes": (lambda: with_feature("user_taste_share", cells=16), "differ in size: [16, 32]"),
    "sets of two sizes": (
        lambda: replace(
            CATALOGUE,
            features=(
                *CATALOGUE.features,
                replace(next(f for f in CATALOGUE.features if f.name == "ip_distinct_users_1d"), name="again", words=9),
            ),
        ),
        "differ in size: [4, 9]",
    ),
    "a sum of hashes": (lambda: with_feature("user_carts_1d", measure="device"), "adds up measure 'device'"),
    "a deviation over what is no count": (lambda: with_feature("user_order_std_30d", per="spend"), "needs a count of events"),
    "gaps of what is no count": (lambda: with_feature("user_gap_mean_1h", measure="spend"), "needs a count of events"),
    "a half-life of a plain sum": (lambda: with_feature("user_carts_1d", half_life_ms=5), "half_life_ms is for decayed sums"),
    "no half-life": (lambda: with_feature("user_activity_decayed_1d", half_life_ms=0), "half_life_ms is for decayed sums"),
    "sessions of what has none": (lambda: with_kind("user", session_gap_ms=0), "is of sessions, but user has no session_gap_ms"),
    "sessions of what is shared": (lambda: with_kind("device", session_gap_ms=5), "is shared and has sessions"),
    "a sequence of another kind": (lambda: with_kind("device", sequence=True), "has a sequence; only the first one can"),
    "gaps without a sequence": (lambda: with_kind("user", sequence=False), "reads the last interactions, but user keeps none"),
    "a user's own that is shared": (lambda: with_kind("session", shared=True), "belongs to one user; it cannot be shared"),
    "a kind that events do not have": (lambda: with_kind("query", name="shop"), "'shop' is none of user, session"),
    "a tile that does not divide": (lambda: with_window(tile_ms=7_000), "no multiple of its tile"),
    "too many tiles": (lambda: with_window(tile_ms=500), "at most 64 are kept"),
    "state that expires before its window has passed": (
        lambda: with_kind("device", ttl_ms=30 * 86_400_000),
        "'device' expires after 2592000000 ms, but its window '30d' (and two tiles) reaches back 2937600000 ms; raise its "
        "ttl_ms to at least 2937600000",
    ),
    "state that expires before its base window has passed": (
        lambda: replace(
            with_kind("network", ttl_ms=3 * 86_400_000),
            features=tuple(
                replace(f, entity="network") if f.name == "user_spend_trend_1d_30d" else f for f in CATALOGUE.features
            ),
        ),
        "'network' expires after 259200000 ms, but its window '30d' (and two tiles) reaches back",
    ),
    "state that expires within a session": (
        lambda: with_kind("session", session_gap_ms=2 * 86_400_000),
        "'session' expires after 86400000 ms, but its session gap reaches back 172800000 ms",
    ),
    "lateness by a shared kind": (lambda: with_kind("user", shared=True), "must exist and not be shared"),
    "no kind": (lambda: replace(CATALOGUE, kinds=()), "must exist and not be shared"),
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


def test_a_catalogue_of_one_feature_or_of_none_works() -> None:
    age = Feature(name="age", meaning="m", reason="r", entity="user", aggregation="age", unit="seconds", high=1e9)
    for features in ((age,), ()):
        small = replace(CATALOGUE, kinds=CATALOGUE.kinds[:1], features=features, measures=(), windows=())
        FeatureEngine(small, allowed_lateness_ms=0).warm()
        run = new_run(catalogue=small)
        log = [Click(event_id=f"e{n}", user="u", event_time_ms=NOON + 1_000 * n, action="view", item="i") for n in range(3)]
        assert run.batch(log).dense.tolist() == [[float(n)] * len(features) for n in range(3)]


def test_an_engine_refuses_a_negative_lateness() -> None:
    with pytest.raises(ContractError, match="cannot be negative"):
        FeatureEngine(CATALOGUE, allowed_lateness_ms=-1)


# --- the shipped catalogue ----------------------------------------------------------------------------------------------------


def test_the_shipped_catalogue_has_at_least_120_features_of_every_entity_and_aggregation() -> None:
    assert len(CATALOGUE.features) >= 120
    assert {f.entity for f in CATALOGUE.features} == {*ENTITIES, EVENT}
    assert {f.aggregation for f in CATALOGUE.features} == set(get_args(Aggregation))
    assert {f.window for f in CATALOGUE.features} >= {"1m", "30d"}


def test_everything_declared_is_used() -> None:
    assert {w for f in CATALOGUE.features for w in (f.window, f.base)} - {""} == {w.name for w in CATALOGUE.windows}
    assert {m for f in CATALOGUE.features for m in (f.measure, f.per)} - {""} == {m.name for m in CATALOGUE.measures}


def test_the_prose_of_the_shipped_catalogue_is_ascii_and_complete() -> None:
    for feature in CATALOGUE.features:
        for text in (feature.name, feature.meaning, feature.reason, feature.unit):
            assert text
            assert text.isascii()
            assert "|" not in text  # it would break the table


def test_the_page_is_generated_from_the_catalogue() -> None:
    assert PAGE.read_text(encoding="utf-8") == features_markdown(CATALOGUE)


def test_expiry_outlives_the_longest_window_of_its_entity() -> None:
    for kind in CATALOGUE.kinds:
        used = {w for f in CATALOGUE.features if f.entity == kind.name for w in (f.window, f.base) if w}
        assert all(kind.ttl_ms >= w.length_ms + w.tile_ms for w in map(CATALOGUE.window, used)), kind.name
