from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import msgspec
import pytest

from stream_app.codec.decode import Decoder
from stream_app.errors import ConfigError, InvalidEventError
from stream_app.events import INTENTS, SOURCE_TOPICS, Event, Label
from stream_app.simulator.arrivals import FIRST_OF_TWO, SECOND_OF_TWO
from stream_app.simulator.fraud import FRAUD_KINDS
from stream_app.simulator.options import DAY_MS, SimulatorOptions
from stream_app.simulator.shop import LiveStamp, arrivals, record_from_arrival, simulate, simulated_events

START_MS = SimulatorOptions().start_ms


def options(**changes: object) -> SimulatorOptions:
    return SimulatorOptions(**{"events": 20_000, "users": 2_000, "items": 600, "label_delay_ms": 60_000, **changes})  # type: ignore[arg-type]


def test_one_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = list(simulate(options(events=3_000)))
    assert first == list(simulate(options(events=3_000)))
    assert first != list(simulate(options(events=3_000, seed=8)))


def test_records_come_in_order_of_arrival_whatever_befell_them() -> None:
    times = [record.time_ms for record in simulate(options(out_of_order_share=0.2, duplicate_share=0.2))]
    assert all(before <= after for before, after in pairwise(times))
    assert times[0] >= START_MS


def test_every_good_record_is_a_valid_event_and_every_broken_one_is_refused() -> None:
    decoder = Decoder(future_skew_ms=0)
    refused = 0
    for arrival in arrivals(options(malformed_share=0.05)):
        topic, key, value, time_ms = record_from_arrival(arrival)
        if topic == "labels":
            assert msgspec.json.decode(value, type=Label).user.encode() == key
        elif arrival.damage:
            refused += 1
            with pytest.raises(InvalidEventError):
                decoder.decode(topic, key, value, time_ms)
        else:
            assert decoder.decode(topic, key, value, time_ms).user.encode() == key
    assert refused == pytest.approx(1_000, rel=0.2)


def test_an_event_id_comes_twice_only_as_a_duplicate_of_the_same_bytes() -> None:
    seen: dict[str, bytes] = {}
    second = 0
    for arrival in arrivals(options(duplicate_share=0.05)):
        record = record_from_arrival(arrival)
        if record.topic == "labels":
            continue
        event_id = arrival.message.event_id
        if event_id in seen:
            second += 1
            assert arrival.copy == SECOND_OF_TWO
            assert seen[event_id] == record.value
        seen[event_id] = record.value
    assert second == pytest.approx(1_000, rel=0.2)


def test_the_shares_of_what_goes_wrong_are_those_asked_for() -> None:
    shares = options(events=60_000, late_share=0.02, out_of_order_share=0.03, fraud_share=0.0)
    late = behind = 0
    for event in simulated_events(shares):
        lag_ms = event.arrival_ms - event.event.event_time_ms
        late += lag_ms >= 3_600_000
        behind += 0 < lag_ms <= 20_000
    assert late == pytest.approx(1_200, rel=0.15)
    assert behind == pytest.approx(1_800, rel=0.15)


def test_the_rate_in_event_time_is_the_one_asked_for() -> None:
    # A week, so that the rhythm averages out.
    rate = options(events=None, duration_ms=7 * DAY_MS, events_per_s=0.2, fraud_share=0.0)
    count = sum(1 for _ in simulated_events(rate))
    assert count == pytest.approx(0.2 * 7 * 86_400, rel=0.1)


def test_fraud_is_the_share_asked_for_and_of_all_five_kinds() -> None:
    kinds = Counter(e.fraud_kind for e in simulated_events(options(events=150_000, fraud_share=0.05, events_per_s=1.0)))
    assert set(kinds) == {"", *FRAUD_KINDS}
    assert 1 - kinds[""] / kinds.total() == pytest.approx(0.05, rel=0.3)


def test_every_intent_occurs_and_buyers_are_the_ones_who_order() -> None:
    by_intent: Counter[str] = Counter()
    orders: Counter[str] = Counter()
    for event in simulated_events(options(fraud_share=0.0)):
        by_intent[event.intent] += 1
        orders[event.intent] += event.topic == "orders"
    assert set(by_intent) == set(INTENTS)
    assert set(orders.elements()) == {"buy"}


def test_the_truth_of_each_ring_event_that_arrived_comes_later_and_no_other() -> None:
    fraud: dict[str, int] = {}
    labels: dict[str, Label] = {}
    for arrival in arrivals(options(fraud_share=0.1, malformed_share=0.01, duplicate_share=0.02)):
        if isinstance(arrival.message, Label):
            labels[arrival.message.event_id] = arrival.message
        elif arrival.fraud_kind and arrival.copy != SECOND_OF_TWO:
            fraud[arrival.message.event_id] = arrival.arrival_ms
    assert labels.keys() == fraud.keys()
    for event_id, label in labels.items():
        assert label.kind in FRAUD_KINDS
        assert label.value == 1.0
        assert 30_000 <= label.label_time_ms - fraud[event_id] <= 120_000


def test_intent_labels_are_given_for_every_event_when_asked_for() -> None:
    chosen = options(events=2_000, intent_labels=True, malformed_share=0.0, duplicate_share=0.0, fraud_share=0.0)
    topics = Counter(record.topic for record in simulate(chosen))
    assert topics["labels"] == 2_000


def test_it_ends_after_the_asked_number_of_events_broken_ones_and_copies_included() -> None:
    records = [r for r in simulate(options(events=5_000, malformed_share=0.1)) if r.topic in SOURCE_TOPICS]
    assert len(records) == 5_000


def test_it_ends_after_the_asked_time() -> None:
    times = [r.time_ms for r in simulate(options(events=None, duration_ms=600_000)) if r.topic in SOURCE_TOPICS]
    assert max(times) <= START_MS + 600_000
    assert max(times) > START_MS + 500_000


def test_it_stops_when_told_and_still_gives_the_truths() -> None:
    asked = iter(range(10**9))
    given = list(arrivals(options(events=None, fraud_share=0.5), stop=lambda: next(asked) >= 1_000))
    assert sum(a.topic != "labels" for a in given) == 1_000
    assert given[-1].topic == "labels"


def test_after_a_warm_up_sessions_are_under_way_from_the_first_second() -> None:
    def in_first_minute(warm_up_ms: int) -> int:
        chosen = options(events=None, duration_ms=60_000, events_per_s=50.0, rhythm=False, warm_up_ms=warm_up_ms)
        return sum(record.topic != "labels" for record in simulate(chosen))

    assert in_first_minute(180_000) == pytest.approx(3_000, rel=0.2)
    assert in_first_minute(0) < 2_000


def test_wrong_options_are_all_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        SimulatorOptions(users=1, fraud_share=0.9, events_per_s=0)
    assert all(name in str(caught.value) for name in ("users", "fraud_share", "events_per_s"))


def test_a_live_stamp_moves_events_to_now_and_keeps_lateness_and_copies() -> None:
    stamp, now_ms = LiveStamp(), 1_900_000_000_000
    first: dict[str, bytes] = {}
    copies = 0
    for arrival in islice(arrivals(options(duplicate_share=0.2, late_share=0.1)), 5_000):
        now_ms += 2
        live = stamp.stamp(arrival, now_ms)
        assert live.arrival_ms == now_ms
        if isinstance(live.message, Event) and isinstance(arrival.message, Event):
            value = record_from_arrival(live).value
            if arrival.copy == SECOND_OF_TWO:
                copies += 1
                assert first.pop(live.message.event_id) == value
            else:
                lag_ms = arrival.arrival_ms - arrival.message.event_time_ms
                assert now_ms - live.message.event_time_ms == lag_ms
            if arrival.copy == FIRST_OF_TWO:
                first[live.message.event_id] = value
    assert copies > 100
