"""The oracle's own arithmetic by hand, and its agreement with the engine on made-up events of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import Catalogue, EntityKind, Feature, Measure
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from tests.unit.verification.generated_log import DAY_MS, generated_log
from verification.arrival_order import sequence_fault, session_fault
from verification.oracle.facts import NO_CODES, EventFacts, cents, digest, price_bucket, query_codes
from verification.oracle.replay import EntityLog, entity_logs
from verification.oracle.state import KindState, interaction
from verification.state_comparison import compare_states

KEY = "a key for tests only"
HOUR_MS = 3_600_000


def only(events: Sequence[Event], kind: str = "user") -> dict[str, Any]:
    logs = entity_logs(events, {event.user: 0 for event in events}, KEY)
    (log,) = [log for (_, name, _), log in logs.items() if name == kind]
    return log.kind.describe(log.events)


def order(time_ms: int, amount: float = 1.0, user: str = "u", device: str = "", event_id: str = "") -> Order:
    event_id = event_id or f"at{time_ms}"
    line = [OrderLine(item="i")]
    return Order(event_id=event_id, user=user, event_time_ms=time_ms, device=device, lines=line, amount=amount, currency="EUR")


def view(time_ms: int, category: str = "", event_id: str = "e") -> Click:
    return Click(event_id=event_id, user="u", event_time_ms=time_ms, action="view", item="i", category=category)


def test_an_event_counts_in_the_tile_that_its_time_falls_in_and_no_other() -> None:
    state = only([order(59_999), order(60_000), order(60_001)])
    assert state["tiles"]["sum events/10m"] == {0: 1, 60_000: 2}
    assert (state["first_ms"], state["newest_ms"]) == (59_999, 60_001)


def test_a_tile_is_kept_until_the_window_and_two_tiles_have_passed() -> None:
    newest = 100 * HOUR_MS
    # The ring of a day keeps 26 hourly tiles: those of hours 75 to 100.
    state = only([order(75 * HOUR_MS - 1), order(75 * HOUR_MS), order(newest)])
    assert state["tiles"]["sum orders/1d"] == {75 * HOUR_MS: 1, newest: 1}
    assert state["first_ms"] == 75 * HOUR_MS - 1  # the first event is remembered although its tile is gone


def test_the_state_does_not_depend_on_the_order_of_events() -> None:
    events = [order(hour * HOUR_MS, amount=hour) for hour in (3, 90, 1, 40)]
    forwards, backwards = only(events), only(events[::-1])
    of_order = {"session", "sequence", "queries"}
    assert {part: backwards[part] for part in backwards.keys() - of_order} == {
        part: forwards[part] for part in forwards.keys() - of_order
    }


def test_money_is_summed_in_whole_cents() -> None:
    assert cents(57.16) == 5716
    assert cents(0.125) == 12  # exactly between two: to the even one
    assert cents(0.375) == 38
    assert only([order(5, 0.1), order(6, 0.2)])["tiles"]["sum spend/1h"] == {0: 30}


def test_each_square_is_rounded_down_by_itself() -> None:
    rings = only([order(5, 1.0), order(6, 1e8)])["tiles"]
    (squares,) = [ring for name, ring in rings.items() if name.startswith("square spend/")]
    assert squares == {0: 100 * 100 // 128 + 10_000_000**2 // 128}


def test_few_different_values_are_a_list_and_many_a_sketch() -> None:
    (f,) = [f for f in CATALOGUE.features if (f.entity, f.aggregation, f.measure) == ("user", "distinct", "category")][:1]
    cell = f"{f.measure}/{f.window}"
    few = [view(5, f"c{n % f.words}", f"e{n}") for n in range(f.words + 2)]
    (values,) = only(few)["distinct"][cell].values()
    assert values.keys() == {"values"}
    assert len(values["values"]) == f.words
    many = [view(5, f"c{n}", f"e{n}") for n in range(f.words + 1)]
    (values,) = only(many)["distinct"][cell].values()
    assert values.keys() == {"registers"}
    assert len(values["registers"]) == 16 * f.words - 1
    assert 1 <= sum(rank > 0 for rank in values["registers"]) <= f.words + 1


def test_a_value_of_a_set_is_the_hash_without_its_last_bit() -> None:
    sets = only([order(5, user="someone", device="d")], kind="device")["distinct"]
    value = int.from_bytes(digest("user", "someone", KEY.encode())[:8], "big") >> 1
    assert sets["user/7d"] == {0: {"values": [value]}}


def test_an_identifier_is_hashed_by_what_it_names_and_under_the_key() -> None:
    key = KEY.encode()
    assert digest("user", "7", key) != digest("device", "7", key)
    assert digest("user", "7", key) != digest("user", "7", key + b"!")
    assert digest("user", "7", key) == Pseudonymizer(key).digest("user", "7")


def test_a_device_has_one_replica_in_each_group_that_saw_it() -> None:
    events = [order(1, user="a", device="d"), order(2, user="b", device="d"), order(3, user="a", device="d")]
    logs = entity_logs(events, {"a": 0, "b": 5}, KEY)
    device = digest("device", "d", KEY.encode()).hex()
    states = {entity: log.kind.describe(log.events) for entity, log in logs.items()}
    assert states[0, "device", device]["tiles"]["sum events/10m"] == {0: 2}
    assert states[5, "device", device]["newest_ms"] == 2
    assert {kind for _, kind, _ in states} == {"user", "device", "item"}  # no address, no key for one


def test_an_event_that_was_sent_twice_counts_once() -> None:
    assert only([order(5, event_id="a"), order(6, event_id="b"), order(5, event_id="a")])["tiles"]["sum orders/1h"] == {0: 2}
    assert only([order(n, event_id="1") for n in (5, 6, 7)])["tiles"]["sum orders/1h"] == {0: 3}  # one id for all of them
    long_ago = [order(5, event_id="a"), *(order(n, event_id=f"b{n}") for n in range(32)), order(5, event_id="a")]
    assert only(long_ago)["tiles"]["sum orders/1h"] == {0: 34}  # beyond the last 32 it is an event like any other


def test_spellings_of_one_query_have_one_code_and_words_codes_of_their_own() -> None:
    def codes(text: str) -> tuple[int, ...]:
        return query_codes(Search(event_id="e", user="u", event_time_ms=1, query=text))

    assert codes("Red  SHOES") == codes("red shoes")
    assert codes("shoes")[1] == codes("red shoes")[2] != 0
    assert codes("shoes")[2:] == (0, 0)
    assert codes("") == (0, 0, 0, 0)
    assert codes("红鞋")[1] == codes("红")[1]  # characters written without spaces are words


def test_a_price_has_a_bucket_for_each_doubling() -> None:
    prices = (0.0, 0.01, 0.31, 0.32, 0.63, 0.64, 1e9)
    assert [price_bucket(cents(price)) for price in prices] == [0, 1, 1, 2, 2, 3, 15]


def facts(time_ms: int, kind: str = "view", views: int = 1) -> EventFacts:
    topic, values = "orders" if kind == "order" else "clicks", Counter(views=views)
    return EventFacts(time_ms, kind, topic, f"e{time_ms}", time_ms + 1, values, {}, (1, 1, 1, 0), NO_CODES, NO_CODES)


def entries(*events: EventFacts) -> list[dict[str, object]]:
    return [{**interaction(event), "commit": 7} for event in events]


def test_any_interleaving_of_two_topics_is_a_right_sequence() -> None:
    clicks, orders = [facts(1), facts(3)], [facts(2, "order")]
    topics = {"clicks": clicks, "orders": orders}
    assert not sequence_fault(topics, entries(*orders, *clicks))
    assert not sequence_fault(topics, entries(clicks[0], *orders, clicks[1]))


def test_a_sequence_with_one_topic_out_of_order_is_wrong() -> None:
    clicks = [facts(1), facts(3)]
    assert "not" in sequence_fault({"clicks": clicks}, entries(*clicks[::-1]))


def test_a_sequence_holds_the_last_32_and_all_if_there_are_fewer() -> None:
    events = [facts(t) for t in range(40)]
    assert not sequence_fault({"clicks": events}, entries(*events[8:]))
    assert sequence_fault({"clicks": events}, entries(*events[7:39]))
    assert sequence_fault({"clicks": events}, entries(*events[9:]))
    assert sequence_fault({"clicks": events[:3]}, entries(*events[1:3]))


def log_of(*events: EventFacts, gap_ms: int = 10, sequence: bool = False) -> EntityLog:
    kind = EntityKind("user", "m", shared=False, ttl_ms=DAY_MS, sequence=sequence, session_gap_ms=gap_ms)
    of: dict[str, Any] = {"meaning": "m", "reason": "r", "entity": "user", "unit": "views", "high": 1e9}
    views = Feature(name="views", aggregation="session_sum", measure="views", **of)
    catalogue = Catalogue((kind,), (), (Measure("views", "one"),), (views,))
    return EntityLog(KindState(catalogue, kind), list(events), in_order=False)


def session(start_ms: int, last_ms: int, views: int) -> dict[str, object]:
    return {"start_ms": start_ms, "last_ms": last_ms, "sums": {"views": views}}


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [
        ((5,), (5, 5, 1)),
        ((5, 15, 25), (5, 25, 3)),  # silence of just the gap
        ((5, 15, 26), (26, 26, 1)),
        ((20, 10), (10, 20, 2)),  # an earlier one within reach
        ((20, 9), (20, 20, 1)),  # of a session that is closed
        ((20, 30, 25), (20, 30, 3)),
    ],
)
def test_a_session_ends_when_nothing_came_for_longer_than_the_gap(
    times_ms: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    log = log_of(*(facts(time_ms) for time_ms in times_ms))
    assert log.kind.session(log.events) == session(*expected)
    assert not session_fault(log, {"session": session(*expected)})


def test_a_session_is_compared_by_its_last_event_where_the_order_is_not_known() -> None:
    log = log_of(facts(5), facts(15), facts(10, "order", views=0))
    assert not session_fault(log, {"session": session(10, 15, 1)})
    assert session_fault(log, {"session": session(5, 10, 1)})


def test_a_session_is_compared_whole_where_the_sequence_shows_the_order() -> None:
    # Of 5, 30 and 18 each is within reach of the one before it, but not when 18 comes last.
    clicks, order_between = [facts(5), facts(30)], facts(18, "order", views=0)
    log = log_of(*clicks, order_between, gap_ms=14, sequence=True)
    joined, apart = session(5, 30, 2), session(18, 30, 1)
    in_time, late = entries(clicks[0], order_between, clicks[1]), entries(*clicks, order_between)
    for sequence, expected in ((in_time, joined), (late, apart)):
        assert not session_fault(log, {"session": expected, "sequence": sequence})
    assert session_fault(log, {"session": joined, "sequence": late})


def test_the_cells_of_the_catalogue_are_those_that_the_engine_keeps() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    for kind in engine.kinds:
        described, expected = engine.describe(kind.name, b""), KindState(CATALOGUE, kind).describe([])
        for part in ("tiles", "distinct"):
            cells = described[part]
            assert isinstance(cells, dict)
            assert cells.keys() == expected[part].keys()


def test_oracle_and_engine_agree_on_every_state_of_a_long_disordered_log() -> None:
    log = generated_log(3_000, seed=11)
    group_of = {f"u{i}": i % 3 for i in range(6)}
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    columns = engine.columns(log, [group_of[event.user] for event in log], Pseudonymizer(KEY.encode()))
    rows = engine.rows(columns)
    own = {kind: engine.unpack(kind, [None] * len(rows[kind])) for kind in rows}
    assert not engine.fold(columns, rows, own, {}).late.any()
    states = {
        (group, kind, key.hex()): engine.describe(kind, blob)
        for kind in rows
        for group, key, blob in zip(rows[kind].groups.tolist(), rows[kind].keys, engine.pack(kind, own[kind]), strict=True)
    }
    comparison = compare_states(entity_logs(log, group_of, KEY, in_order=True), states)
    assert comparison.examples == []
    assert comparison.keys == len(states)
    assert {kind for _, kind, _ in states} == {kind.name for kind in CATALOGUE.kinds}
    assert comparison.sequences == 6
    assert comparison.sessions == comparison.sessions_of_known_order > 6
