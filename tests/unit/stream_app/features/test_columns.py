"""Columns: codes, buckets, cents and keys of events, and which state a batch needs."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from stream_app.codec.identity import Identity
from stream_app.events import KINDS, PLATFORMS, SCENES, Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns import ColumnReader, category_bucket, entity_rows, item_bucket
from tests.unit.stream_app.features.cases import KEY, NOON

HOUR_MS = 3_600_000
IDENTITY = Identity(KEY)
MEASURES = [m.name for m in CATALOGUE.measures]

SEARCH = Search(event_id="s", user="u", event_time_ms=NOON + 5 * HOUR_MS, query="q", scene="search", platform="ios")
CART = Click(event_id="c", user="u", event_time_ms=NOON, action="cart", item="shoe", category="shoes", price=0.285, device="d")
ORDER = Order(
    event_id="o",
    user="v",
    event_time_ms=NOON - 1,
    lines=[OrderLine(item="shoe", category="shoes", unit_price=3.5), OrderLine(item="hat")],
    amount=1e9,
    currency="EUR",
    payment_instrument="p",
    ip="10.0.0.1",
)
EVENTS: list[Event] = [SEARCH, CART, ORDER]
COLUMNS = ColumnReader(CATALOGUE).read(EVENTS, [3, 3, 5], IDENTITY)


def values_of(measure: str) -> list[int]:
    return [int(v) for v in COLUMNS.values[:, MEASURES.index(measure)]]


def test_context_has_the_codes_of_kind_scene_platform_and_the_utc_hour() -> None:
    assert COLUMNS.context.dtype == np.int32
    assert COLUMNS.context.tolist() == [
        [KINDS.index("search"), SCENES.index("search"), PLATFORMS.index("ios"), 5],
        [KINDS.index("cart"), 0, 0, 0],
        [KINDS.index("order"), 0, 0, 23],
    ]


def test_ids_are_buckets_of_the_item_and_category_or_zero_and_the_kind() -> None:
    shoe = [1 + crc32(b"shoe") % 16_383, 1 + crc32(b"shoes") % 2_047]
    assert COLUMNS.ids.tolist() == [[0, 0, 1], [*shoe, KINDS.index("cart") + 1], [*shoe, KINDS.index("order") + 1]]
    assert [item_bucket("shoe"), category_bucket("shoes")] == shoe
    assert item_bucket("") == category_bucket("") == 0


def test_counts_are_one_for_events_of_their_kinds() -> None:
    assert values_of("events") == [1, 1, 1]
    assert values_of("searches") == [1, 0, 0]
    assert values_of("carts") == [0, 1, 0]
    assert values_of("browses") == [0, 0, 0]
    assert values_of("orders") == [0, 0, 1]


def test_money_is_in_cents() -> None:
    assert values_of("spend") == [0, 0, 100_000_000_000]
    assert values_of("price") == [0, 28, 350]  # 0.285 is 0.28499999999999998 as a float


def test_keys_are_digests_and_empty_where_the_event_has_no_such_entity() -> None:
    assert COLUMNS.keys["user"] == [IDENTITY.digest("user", u) for u in ("u", "u", "v")]
    assert COLUMNS.keys["device"] == [b"", IDENTITY.digest("device", "d"), b""]
    assert COLUMNS.keys["ip"] == [b"", b"", IDENTITY.digest("ip", "10.0.0.1")]


def test_what_is_counted_distinctly_is_a_positive_hash_or_zero() -> None:
    assert values_of("instrument")[:2] == [0, 0]
    assert values_of("instrument")[2] == int.from_bytes(IDENTITY.digest("instrument", "p")[:8], "big") >> 1
    assert values_of("category") == [0, 1 + crc32(b"shoes"), 1 + crc32(b"shoes")]


def test_rows_number_the_pairs_of_group_and_key_in_order_of_appearance() -> None:
    rows = entity_rows(np.array([1, 1, 2, 1, 2], np.int32), [b"a", b"", b"a", b"a", b"b"])
    assert rows.groups.tolist() == [1, 2, 2]
    assert rows.keys == [b"a", b"a", b"b"]
    assert rows.row.tolist() == [0, -1, 1, 0, 2]


def test_no_events_give_empty_columns() -> None:
    empty = ColumnReader(CATALOGUE).read([], [], IDENTITY)
    assert len(empty) == 0
    assert empty.values.shape == (0, len(MEASURES))
    assert len(entity_rows(empty.group, empty.keys["user"])) == 0
