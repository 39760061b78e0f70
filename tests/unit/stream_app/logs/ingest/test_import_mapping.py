from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from stream_app.logs.ingest.mapping import load_mapping, packaged_mappings
from tests.unit.stream_app.logs.ingest.mappings_for_tests import VISITS, mapping_from


@pytest.mark.parametrize("name", packaged_mappings())
def test_each_packaged_mapping_is_right(name: str) -> None:
    assert load_mapping(name).name == name


def test_the_real_data_sets_have_mappings() -> None:
    assert {"taobao", "cards"} <= set(packaged_mappings())


def test_users_of_the_packaged_mappings_can_not_be_taken_for_each_other() -> None:
    prefixes = [load_mapping(name).records[0].fields["user"].split("{")[0] for name in packaged_mappings()]
    assert len(set(prefixes)) == len(prefixes)
    assert all(prefixes)


def test_the_columns_of_a_mapping_are_those_of_filters_templates_tables_and_lines(tmp_path: Path) -> None:
    assert set(mapping_from(tmp_path).columns()) == {"who", "when", "what", "thing", "price"}


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = """
unmatched = "maybe"
colour = "red"
[source]
format = "xls"
delimiter = "::"
header = false
encoding = "klingon"
[[record]]
topic = "clicks"
[record.fields]
event_id = "v-{row}"
user = "v{who}"
event_time_ms = { column = "when", unit = "fortnights", time_zone = "Mars/Base" }
action = { column = "what", map = { look = "stare" } }
itme = "i{thing}"
scene = "moon"
[[record]]
topic = "refunds"
[record.fields]
[[record]]
topic = "orders"
[record.fields]
lines = [{ item = "i{thing}", count = 1 }]
"""
    with pytest.raises(ConfigError) as caught:
        mapping_from(tmp_path, text)
    said = str(caught.value)
    for part in (
        "`name` is missing",
        "'maybe'",
        "`colour`",
        "'xls'",
        "'::'",
        "columns = [...]",
        "'klingon'",
        "'fortnights'",
        "'Mars/Base'",
        "'stare'",
        "`itme`",
        "needs a rule for `item`",
        "'moon'",
        "'refunds'",
        "orders.lines has no field `count`",
        "needs a rule for `amount`",
    ):
        assert part in said


def test_a_mapping_that_is_neither_packaged_nor_a_file_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="cards, ecommerce, taobao, terminals"):
        load_mapping("taobo")


def test_a_mapping_that_is_no_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        mapping_from(tmp_path, 'name = "x"\n[[record]\n')


def test_a_mapping_without_records_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \[\[record\]\]"):
        mapping_from(tmp_path, VISITS.split("[[record]]")[0])
