"""The oracle's own arithmetic by hand, and its agreement with the engine on made-up events of every kind."""

from __future__ import annotations

import random

from benchmarks.compare import compare_states
from benchmarks.oracle import (
    KEPT,
    RawEvent,
    State,
    cents,
    entity_key,
    expected_states,
    identifier_hash,
    sequence_fault,
)
from benchmarks.stored import state_from_description
from stream_app.codec.identity import Identity
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from tests.unit.benchmarks.typed_events import typed

KEY = "a key for tests only"
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def only(events: list[RawEvent], kind: str = "user") -> State:
    states = expected_states(events, {event.user: 0 for event in events}, KEY)
    (state,) = [state for (_, name, _), state in states.items() if name == kind]
    return state


def order(time_ms: int, amount: float = 1.0, user: str = "u", device: str = "") -> RawEvent:
    return RawEvent("orders", user, "order", time_ms, device=device, amount=amount)


def test_an_event_counts_in_the_tile_that_its_time_falls_in_and_no_other() -> None:
    state = only([order(59_999), order(60_000), order(60_001)])
    assert state.rings["events/10m"] == {0: 1, 60_000: 2}
    assert (state.first_ms, state.newest_ms) == (59_999, 60_001)


def test_a_tile_is_kept_until_the_window_and_two_tiles_have_passed() -> None:
    newest = 100 * HOUR_MS
    # The ring of a day keeps 26 hourly tiles: those of hours 75 to 100.
    state = only([order(75 * HOUR_MS - 1), order(75 * HOUR_MS), order(newest)])
    assert state.rings["orders/1d"] == {75 * HOUR_MS: 1, newest: 1}
    assert state.first_ms == 75 * HOUR_MS - 1  # the first event is remembered although its tile is gone


def test_the_state_does_not_depend_on_the_order_of_events() -> None:
    events = [order(hour * HOUR_MS, amount=hour) for hour in (3, 90, 1, 40)]
    backwards = only(events[::-1])
    backwards.arrivals = only(events).arrivals
    assert backwards == only(events)


def test_money_is_summed_in_whole_cents() -> None:
    assert cents(57.16) == 5716
    assert cents(0.125) == 12  # exactly between two: to the even one
    assert cents(0.375) == 38
    assert only([order(5, 0.1), order(6, 0.2)]).rings["spend/1h"] == {0: 30}


def test_a_bitmap_has_one_bit_for_each_different_value() -> None:
    events = [RawEvent("clicks", "u", "view", 5, category=name) for name in ("a", "b", "a")]
    ring = only(events).rings["category/1d"]
    assert list(ring) == [0]
    assert ring[0].bit_count() == 2
    assert ring[0] < 1 << 128


def test_a_bit_is_the_hash_modulo_the_size_of_the_bitmap() -> None:
    ring = only([order(5, user="someone", device="d")], kind="device").rings["user/1d"]
    value = int.from_bytes(identifier_hash("user", "someone", KEY)[:8], "big") >> 1
    assert ring == {0: 1 << value % 256}


def test_an_identifier_is_hashed_by_what_it_names_and_under_the_key() -> None:
    assert entity_key("user", "7", KEY) != entity_key("device", "7", KEY)
    assert entity_key("user", "7", KEY) != entity_key("user", "7", KEY + "!")
    assert identifier_hash("user", "7", KEY) == Identity(KEY.encode()).digest("user", "7")


def test_a_device_has_one_replica_in_each_group_that_saw_it() -> None:
    events = [order(1, user="a", device="d"), order(2, user="b", device="d"), order(3, user="a", device="d")]
    states = expected_states(events, {"a": 0, "b": 5}, KEY)
    device = entity_key("device", "d", KEY)
    assert states[0, "device", device].rings["events/10m"] == {0: 2}
    assert states[5, "device", device].newest_ms == 2
    assert {kind for _, kind, _ in states} == {"user", "device"}  # no address, no key for one


def test_any_interleaving_of_two_topics_is_a_right_sequence() -> None:
    clicks, orders = [(1, 1, 1, 2), (3, 1, 1, 2)], [(2, 1, 1, 6)]
    arrivals = {"clicks": clicks, "orders": orders}
    assert not sequence_fault(arrivals, [*orders, *clicks])
    assert not sequence_fault(arrivals, [clicks[0], *orders, clicks[1]])


def test_a_sequence_with_one_topic_out_of_order_is_wrong() -> None:
    clicks = [(1, 1, 1, 2), (3, 1, 1, 2)]
    assert "not" in sequence_fault({"clicks": clicks}, clicks[::-1])


def test_a_sequence_holds_the_last_32_and_all_if_there_are_fewer() -> None:
    entries = [(t, 1, 1, 2) for t in range(40)]
    assert not sequence_fault({"clicks": entries}, entries[8:])
    assert sequence_fault({"clicks": entries}, entries[7:39])
    assert sequence_fault({"clicks": entries}, entries[9:])
    assert sequence_fault({"clicks": entries[:3]}, entries[1:3])


def test_the_table_of_what_is_kept_is_the_catalogues() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    for kind in engine.kinds:
        described = engine.describe(kind.name, None)
        tiles, distinct = described["tiles"], described["distinct"]
        assert isinstance(tiles, dict)
        assert isinstance(distinct, dict)
        kept = KEPT[kind.name]
        assert {f"{name}/{k.window.name}" for k in kept for name in k.sums} == set(tiles)
        assert {f"{name}/{k.window.name}" for k in kept for name in k.bitmaps} == set(distinct)
    assert set(KEPT) == {kind.name for kind in engine.kinds}


def raw_events(count: int, seed: int) -> list[RawEvent]:
    """Events of few users and devices over 40 days, out of order by up to half a day."""
    rng = random.Random(seed)
    events = []
    for i in range(count):
        kind = rng.choice(["search", "view", "click", "cart", "favourite", "order"])
        topic = {"search": "searches", "order": "orders"}.get(kind, "clicks")
        time_ms = 20_000 * DAY_MS + i * 40 * DAY_MS // count + rng.randrange(DAY_MS // 2)
        places = {"device": rng.choice(["", "d1", "d2"]), "ip": rng.choice(["", "10.0.0.1", "10.0.0.2"])}
        item = {} if kind == "search" else {"item": f"i{rng.randrange(9)}", "category": rng.choice(["", "c1", "c2", "c3"])}
        money = {"amount": rng.randrange(9_999) / 100, "instrument": rng.choice(["", "p1", "p2"])}
        extra = money if kind == "order" else {}
        events.append(RawEvent(topic, f"u{rng.randrange(6)}", kind, time_ms, **places, **item, **extra))  # type: ignore[arg-type]
    return events


def test_oracle_and_engine_agree_on_every_state_of_a_long_disordered_log() -> None:
    raw = raw_events(3_000, seed=11)
    group_of = {f"u{i}": i % 3 for i in range(6)}
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    columns = engine.columns([typed(e) for e in raw], [group_of[e.user] for e in raw], Identity(KEY.encode()))
    rows = engine.rows(columns)
    own = {kind: engine.unpack(kind, [None] * len(rows[kind])) for kind in rows}
    assert not engine.fold(columns, rows, own, {}).late.any()
    found = {
        (group, kind, key.hex()): state_from_description(engine.describe(kind, blob))
        for kind in rows
        for group, key, blob in zip(rows[kind].groups.tolist(), rows[kind].keys, engine.pack(kind, own[kind]), strict=True)
    }
    comparison = compare_states(expected_states(raw, group_of, KEY), found)
    assert comparison.examples == []
    assert comparison.keys == len(found) == 6 + 2 * 3 + 2 * 3
    assert comparison.sequences == 6
