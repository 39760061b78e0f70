"""Columns: codes, buckets, cents and keys of events, and the entities of a batch."""

from __future__ import annotations

from typing import Any, get_args
from zlib import crc32

import msgspec
import numpy as np
import pytest

from model.contract import PRICE_BUCKETS
from stream_app.events import KINDS, PLATFORMS, SCENES, Click, Event, Order, OrderLine, Search
from stream_app.features.columns.event_columns import ColumnReader, category_bucket, item_bucket, rows_of_kinds
from stream_app.features.columns.text import event_hashes, query_of
from stream_app.features.declarations import ENTITIES, Catalogue, EntityKind, Field, Measure
from stream_app.privacy import Pseudonymizer

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIDNIGHT = 19_676 * DAY_MS  # Wednesday, 15 November 2023
IDENTITY = Pseudonymizer(b"a key of the tests")

# Every kind of entity and every field.
CATALOGUE = Catalogue(
    kinds=tuple(EntityKind(name, "", shared=name not in ("user", "session", "user_category"), ttl_ms=1) for name in ENTITIES),
    windows=(),
    measures=(
        *(Measure(name, name) for name in get_args(Field)),
        Measure("carts", "one", ("cart",)),
        Measure("ordered", "price", ("order",)),
    ),
    features=(),
)
READER = ColumnReader(CATALOGUE)
MEASURES = [m.name for m in CATALOGUE.measures]

SEARCH = Search(
    event_id="s",
    user="u",
    event_time_ms=MIDNIGHT + 5 * HOUR_MS,
    query=" Red  SHOES size 42",
    items_shown=["a", "b"],
    scene="search",
    platform="ios",
    session="s1",
)
CART = Click(
    event_id="c",
    user="u",
    event_time_ms=MIDNIGHT + 3 * DAY_MS + 7 * HOUR_MS,
    action="cart",
    item="shoe",
    category="shoes",
    price=0.285,
    position=3,
    dwell_ms=1_500,
    device="d",
    session="s1",
)
ORDER = Order(
    event_id="o",
    user="v",
    event_time_ms=MIDNIGHT - 1,
    lines=[OrderLine(item="shoe", category="shoes", unit_price=3.5, quantity=2), OrderLine(item="hat", quantity=5)],
    amount=1e9,
    currency="EUR",
    payment_instrument="p",
    shipping_address="a",
    ip="10.0.0.1",
    billing_country="DE",
    shipping_country="FR",
    ip_country="DE",
)
EVENTS: list[Event] = [SEARCH, CART, ORDER]
COLUMNS = READER.read(EVENTS, [3, 3, 5], IDENTITY)


def values_of(measure: str) -> list[int]:
    return [int(v) for v in COLUMNS.values[:, MEASURES.index(measure)]]


def number(domain: str, identifier: str) -> int:
    return int.from_bytes(IDENTITY.digest(domain, identifier)[:8], "big") >> 1


def price_bucket(price: float) -> int:
    click = Click(event_id="c", user="u", event_time_ms=0, action="view", item="i", price=price)
    return int(READER.read([click], [0], IDENTITY).ids[0, 3])


def test_context_has_the_codes_of_kind_scene_platform_and_the_utc_hour() -> None:
    assert COLUMNS.context.dtype == np.int32
    assert COLUMNS.context.tolist() == [
        [KINDS.index("search"), SCENES.index("search"), PLATFORMS.index("ios"), 5],
        [KINDS.index("cart"), 0, 0, 7],
        [KINDS.index("order"), 0, 0, 23],
    ]


def test_ids_are_buckets_of_the_item_and_category_or_zero_the_kind_and_the_price() -> None:
    shoe = [1 + crc32(b"shoe") % 16_383, 1 + crc32(b"shoes") % 2_047]
    assert COLUMNS.ids.dtype == np.int32
    assert COLUMNS.ids.tolist() == [[0, 0, 1, 0], [*shoe, KINDS.index("cart") + 1, 1], [*shoe, KINDS.index("order") + 1, 5]]
    assert [item_bucket("shoe"), category_bucket("shoes")] == shoe
    assert item_bucket("") == category_bucket("") == 0


@pytest.mark.parametrize(
    ("price", "bucket"),
    [(0.0, 0), (0.004, 0), (0.01, 1), (0.31, 1), (0.32, 2), (0.63, 2), (0.64, 3), (2_621.43, 14), (2_621.44, 15), (1e9, 15)],
)
def test_a_price_bucket_is_the_bits_of_the_cents_less_four(price: float, bucket: int) -> None:
    assert price_bucket(price) == bucket < PRICE_BUCKETS


def test_counts_are_one_for_events_of_their_kinds() -> None:
    assert values_of("one") == [1, 1, 1]
    assert values_of("carts") == [0, 1, 0]


def test_money_is_in_cents_rounded_half_to_even() -> None:
    assert values_of("amount") == [0, 0, 100_000_000_000]
    assert values_of("price") == [0, 28, 350]  # 0.285 is 0.28499999999999998 as a float
    assert values_of("ordered") == [0, 0, 350]
    halves = [0.125, 0.375, 2.5e-2, 1.005, 8.295, 0.5]
    clicks: list[Event] = [Click(event_id="c", user="u", event_time_ms=0, action="view", item="i", price=p) for p in halves]
    prices = READER.read(clicks, [0] * len(clicks), IDENTITY).values[:, MEASURES.index("price")]
    assert prices.tolist() == [round(p * 100) for p in halves]


def test_numbers_of_each_kind_of_event_are_zero_for_the_others() -> None:
    assert values_of("dwell") == [0, 1_500, 0]
    assert values_of("position") == [0, 3, 0]
    assert values_of("quantity") == [0, 0, 7]
    assert values_of("lines") == [0, 0, 2]
    assert values_of("shown") == [2, 0, 0]
    assert values_of("query_length") == [len("red shoes size 42"), 0, 0]


@pytest.mark.parametrize(
    ("countries", "foreign"),
    [(("", "", ""), 0), (("DE", "", ""), 0), (("DE", "DE", "DE"), 0), (("DE", "", "FR"), 1), (("DE", "IT", "FR"), 2)],
)
def test_foreign_counts_the_countries_of_an_order_beyond_the_first(countries: tuple[str, str, str], foreign: int) -> None:
    names = ("billing_country", "shipping_country", "ip_country")
    where: dict[str, Any] = dict(zip(names, countries, strict=True))
    order = Order(event_id="o", user="u", event_time_ms=0, lines=[OrderLine(item="i")], amount=1.0, currency="EUR", **where)
    assert READER.read([order], [0], IDENTITY).values[0, MEASURES.index("foreign")] == foreign


def test_the_clock_is_utc_and_weeks_start_on_monday() -> None:
    assert values_of("hour") == [6, 8, 24]
    assert values_of("weekday") == [3, 6, 2]
    assert values_of("night") == [1, 0, 0]
    assert values_of("weekend") == [0, 1, 0]


def test_scene_and_platform_are_one_more_than_their_codes() -> None:
    assert values_of("scene") == [1 + SCENES.index("search"), 1, 1]
    assert values_of("platform") == [1 + PLATFORMS.index("ios"), 1, 1]


def test_keys_are_digests_and_empty_where_the_event_has_no_such_entity() -> None:
    assert set(COLUMNS.keys) == set(ENTITIES)
    assert COLUMNS.keys["user"] == [IDENTITY.digest("user", u) for u in ("u", "u", "v")]
    assert COLUMNS.keys["device"] == [b"", IDENTITY.digest("device", "d"), b""]
    assert COLUMNS.keys["ip"] == [b"", b"", IDENTITY.digest("ip", "10.0.0.1")]
    assert COLUMNS.keys["network"] == [b"", b"", IDENTITY.digest("network", "10.0.0.0/24")]
    assert COLUMNS.keys["instrument"] == [b"", b"", IDENTITY.digest("instrument", "p")]
    assert COLUMNS.keys["address"] == [b"", b"", IDENTITY.digest("address", "a")]
    assert COLUMNS.keys["item"] == [b"", *[IDENTITY.digest("item", "shoe")] * 2]
    assert COLUMNS.keys["category"] == [b"", *[IDENTITY.digest("category", "shoes")] * 2]
    assert COLUMNS.keys["query"] == [IDENTITY.digest("query", "red shoes size 42"), b"", b""]


def test_keys_within_one_user_begin_with_the_users_digest() -> None:
    u, v = IDENTITY.digest("user", "u"), IDENTITY.digest("user", "v")
    session, shoes = IDENTITY.digest("session", "s1")[:8], IDENTITY.digest("category", "shoes")[:8]
    assert COLUMNS.keys["session"] == [u + session, u + session, b""]
    assert COLUMNS.keys["user_category"] == [b"", u + shoes, v + shoes]


def test_distinct_values_are_positive_hashes_or_zero() -> None:
    assert values_of("user") == [number("user", u) for u in ("u", "u", "v")]
    assert values_of("session") == [number("session", "s1")] * 2 + [0]
    assert values_of("device") == [0, number("device", "d"), 0]
    assert values_of("ip") == [0, 0, number("ip", "10.0.0.1")]
    assert values_of("network") == [0, 0, number("network", "10.0.0.0/24")]
    assert values_of("instrument") == [0, 0, number("instrument", "p")]
    assert values_of("address") == [0, 0, number("address", "a")]
    assert values_of("item") == [0, *[number("item", "shoe")] * 2]
    assert values_of("query") == [number("query", "red shoes size 42"), 0, 0]
    assert values_of("category") == [0, 1 + crc32(b"shoes"), 1 + crc32(b"shoes")]


def test_only_a_search_has_a_query() -> None:
    assert COLUMNS.query.dtype == np.int32
    assert COLUMNS.query.tolist() == [list(query_of(SEARCH.query).codes), [0] * 4, [0] * 4]


def test_events_are_hashed_with_their_topic() -> None:
    assert COLUMNS.event.tolist() == event_hashes(["s", "c", "o"], np.arange(3)).tolist()


def test_a_batch_reads_as_its_events_do_one_by_one() -> None:
    batch = [EVENTS[i % 3] for i in (0, 1, 1, 2, 0, 2, 1)]
    groups = [4, 1, 1, 0, 4, 0, 1]
    whole = READER.read(batch, groups, IDENTITY)
    single = [READER.read([event], [group], IDENTITY) for event, group in zip(batch, groups, strict=True)]
    for name in ("time_ms", "kind", "group", "values", "context", "ids", "query", "event"):
        column = getattr(whole, name)
        assert column.flags.c_contiguous, name
        np.testing.assert_array_equal(column, np.concatenate([getattr(one, name) for one in single]), err_msg=name)
        assert {getattr(one, name).dtype for one in single} == {column.dtype}
    for kind, keys in whole.keys.items():
        assert keys == [one.keys[kind][0] for one in single]


def test_rows_number_the_pairs_by_group_then_in_order_of_appearance() -> None:
    groups, keys = np.array([2, 2, 1, 2, 1, 2], np.int32), [b"c", b"", b"c", b"a", b"b", b"c"]
    rows = rows_of_kinds(groups, {"user": keys})["user"]
    assert rows.groups.tolist() == [1, 1, 2, 2]
    assert rows.keys == [b"c", b"b", b"c", b"a"]
    assert rows.row.tolist() == [2, -1, 0, 3, 1, 2]
    assert rows.groups.dtype == rows.row.dtype == np.int32


def test_rows_of_all_kinds_are_those_of_each() -> None:
    together = rows_of_kinds(COLUMNS.group, COLUMNS.keys)
    assert list(together) == list(COLUMNS.keys)
    for kind, keys in COLUMNS.keys.items():
        alone = rows_of_kinds(COLUMNS.group, {kind: keys})[kind]
        assert together[kind].keys == alone.keys
        assert together[kind].groups.tolist() == alone.groups.tolist()
        assert together[kind].row.tolist() == alone.row.tolist()


def test_a_kind_that_no_event_has_needs_no_rows() -> None:
    rows = rows_of_kinds(np.array([1, 2], np.int32), {"user": [b"", b""]})["user"]
    assert (len(rows), rows.row.tolist()) == (0, [-1, -1])


def test_no_events_give_empty_columns() -> None:
    empty = READER.read([], [], IDENTITY)
    assert len(empty) == 0
    assert empty.values.shape == (0, len(MEASURES))
    assert empty.query.shape == empty.ids.shape == empty.context.shape == (0, 4)
    assert all(len(rows) == 0 for rows in rows_of_kinds(empty.group, empty.keys).values())


def test_spellings_of_an_address_are_one_entity_and_other_texts_are_none() -> None:
    six_times = ("2001:db8::1", "2001:DB8:0:0::0001", "2001:0db8::1%eth0")
    four_times = ("10.0.0.1", "::ffff:10.0.0.1", "::FFFF:a00:1")
    spelled = (*six_times, *four_times, "10.0.0", "x")
    events: list[Event] = [msgspec.structs.replace(SEARCH, ip=ip) for ip in spelled]
    columns = READER.read(events, [0] * len(events), IDENTITY)
    six, four = IDENTITY.digest("ip", "2001:db8::1"), IDENTITY.digest("ip", "10.0.0.1")
    assert columns.keys["ip"] == [six] * 3 + [four] * 3 + [b""] * 2
    values = columns.values[:, MEASURES.index("ip")].tolist()
    assert values == [int.from_bytes(key[:8], "big") // 2 if key else 0 for key in columns.keys["ip"]]


def test_a_catalogue_without_measures_or_further_kinds_reads_too() -> None:
    small = Catalogue(kinds=(EntityKind("user", "", shared=False, ttl_ms=1),), windows=(), measures=(), features=())
    columns = ColumnReader(small).read(EVENTS, [0, 0, 0], IDENTITY)
    assert columns.values.shape == (3, 0)
    assert list(columns.keys) == ["user"]
