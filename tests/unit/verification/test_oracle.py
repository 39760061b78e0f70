"""The oracle's own arithmetic by hand, and its agreement with the engine on made-up events of every kind."""

from __future__ import annotations

import pytest

from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from tests.unit.verification.typed_events import DAY_MS, raw_events, typed
from verification.arrival_order import sequence_fault, session_after, session_fault
from verification.oracle import OracleSession, OracleState, cells_of, expected_states
from verification.oracle_values import Entry, RawEvent, cents, entry_of, identifier_hash, query_of
from verification.state_comparison import compare_states
from verification.stored_state import state_from_description

KEY = "a key for tests only"
HOUR_MS = 3_600_000


def only(events: list[RawEvent], kind: str = "user") -> OracleState:
    states = expected_states(events, {event.user: 0 for event in events}, KEY)
    (state,) = [state for (_, name, _), state in states.items() if name == kind]
    return state


def order(time_ms: int, amount: float = 1.0, user: str = "u", device: str = "", event_id: str = "") -> RawEvent:
    return RawEvent("orders", user, "order", time_ms, event_id, device=device, amount=amount)


def test_an_event_counts_in_the_tile_that_its_time_falls_in_and_no_other() -> None:
    state = only([order(59_999), order(60_000), order(60_001)])
    assert state.rings["sum events/10m"] == {0: 1, 60_000: 2}
    assert (state.first_ms, state.newest_ms) == (59_999, 60_001)


def test_a_tile_is_kept_until_the_window_and_two_tiles_have_passed() -> None:
    newest = 100 * HOUR_MS
    # The ring of a day keeps 26 hourly tiles: those of hours 75 to 100.
    state = only([order(75 * HOUR_MS - 1), order(75 * HOUR_MS), order(newest)])
    assert state.rings["sum orders/1d"] == {75 * HOUR_MS: 1, newest: 1}
    assert state.first_ms == 75 * HOUR_MS - 1  # the first event is remembered although its tile is gone


def test_the_state_does_not_depend_on_the_order_of_events() -> None:
    events = [order(hour * HOUR_MS, amount=hour) for hour in (3, 90, 1, 40)]
    backwards = only(events[::-1])
    backwards.arrivals, backwards.visits = only(events).arrivals, only(events).visits
    assert backwards == only(events)


def test_money_is_summed_in_whole_cents() -> None:
    assert cents(57.16) == 5716
    assert cents(0.125) == 12  # exactly between two: to the even one
    assert cents(0.375) == 38
    assert only([order(5, 0.1), order(6, 0.2)]).rings["sum spend/1h"] == {0: 30}


def test_each_square_is_rounded_down_by_itself() -> None:
    rings = only([order(5, 1.0), order(6, 1e8)]).rings
    (squares,) = [ring for name, ring in rings.items() if name.startswith("square spend/")]
    assert squares == {0: 100 * 100 // 128 + 10_000_000**2 // 128}


def test_few_different_values_are_a_list_and_many_a_sketch() -> None:
    (cell,) = [cell for cell in cells_of(CATALOGUE, "user") if cell.op == "distinct" and cell.measure == "category"]
    few = [RawEvent("clicks", "u", "view", 5, category=f"c{n % cell.words}") for n in range(cell.words + 2)]
    ((form, values),) = only(few).sets[cell.name].values()
    assert form == "values"
    assert len(values) == cell.words
    many = [RawEvent("clicks", "u", "view", 5, category=f"c{n}") for n in range(cell.words + 1)]
    ((form, registers),) = only(many).sets[cell.name].values()
    assert form == "registers"
    assert len(registers) == 16 * cell.words - 1
    assert 1 <= sum(rank > 0 for rank in registers) <= cell.words + 1


def test_a_value_of_a_set_is_the_hash_without_its_last_bit() -> None:
    sets = only([order(5, user="someone", device="d")], kind="device").sets
    value = int.from_bytes(identifier_hash("user", "someone", KEY)[:8], "big") >> 1
    assert sets["user/7d"] == {0: ("values", (value,))}


def test_an_identifier_is_hashed_by_what_it_names_and_under_the_key() -> None:
    assert identifier_hash("user", "7", KEY) != identifier_hash("device", "7", KEY)
    assert identifier_hash("user", "7", KEY) != identifier_hash("user", "7", KEY + "!")
    assert identifier_hash("user", "7", KEY) == Pseudonymizer(KEY.encode()).digest("user", "7")


def test_a_device_has_one_replica_in_each_group_that_saw_it() -> None:
    events = [order(1, user="a", device="d"), order(2, user="b", device="d"), order(3, user="a", device="d")]
    states = expected_states(events, {"a": 0, "b": 5}, KEY)
    device = identifier_hash("device", "d", KEY).hex()
    assert states[0, "device", device].rings["sum events/10m"] == {0: 2}
    assert states[5, "device", device].newest_ms == 2
    assert {kind for _, kind, _ in states} == {"user", "device"}  # no address, no key for one


def test_an_event_that_was_sent_twice_counts_once() -> None:
    assert only([order(5, event_id="a"), order(6, event_id="b"), order(5, event_id="a")]).rings["sum orders/1h"] == {0: 2}
    assert only([order(n, event_id="1") for n in (5, 6, 7)]).rings["sum orders/1h"] == {0: 3}  # one id for all of them
    long_ago = [order(5, event_id="a"), *(order(n, event_id=f"b{n}") for n in range(32)), order(5, event_id="a")]
    assert only(long_ago).rings["sum orders/1h"] == {0: 34}  # beyond the last 32 it is an event like any other


def test_spellings_of_one_query_have_one_code_and_words_codes_of_their_own() -> None:
    def codes(text: str) -> tuple[int, ...]:
        return query_of(RawEvent("searches", "u", "search", 1, query=text))[1]

    assert codes("Red  SHOES") == codes("red shoes")
    assert codes("shoes")[1] == codes("red shoes")[2] != 0
    assert codes("shoes")[2:] == (0, 0)
    assert codes("") == (0, 0, 0, 0)
    assert codes("红鞋")[1] == codes("红")[1]  # characters written without spaces are words


def test_a_price_has_a_bucket_for_each_doubling() -> None:
    def bucket(price: float) -> int:
        return entry_of(RawEvent("clicks", "u", "view", 1, price=price)).price

    assert [bucket(price) for price in (0.0, 0.01, 0.31, 0.32, 0.63, 0.64, 1e9)] == [0, 1, 1, 2, 2, 3, 15]


def entry(time_ms: int, kind: int) -> Entry:
    return Entry(time_ms, 1, 1, kind, 0, time_ms + 1)


def test_any_interleaving_of_two_topics_is_a_right_sequence() -> None:
    clicks, orders = [entry(1, 2), entry(3, 2)], [entry(2, 6)]
    arrivals = {"clicks": clicks, "orders": orders}
    assert not sequence_fault(arrivals, [*orders, *clicks])
    assert not sequence_fault(arrivals, [clicks[0], *orders, clicks[1]])


def test_a_sequence_with_one_topic_out_of_order_is_wrong() -> None:
    clicks = [entry(1, 2), entry(3, 2)]
    assert "not" in sequence_fault({"clicks": clicks}, clicks[::-1])


def test_a_sequence_holds_the_last_32_and_all_if_there_are_fewer() -> None:
    entries = [entry(t, 2) for t in range(40)]
    assert not sequence_fault({"clicks": entries}, entries[8:])
    assert sequence_fault({"clicks": entries}, entries[7:39])
    assert sequence_fault({"clicks": entries}, entries[9:])
    assert sequence_fault({"clicks": entries[:3]}, entries[1:3])


def visited(*times_ms: int, gap_ms: int = 10) -> OracleState:
    state = OracleState(max(times_ms), min(times_ms), session_measures=("views",), session_gap_ms=gap_ms)
    state.visits = {"clicks": [(time_ms, (1,)) for time_ms in times_ms]}
    return state


@pytest.mark.parametrize(
    ("times_ms", "session"),
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
    times_ms: tuple[int, ...], session: tuple[int, int, int]
) -> None:
    state = visited(*times_ms)
    start_ms, last_ms, views = session
    assert session_after(state.visits["clicks"], state) == OracleSession(start_ms, last_ms, {"views": views})


def test_a_session_is_compared_by_its_last_event_where_the_order_is_not_known() -> None:
    should = visited(5, 15)
    should.visits["orders"] = [(10, (0,))]
    found = OracleState(15, 5, session=OracleSession(10, 15, {"views": 1}))
    assert not session_fault(should, found)
    found.session = OracleSession(5, 10, {"views": 1})
    assert session_fault(should, found)


def test_a_session_is_compared_whole_where_the_sequence_shows_the_order() -> None:
    # Of 5, 30 and 18 each is within reach of the one before it, but not when 18 comes last.
    should = visited(5, 30, gap_ms=14)
    should.visits["orders"] = [(18, (0,))]
    clicks, orders = [entry(5, 2), entry(30, 2)], [entry(18, 6)]
    should.arrivals = {"clicks": clicks, "orders": orders}
    joined, apart = OracleSession(5, 30, {"views": 2}), OracleSession(18, 30, {"views": 1})
    in_time, late = [clicks[0], *orders, clicks[1]], [*clicks, *orders]
    for sequence, session in ((in_time, joined), (late, apart)):
        assert not session_fault(should, OracleState(30, 5, session=session, sequence=sequence))
    assert session_fault(should, OracleState(30, 5, session=joined, sequence=late))


def test_the_cells_of_the_catalogue_are_those_that_the_engine_keeps() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    for kind in engine.kinds:
        described = engine.describe(kind.name, b"")
        tiles, distinct = described["tiles"], described["distinct"]
        assert isinstance(tiles, dict)
        assert isinstance(distinct, dict)
        cells = cells_of(CATALOGUE, kind.name)
        assert {cell.name for cell in cells if cell.op != "distinct"} == set(tiles)
        assert {cell.name for cell in cells if cell.op == "distinct"} == set(distinct)


def test_oracle_and_engine_agree_on_every_state_of_a_long_disordered_log() -> None:
    raw = raw_events(3_000, seed=11)
    group_of = {f"u{i}": i % 3 for i in range(6)}
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
    columns = engine.columns([typed(e) for e in raw], [group_of[e.user] for e in raw], Pseudonymizer(KEY.encode()))
    rows = engine.rows(columns)
    own = {kind: engine.unpack(kind, [None] * len(rows[kind])) for kind in rows}
    assert not engine.fold(columns, rows, own, {}).late.any()
    found = {
        (group, kind, key.hex()): state_from_description(engine.describe(kind, blob))
        for kind in rows
        for group, key, blob in zip(rows[kind].groups.tolist(), rows[kind].keys, engine.pack(kind, own[kind]), strict=True)
    }
    comparison = compare_states(expected_states(raw, group_of, KEY, in_order=True), found)
    assert comparison.examples == []
    assert comparison.keys == len(found)
    assert {kind for _, kind, _ in found} == {kind.name for kind in CATALOGUE.kinds}
    assert comparison.sequences == 6
    assert comparison.sessions == comparison.sessions_of_known_order > 6
