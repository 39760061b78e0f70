from __future__ import annotations

import pytest

from stream_app.errors import InvalidEventError
from stream_app.logs.ingest.rules import rule_from_spec

INDEX = {"a": 0, "b": 1}


def value(spec: object, *cells: object, row: int = 7) -> object:
    return rule_from_spec(spec, INDEX, "part-1")(cells, row)


def test_a_template_takes_columns_the_row_and_the_file() -> None:
    assert value("x{a}", "1") == "x1"
    assert value("{b}", "1", "2") == "2"
    assert value("{file}-{row}") == "part-1-7"
    assert value("{a}/{b}/{row}", "1", "2") == "1/2/7"
    assert value("plain") == "plain"


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_cell_refuses_the_row_unless_there_is_a_default(empty: object) -> None:
    for spec in ("x{a}", {"column": "a"}, "{a}{b}"):
        with pytest.raises(InvalidEventError, match="column a is empty"):
            value(spec, empty, "2")
    assert value({"column": "a", "default": 3}, empty) == 3


def test_a_map_translates_and_refuses_what_it_does_not_know() -> None:
    spec = {"column": "a", "map": {"pv": "view", "1": "one"}}
    assert value(spec, "pv") == "view"
    assert value(spec, 1) == "one"
    with pytest.raises(InvalidEventError, match="'xx' is not in its map"):
        value(spec, "xx")


@pytest.mark.parametrize(
    ("unit", "cell", "wanted"),
    [
        ("s", "1511658000", 1_511_658_000_000),
        ("s", "1511658000.25", 1_511_658_000_250),
        ("s", 1511658000.25, 1_511_658_000_250),
        ("ms", 1_511_658_000_123, 1_511_658_000_123),
        ("us", "1511658000123456", 1_511_658_000_123),
        ("iso", "2017-11-26T01:00:00Z", 1_511_658_000_000),
        ("iso", "2017-11-26 09:00:00+08:00", 1_511_658_000_000),
    ],
)
def test_times_become_epoch_milliseconds(unit: str, cell: object, wanted: int) -> None:
    assert value({"column": "a", "unit": unit}, cell) == wanted


def test_a_wall_clock_needs_its_zone() -> None:
    shanghai = {"column": "a", "unit": "iso", "time_zone": "Asia/Shanghai"}
    assert value(shanghai, "2017-11-26 09:00:00") == 1_511_658_000_000
    with pytest.raises(InvalidEventError, match="time_zone"):
        value({"column": "a", "unit": "iso"}, "2017-11-26 09:00:00")


def test_a_wall_clock_in_milliseconds_can_have_a_zone_too() -> None:
    # What a Parquet timestamp without a zone holds: 09:00 in Shanghai written as if it were UTC.
    spec = {"column": "a", "unit": "ms", "time_zone": "Asia/Shanghai"}
    assert value(spec, 1_511_658_000_000 + 8 * 3_600_000) == 1_511_658_000_000


def test_a_time_can_be_written_in_a_format_of_its_own() -> None:
    american = {"column": "a", "unit": "text", "format": "%m/%d/%Y %H:%M", "time_zone": "UTC"}
    assert value(american, "11/26/2017 1:00") == value(american, "11/26/2017 01:00") == 1_511_658_000_000
    zoned = {"column": "a", "unit": "text", "format": "%d.%m.%Y %H:%M %z"}
    assert value(zoned, "26.11.2017 09:00 +0800") == 1_511_658_000_000
    with pytest.raises(InvalidEventError, match="'2017-11-26' is no time of the format %m/%d/%Y %H:%M"):
        value(american, "2017-11-26")
    with pytest.raises(InvalidEventError, match="give the rule a time_zone"):
        value({"column": "a", "unit": "text", "format": "%Y"}, "2017")


def test_a_delay_is_added() -> None:
    assert value({"column": "a", "unit": "s", "plus_ms": 500}, "1") == 1_500


@pytest.mark.parametrize("cell", ["soon", "nan", "inf", "1e999", float("nan"), float("inf")])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "iso"])
def test_what_is_no_time_refuses_the_row(cell: object, unit: str) -> None:
    with pytest.raises(InvalidEventError):
        value({"column": "a", "unit": unit}, cell)


def test_tables_and_lists_nest() -> None:
    spec = [{"item": "i{a}", "unit_price": {"column": "b"}, "quantity": 2}]
    assert value(spec, "1", "9.5") == [{"item": "i1", "unit_price": "9.5", "quantity": 2}]


@pytest.mark.parametrize("cell", [99_999_999_999_999_999, True, "1.5e400", float("nan")])
def test_a_number_that_is_no_time_of_a_wall_clock_is_refused(cell: object) -> None:
    with pytest.raises(InvalidEventError, match="is no time in ms"):
        value({"column": "a", "unit": "ms", "time_zone": "Asia/Shanghai"}, cell)
