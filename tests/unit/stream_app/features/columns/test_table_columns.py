"""Columns of an event table against those of the decoded events."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns.event_columns import ColumnReader, EventColumns
from stream_app.features.columns.table_columns import TableReader
from stream_app.logs.event_table import EventTable
from stream_app.logs.event_table_writer import EventTableWriter
from stream_app.logs.log_records import LogRecord
from stream_app.logs.table_events import COLUMNS, DICTIONARIES, events_of
from stream_app.privacy import Pseudonymizer
from tests.unit.stream_app.features.cases import logs
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING

IDENTITY = Pseudonymizer(b"a key of the tests")
TOPICS = {Search: "searches", Click: "clicks", Order: "orders"}
CATALOGUES = {"everything": EVERYTHING, "shipped": CATALOGUE}

AWKWARD: list[Event] = [
    Search(event_id="1", user="u", event_time_ms=0, query="  Röd  SKOR 42 ", items_shown=["a", "b"], ip="::ffff:10.0.0.1"),
    Search(event_id="2", user="u", event_time_ms=5, query="", ip="999.1.1.1", scene="search", platform="ios"),
    Search(event_id="3", user="v", event_time_ms=5, query="鞋" * 512, device="d" * 128, session="s"),
    Click(event_id="4", user="v", event_time_ms=6, action="favourite", item="i", price=0.125, position=3, dwell_ms=86_400_000),
    Click(event_id="5", user="v", event_time_ms=7, action="cart", item="j", category="c", price=1e9, ip="2001:db8::1"),
    Order(
        event_id="6", user="w", event_time_ms=8, amount=0.005, currency="EUR", billing_country="SE", ip_country="DE",
        lines=[OrderLine(item="i", category="c", quantity=3, unit_price=0.015), OrderLine(item="k", quantity=100_000)],
        payment_instrument="p", shipping_address="a",
    ),
    Order(event_id="7", user="w", event_time_ms=9, amount=1e9, currency="USD", lines=[OrderLine(item="j")], ip_country="SE"),
]  # fmt: skip


def through_a_table(
    reader: ColumnReader, log: list[Event], folder: Path, first: int = 0, last: int | None = None
) -> EventColumns:
    """Write a log as a table, and read the columns of its events [first, last)."""
    records = []
    for row, event in enumerate(log):
        time_ms, key, value = event.event_time_ms, event.user.encode(), msgspec.json.encode(event)
        records.append(LogRecord(time_ms, (0, row, 0), TOPICS[type(event)], 0, row, time_ms, key, value))
    with EventTableWriter(folder / "log.parquet", []) as writer:
        writer.write(iter(records))
        assert writer.counts.events == len(log)
    with EventTable(folder / "log.parquet") as table:
        batch = table.batch(0, COLUMNS, DICTIONARIES)
        return TableReader(reader, events_of(batch), IDENTITY).read(first, len(log) if last is None else last)


def assert_same(actual: EventColumns, expected: EventColumns) -> None:
    for name in ("time_ms", "kind", "group", "values", "context", "ids", "query", "event"):
        one, other = getattr(actual, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, name)
    assert {kind: list(keys) for kind, keys in actual.keys.items()} == {kind: list(keys) for kind, keys in expected.keys.items()}


@pytest.mark.parametrize("which", CATALOGUES)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs(max_size=60))
def test_a_table_of_any_log_is_read_as_its_events_are(which: str, log: list[Event], tmp_path: Path) -> None:
    reader = ColumnReader(CATALOGUES[which])
    log = [*log, *AWKWARD]
    assert_same(through_a_table(reader, log, tmp_path), reader.read(log, [0] * len(log), IDENTITY))


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 3), (2, 5), (6, 7)])
def test_a_part_of_a_table_is_read_as_these_events_are(first: int, last: int, tmp_path: Path) -> None:
    reader = ColumnReader(EVERYTHING)
    actual = through_a_table(reader, AWKWARD, tmp_path, first, last)
    assert_same(actual, reader.read(AWKWARD[first:last], [0] * (last - first), IDENTITY))


@pytest.mark.parametrize("kind", [Search, Click, Order])
def test_a_table_of_one_type_of_events_is_read_as_its_events_are(kind: type[Event], tmp_path: Path) -> None:
    reader = ColumnReader(EVERYTHING)
    log = [event for event in AWKWARD if isinstance(event, kind)]
    assert_same(through_a_table(reader, log, tmp_path), reader.read(log, [0] * len(log), IDENTITY))


@settings(deadline=None)
@given(
    key=st.binary(min_size=1, max_size=100),
    domain=st.sampled_from(["user", "user_category", "network"]),
    texts=st.lists(st.one_of(st.text(max_size=40), st.integers(0, 520).map("x".__mul__)), max_size=12),
)
def test_many_digests_at_once_are_those_of_one_at_a_time(key: bytes, domain: str, texts: list[str]) -> None:
    identity = Pseudonymizer(key)
    digests = identity.digests(domain, [text.encode() for text in texts])
    assert digests == [identity.digest(domain, text) or bytes(16) for text in texts]
