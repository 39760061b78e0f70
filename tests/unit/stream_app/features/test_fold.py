"""The fold against the oracle, and against itself cut into other batches and orders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FoldResult
from tests.unit.stream_app.features.cases import DAY_MS, KEY, LATENESS_MS, NOON, TIMES, Run, events, group_of, new_run, tensors
from tests.unit.stream_app.features.oracle import Expected, Oracle, identifier

# The state is integer and must agree exactly; a feature may differ by the last bit of its last operation in float64, before it
# is rounded to float32.
FEATURE_RTOL = 2e-7
ALL_ORDERS_MS = 60 * DAY_MS  # a lateness that refuses nothing

checked = settings(deadline=None, max_examples=150)
batches_of_events = st.lists(events(), min_size=1, max_size=40)


def check_event(result: FoldResult, e: int, expected: Expected, event: Event) -> None:
    assert result.late_by_ms[e] == expected.late_by_ms
    assert result.late[e] == (expected.late_by_ms > 0)
    if expected.late_by_ms:
        assert not result.dense[e].any()
        return
    for f, feature in enumerate(CATALOGUE.features):
        assert result.dense[e, f] == pytest.approx(expected.features[f], rel=FEATURE_RTOL), (feature.name, event)
    shown = [(*ids, gap) for ids, gap in zip(result.sequence_ids[e].tolist(), result.sequence_gaps[e].tolist(), strict=True)]
    padding = [(0, 0, 0, 0.0)] * (32 - len(expected.sequence))
    assert shown == [*padding, *((i, c, k, float(np.float32(gap))) for i, c, k, gap in expected.sequence)]


def check_states(run: Run, oracle: Oracle) -> None:
    for kind in CATALOGUE.kinds:
        expected = {}
        for (kind_name, name), seen in oracle.past.items():
            if kind_name == kind.name and name:
                for group in {s.group for s in seen}:
                    expected[group, run.identity.digest(kind.name, name)] = oracle.state(kind.name, name, group)
        found = {pair: run.engine.describe(kind.name, blob) for pair, blob in run.blobs[kind.name].items()}
        for described in found.values():
            described.pop("sequence", None)
        assert found == expected


@checked
@given(
    all_events=batches_of_events,
    size=st.integers(1, 12),
    groups=st.integers(1, 3),
    lateness=st.sampled_from([0, LATENESS_MS, ALL_ORDERS_MS]),
)
def test_every_event_reads_what_the_oracle_reads_and_leaves_the_state_it_leaves(
    all_events: list[Event], size: int, groups: int, lateness: int
) -> None:
    run, oracle = new_run(lateness_ms=lateness, groups=groups), Oracle(CATALOGUE, lateness, KEY)
    for start in range(0, len(all_events), size):
        batch = all_events[start : start + size]
        result = run.batch(batch)
        for e, event in enumerate(batch):
            check_event(result, e, oracle.apply(event, group_of(event, groups)), event)
        oracle.next_batch()
    check_states(run, oracle)


@checked
@given(all_events=batches_of_events)
def test_batches_of_one_of_seven_and_all_at_once_give_identical_tensors_and_blobs(all_events: list[Event]) -> None:
    whole = new_run()
    expected = tensors(whole.batches(all_events, len(all_events)))
    for size in (1, 7):
        run = new_run()
        found = tensors(run.batches(all_events, size))
        for name, tensor in expected.items():
            np.testing.assert_array_equal(found[name], tensor, err_msg=name)
        assert run.blobs == whole.blobs


@checked
@given(all_events=batches_of_events, data=st.data())
def test_the_tiles_do_not_depend_on_the_order_of_arrival(all_events: list[Event], data: st.DataObject) -> None:
    one, other = new_run(lateness_ms=ALL_ORDERS_MS), new_run(lateness_ms=ALL_ORDERS_MS)
    one.batches(all_events, 5)
    other.batches(data.draw(st.permutations(all_events)), 5)
    for kind in CATALOGUE.kinds:
        states = [{p: run.engine.describe(kind.name, b) for p, b in run.blobs[kind.name].items()} for run in (one, other)]
        for state in states:
            for described in state.values():
                described.pop("sequence", None)
        assert states[0] == states[1]


@checked
@given(all_events=batches_of_events)
def test_replicas_of_several_groups_merge_to_the_state_of_one(all_events: list[Event]) -> None:
    one, several = new_run(lateness_ms=ALL_ORDERS_MS), new_run(lateness_ms=ALL_ORDERS_MS, groups=3)
    one.batches(all_events, 6)
    several.batches(all_events, 6)
    for kind in (k for k in CATALOGUE.kinds if k.shared):
        replicas: dict[bytes, list[bytes]] = {}
        for (_, key), blob in several.blobs[kind.name].items():
            replicas.setdefault(key, []).append(blob)
        merged = several.engine.pack(kind.name, several.engine.merge(kind.name, list(replicas.values())))
        assert dict(zip(replicas, merged, strict=True)) == {key: blob for (_, key), blob in one.blobs[kind.name].items()}


@checked
@given(all_events=batches_of_events, at=TIMES)
def test_reading_without_an_event_gives_what_an_event_without_values_would_read(all_events: list[Event], at: int) -> None:
    run, oracle = new_run(lateness_ms=ALL_ORDERS_MS), Oracle(CATALOGUE, ALL_ORDERS_MS, KEY)
    run.batches(all_events, 9)
    for event in all_events:
        oracle.apply(event, 0)
    oracle.next_batch()
    for kind in CATALOGUE.kinds:
        names = sorted({identifier(e, kind.name) for e in all_events} - {""})
        blobs = [run.blobs[kind.name][0, run.identity.digest(kind.name, name)] for name in names]
        features, values = run.engine.read_features(kind.name, blobs, at)
        wanted = [f for f in CATALOGUE.features if f.entity == kind.name]
        assert features == tuple(f.name for f in wanted)
        for name, row in zip(names, values.tolist(), strict=True):
            past = oracle.visible(kind.name, name, 0)
            for feature, found in zip(wanted, row, strict=True):
                expected = min(max(oracle.of_past(feature, past, at, 0), feature.low), feature.high)
                assert found == pytest.approx(expected, rel=FEATURE_RTOL), feature.name


def view(at: int, user: str = "u") -> Click:
    return Click(event_id="e", user=user, event_time_ms=at, action="view", item="i")


def read(run: Run, feature: str, at: int) -> float:
    ((_, blob),) = run.blobs["user"].items()
    names, values = run.engine.read_features("user", [blob], at)
    return float(values[0, names.index(feature)])


def test_a_window_opens_at_its_tile_edge_and_closes_before_the_event_itself() -> None:
    #   10m window, tiles of 1m, read at 00:10:30
    #   00:00:00 [ tile 0 | tile 1 | ... | tile 10 | 00:10:30
    #   counted:  ^ whole, although the exact window begins at 00:00:30
    run = new_run()
    run.batch([view(NOON - 1), view(NOON), view(NOON + 59_999)])
    assert read(run, "user_events_10m", NOON + 630_000) == 2
    result = run.batch([view(NOON + 630_000)])
    assert result.dense[0, run.engine.feature_names.index("user_events_10m")] == 2
    assert read(run, "user_events_10m", NOON + 660_000 - 1) == 3
    assert read(run, "user_events_10m", NOON + 660_000) == 1


def test_an_event_after_a_long_silence_finds_every_window_empty() -> None:
    run = new_run()
    run.batch([view(NOON)])
    result = run.batch([view(NOON + 400 * DAY_MS)])
    seen = dict(zip(run.engine.feature_names, result.dense[0].tolist(), strict=True))
    assert seen["user_events_1d"] == 0
    assert seen["user_cart_rate_1d"] == pytest.approx(0.05)
    assert seen["user_seconds_since_last"] == 30 * 86_400
    assert seen["user_age_seconds"] == 400 * 86_400


def test_a_late_event_changes_no_entity_and_says_how_late_it_is() -> None:
    run = new_run(lateness_ms=1_000)
    first = Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i", device="d", ip="10.0.0.1")
    run.batch([first])
    before = {kind: dict(blobs) for kind, blobs in run.blobs.items()}
    late = Click(event_id="f", user="u", event_time_ms=NOON - 1_001, action="view", item="i", device="d2", ip="10.0.0.1")
    result = run.batch([late])
    assert result.late.tolist() == [True]
    assert result.late_by_ms.tolist() == [1_001]
    assert not any(changed.any() for changed in result.touched.values())
    assert run.blobs == before
    on_the_edge = Click(event_id="g", user="u", event_time_ms=NOON - 1_000, action="view", item="i")
    assert run.batch([on_the_edge]).late.tolist() == [False]


def test_an_event_at_the_first_millisecond_of_1970_is_an_event() -> None:
    run = new_run()
    run.batch([view(0)])
    assert read(run, "user_events_10m", 0) == 1
    assert read(run, "user_age_seconds", 5_000) == 5
    assert run.engine.describe("user", next(iter(run.blobs["user"].values())))["newest_ms"] == 0


def test_without_a_past_every_feature_has_its_default() -> None:
    run = new_run()
    search = Search(event_id="e", user="u", event_time_ms=NOON, query="q")
    seen = dict(zip(run.engine.feature_names, run.batch([search]).dense[0].tolist(), strict=True))
    for feature in CATALOGUE.features:
        # A ratio's default is for an event that has a value of its own; a search has none.
        expected = 0.0 if feature.aggregation == "ratio" else feature.default
        assert seen[feature.name] == pytest.approx(expected), feature.name


def test_an_order_without_a_past_is_as_usual_and_one_after_is_compared() -> None:
    def order(at: int, amount: float) -> Order:
        lines = [OrderLine(item="i")]
        return Order(event_id="e", user="u", event_time_ms=at, lines=lines, amount=amount, currency="EUR")

    run = new_run()
    result = run.batch([order(NOON, 10.0), order(NOON + 1, 30.0), order(NOON + 2, 10.0)])
    column = run.engine.feature_names.index("user_amount_vs_mean_30d")
    assert result.dense[:, column].tolist() == [1.0, 3.0, 0.5]


def test_the_sequence_keeps_the_last_32_in_order_of_arrival() -> None:
    run = new_run()
    run.batches([view(NOON + 1_000 * n) for n in range(50)], 7)
    result = run.batch([view(NOON + 60_000)])
    assert result.sequence_gaps[0].tolist() == [float(60 - n) for n in range(18, 50)]
    assert (result.sequence_ids[0, :, 2] == 2).all()
