from __future__ import annotations

import pytest

from stream_app.docgen.feature_list import feature_named, feature_page, feature_record, selected
from stream_app.docgen.features_page import features_markdown, most_bytes, spell_ms
from stream_app.errors import ConfigError
from stream_app.features.catalog import CATALOGUE, SOURCES
from stream_app.features.state.layout import kind_layout


@pytest.mark.parametrize("name", [f.name for f in CATALOGUE.features])
def test_every_feature_has_a_page_and_a_record(name: str) -> None:
    column, feature = feature_named(CATALOGUE, name)
    page, record = feature_page(CATALOGUE, column, feature), feature_record(CATALOGUE, column, feature)
    for part in (feature.meaning, feature.reason, str(record["computed"])):
        assert part in page
    assert CATALOGUE.features[column] is feature
    assert bool(record["window_ms"]) == bool(feature.window)


def test_features_are_selected_by_entity_and_aggregation_in_the_tensors_order() -> None:
    both = selected(CATALOGUE, ["device", "user"], ["distinct"])
    assert [column for column, _ in both] == sorted(column for column, _ in both)
    assert {f.entity for _, f in both} == {"device", "user"}
    assert {f.aggregation for _, f in both} == {"distinct"}
    assert len(selected(CATALOGUE)) == len(CATALOGUE.features)


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    with pytest.raises(ConfigError, match="no feature has the entity 'shop'; there are user, session, device"):
        selected(CATALOGUE, ["shop"])
    with pytest.raises(ConfigError, match="no feature has the aggregation 'median'; there are count"):
        selected(CATALOGUE, (), ["median"])
    with pytest.raises(ConfigError, match="did you mean user_orders_1h"):
        feature_named(CATALOGUE, "user_order_1h")


def test_every_reason_cites_a_source_that_is_described() -> None:
    for feature in CATALOGUE.features:
        assert feature.reason.split(":")[0] in SOURCES, feature.name
    cited = " ".join(feature.reason for feature in CATALOGUE.features)
    assert [name for name in SOURCES if f"{name}:" not in cited] == []


def test_the_catalogue_is_as_large_as_promised_and_uses_every_entity_and_aggregation() -> None:
    assert 125 <= len(CATALOGUE.features) <= 140
    for kind in CATALOGUE.kinds:
        assert selected(CATALOGUE, [kind.name]), kind.name
    assert len({f.aggregation for f in CATALOGUE.features}) == 26


def test_the_page_has_every_feature_its_window_and_the_bytes_of_each_entity() -> None:
    page = features_markdown(CATALOGUE)
    for column, f in enumerate(CATALOGUE.features):
        assert f"| {column} | `{f.name}` | {f.meaning} | " in page
    for kind in CATALOGUE.kinds:
        assert f"{most_bytes(kind_layout(CATALOGUE, kind)):,} bytes |" in page
    for window in CATALOGUE.windows:
        assert f"| {window.name} | {spell_ms(window.length_ms)} | {spell_ms(window.tile_ms)} | {window.slots} |" in page
    for part in ("relative standard error", "## Adding, changing and removing a feature", "reads as empty", "## Sources"):
        assert part in page


@pytest.mark.parametrize(("ms", "said"), [(86_400_000, "1 d"), (5_400_000, "90 min"), (10_000, "10 s"), (1_500, "1500 ms")])
def test_durations_are_said_in_whole_units(ms: int, said: str) -> None:
    assert spell_ms(ms) == said
