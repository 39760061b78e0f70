"""The fold against the oracle over both catalogues, and against itself in other batches, orders and groups."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from tests.unit.stream_app.features.agreement import check_features, run_both, without_order
from tests.unit.stream_app.features.cases import (
    ALL_ORDERS_MS,
    DAY_MS,
    KEY,
    LATENESS_MS,
    NOON,
    TIMES,
    USERS,
    Run,
    engine_of,
    event_of,
    group_of,
    logs,
    new_run,
    tensors,
)
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING
from verification.oracle.facts import facts_of
from verification.oracle.replay import Oracle

CATALOGUES = {"everything": EVERYTHING, "shipped": CATALOGUE}
both_catalogues = pytest.mark.parametrize("which", CATALOGUES)
checked = settings(deadline=None, max_examples=60)


@both_catalogues
@checked
@given(
    log=logs(),
    size=st.sampled_from([1, 7, 40]),
    groups=st.integers(1, 3),
    lateness=st.sampled_from([0, LATENESS_MS, ALL_ORDERS_MS]),
)
def test_features_and_state_equal_the_oracles(which: str, log: list[Event], size: int, groups: int, lateness: int) -> None:
    run_both(CATALOGUES[which], log, size=size, groups=groups, lateness_ms=lateness)


@both_catalogues
@checked
@given(log=logs())
def test_batches_of_one_of_seven_and_all_at_once_give_identical_tensors_and_blobs(which: str, log: list[Event]) -> None:
    whole = new_run(catalogue=CATALOGUES[which], numbered=False)
    expected = tensors(whole.batches(log, len(log)))
    for size in (1, 7):
        run = new_run(catalogue=CATALOGUES[which], numbered=False)
        actual = tensors(run.batches(log, size))
        for name, tensor in expected.items():
            np.testing.assert_array_equal(actual[name], tensor, err_msg=name)
        assert run.blobs == whole.blobs


@both_catalogues
@checked
@given(log=logs(duplicates=False), data=st.data())
def test_the_state_does_not_depend_on_the_order_of_arrival_and_equal_states_are_equal_bytes(
    which: str, log: list[Event], data: st.DataObject
) -> None:
    one, other = (new_run(lateness_ms=ALL_ORDERS_MS, catalogue=CATALOGUES[which]) for _ in range(2))
    one.batches(log, 5)
    other.batches(data.draw(st.permutations(log)), 5)
    for kind in CATALOGUES[which].kinds:
        states = [{pair: without_order(d) for pair, d in run.described(kind.name).items()} for run in (one, other)]
        assert states[0] == states[1]
        if not kind.sequence and not kind.session_gap_ms:
            assert one.blobs[kind.name] == other.blobs[kind.name]


@both_catalogues
@checked
@given(log=logs(max_size=25, duplicates=False), at=TIMES, data=st.data())
def test_replicas_of_several_groups_merge_to_the_state_of_one(which: str, log: list[Event], at: int, data: st.DataObject) -> None:
    one, several = (new_run(lateness_ms=ALL_ORDERS_MS, catalogue=CATALOGUES[which], groups=groups) for groups in (1, 3))
    for run in (one, several):
        run.batches(log, 6)
    for kind in one.shared():
        single = {key: described for (_, key), described in one.described(kind.name).items()}
        assert several.merged(kind.name) == single
        keys = list(single)
        replicas = [[blob for (_, of), blob in several.blobs[kind.name].items() if of == key] for key in keys]
        replicas = [data.draw(st.permutations(of_one)) for of_one in replicas]
        actual = several.engine.read_features(kind.name, several.engine.merge(kind.name, replicas), at)
        expected = one.engine.read_features(kind.name, [one.blobs[kind.name][0, key] for key in keys], at)
        assert actual[0] == expected[0]
        np.testing.assert_array_equal(actual[1], expected[1])


@both_catalogues
@checked
@given(log=logs(), at=TIMES)
def test_reading_without_an_event_equals_an_event_without_values(which: str, log: list[Event], at: int) -> None:
    run, oracle = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=CATALOGUES[which]), Oracle(CATALOGUES[which], ALL_ORDERS_MS, KEY)
    run.batches(log, 9)
    for event in log:
        oracle.apply(event, 0)
    for kind in CATALOGUES[which].kinds:
        keys = sorted(key for of, key in oracle.events if of == kind.name)
        blobs = [run.blobs[kind.name][0, key] for key in keys]
        features, values = run.engine.read_features(kind.name, blobs, at)
        of_kind = [f for f in CATALOGUES[which].features if f.entity == kind.name]
        assert list(features) == [f.name for f in of_kind]
        for key, row in zip(keys, values, strict=True):
            check_features(of_kind, row, *oracle.read(kind, key, at))


def view(at: int, user: str = "u", event_id: str = "") -> Click:
    return Click(event_id=event_id or f"at{at}", user=user, event_time_ms=at, action="view", item="i")


def test_an_event_after_a_long_silence_finds_every_window_empty() -> None:
    run, oracle = run_both(EVERYTHING, [view(NOON), view(NOON + 400 * DAY_MS)], size=1, lateness_ms=0)
    windows = [f for f in EVERYTHING.features if f.window and f.entity == "user" and f.aggregation in ("count", "sum")]
    names, values = run.engine.read_features("user", [next(iter(run.blobs["user"].values()))], NOON + 900 * DAY_MS)
    assert windows
    assert all(values[0, names.index(f.name)] == max(f.low, 0.0) for f in windows)
    assert oracle.events


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


@both_catalogues
def test_an_event_at_the_first_millisecond_of_1970_is_an_event(which: str) -> None:
    run, _ = run_both(CATALOGUES[which], [view(0), view(0, event_id="f"), view(5_000)], size=1, lateness_ms=0)
    state = run.engine.describe("user", next(iter(run.blobs["user"].values())))
    assert (state["first_ms"], state["newest_ms"]) == (0, 5_000)


@both_catalogues
def test_the_last_millisecond_of_2099_and_the_first_event_go_together(which: str) -> None:
    run_both(CATALOGUES[which], [view(0), view(4_102_444_800_000)], size=2, lateness_ms=0)


def test_without_a_past_every_feature_has_its_default() -> None:
    run = new_run(catalogue=EVERYTHING)
    search = Search(event_id="e", user="u", event_time_ms=NOON, query="q")
    own = facts_of(search, EVERYTHING, KEY).values
    dense = run.batch([search]).dense[0]
    for feature, value in zip(EVERYTHING.features, dense.tolist(), strict=True):
        if feature.entity != "event":
            # What is compared with a mean is nothing, whatever the past, if the event has no value to compare.
            bare = 0.0 if feature.aggregation == "ratio" and not own[feature.measure] else feature.default
            assert value == min(max(bare, feature.low), feature.high), feature.name


def order(at: int, amount: float, user: str = "u", device: str = "") -> Order:
    lines = [OrderLine(item="i")]
    return Order(event_id=f"{user}{at}", user=user, event_time_ms=at, lines=lines, amount=amount, currency="EUR", device=device)


def test_several_events_of_one_entity_in_one_batch_each_see_their_own_past() -> None:
    log: list[Event] = [order(NOON + n, 10.0 * n, user=USERS[n % 3], device="d") for n in range(9)]
    assert {group_of(e, 2) for e in log} == {0, 1}
    for size in (1, 4, 9):
        run_both(EVERYTHING, log, size=size, groups=2, lateness_ms=0)


def test_the_largest_amounts_there_can_be_are_added_up_exactly() -> None:
    run_both(EVERYTHING, [order(NOON + n, 1e9, device="d") for n in range(50)], size=7, lateness_ms=0)


def test_the_users_of_the_logs_are_of_every_group() -> None:
    for groups in (2, 3):
        assert {group_of(view(NOON, user), groups) for user in USERS} == set(range(groups))


# --- sequences ----------------------------------------------------------------------------------------------------------------


def test_the_sequence_keeps_the_last_32_in_order_of_arrival() -> None:
    run = new_run()
    run.batches([view(NOON + 1_000 * n) for n in range(50)], 7)
    result = run.batch([view(NOON + 60_000)])
    assert result.sequence_gaps[0].tolist() == [float(60 - n) for n in range(18, 50)]
    assert (result.sequence_ids[0, :, 2] == 2).all()


def test_the_last_four_queries_are_those_with_words() -> None:
    run = new_run()
    texts = ["red shoes", "", "blue", "  ", "green", "one two three four", "Blue"]
    log = [Search(event_id=f"e{n}", user="u", event_time_ms=NOON + 1_000 * n, query=text) for n, text in enumerate(texts)]
    result = run.batch([*log, view(NOON + 10_000)])
    codes = result.query.tolist()
    assert codes[1] == codes[3] == [0, 0, 0, 0]
    assert codes[2] == codes[6]
    assert result.query_ids[7].tolist() == [codes[n] for n in (2, 4, 5, 6)]
    assert result.query_gaps[7].tolist() == [8.0, 6.0, 5.0, 4.0]
    assert result.query_ids[2].tolist() == [[0] * 4, [0] * 4, [0] * 4, codes[0]]


@settings(deadline=None, max_examples=15)
@given(number=st.integers(0, 2**40), length=st.integers(33, 80), size=st.sampled_from([1, 7, 80]))
def test_long_logs_of_one_user_agree_too(number: int, length: int, size: int) -> None:
    numbers = [(number + n * 2_654_435_761) % 2**40 // 24 * 24 + n % 8 for n in range(length)]  # all of the first user
    log = [event_of(code, NOON + 40_000 * n, f"e{n % 45}") for n, code in enumerate(numbers)]
    assert {event.user for event in log} == {USERS[0]}
    run_both(EVERYTHING, log, size=size, lateness_ms=0)


# --- duplicates ---------------------------------------------------------------------------------------------------------------


@both_catalogues
@checked
@given(
    log=logs(max_size=20, duplicates=False), size=st.sampled_from([1, 7, 60]), copies=st.integers(1, 3), groups=st.integers(1, 3)
)
def test_an_event_that_is_sent_again_at_once_changes_nothing(
    which: str, log: list[Event], size: int, copies: int, groups: int
) -> None:
    once, more = (
        new_run(lateness_ms=ALL_ORDERS_MS, groups=groups, catalogue=CATALOGUES[which], numbered=False) for _ in range(2)
    )
    once.batches(log, size)
    results = more.batches([event for event in log for _ in range(1 + copies)], size)
    assert more.blobs == once.blobs
    again = np.concatenate([r.duplicate_of for r in results]) >= 0
    assert again.tolist() == [number > 0 for _ in log for number in range(1 + copies)]


def test_a_duplicate_names_the_commit_that_applied_the_first_one_in_the_same_batch_or_before() -> None:
    run = new_run()
    assert run.batch([view(NOON), view(NOON), view(NOON + 1)]).duplicate_of.tolist() == [-1, 1, -1]
    assert run.batch([view(NOON + 2), view(NOON), view(NOON + 2), view(NOON + 1)]).duplicate_of.tolist() == [-1, 1, 2, 1]


def test_an_event_that_is_sent_again_too_late_is_late() -> None:
    run = new_run(lateness_ms=1_000)
    run.batch([view(NOON), view(NOON + 1_001)])
    result = run.batch([view(NOON)])
    assert (result.late.tolist(), result.duplicate_of.tolist()) == ([True], [-1])


def test_an_event_is_recognised_among_the_users_last_32_and_not_beyond() -> None:
    run = new_run()
    run.batches([view(NOON + n) for n in range(33)], 5)
    result = run.batch([view(NOON + 1), view(NOON)])
    assert result.duplicate_of.tolist() == [1, -1]
    assert result.touched["user"].any()


def test_the_same_id_of_another_user_or_on_another_topic_is_another_event() -> None:
    run = new_run()
    search = Search(event_id="same", user="u", event_time_ms=NOON, query="q")
    log = [view(NOON, event_id="same"), view(NOON, user="v", event_id="same"), search]
    assert run.batch(log).duplicate_of.tolist() == [-1, -1, -1]
    assert run.batch(log).duplicate_of.tolist() == [1, 1, 1]


@both_catalogues
def test_a_producer_that_has_one_id_for_all_its_events_loses_none_of_them(which: str) -> None:
    log: list[Event] = [msgspec.structs.replace(order(NOON + 1_000 * n, 10.0**n, device="d"), event_id="1") for n in range(5)]
    for size in (1, 5):
        run, _ = run_both(CATALOGUES[which], log, size=size, lateness_ms=0)
        again = run.batch([log[4], msgspec.structs.replace(log[4], event_time_ms=log[4].event_time_ms + 1), log[0]])
        assert again.duplicate_of.tolist() == [run.steps[0] - 1, -1, -1]
        assert again.late.tolist() == [False, False, True]
        [state] = run.described("user").values()
        assert [entry["time_ms"] - NOON for entry in state["sequence"]] == [0, 1_000, 2_000, 3_000, 4_000, 4_001]


def test_a_duplicate_with_other_content_changes_nothing_of_the_entities_it_names() -> None:
    run = new_run(catalogue=EVERYTHING)
    run.batch([order(NOON, 10.0, device="d")])
    before = {kind: dict(blobs) for kind, blobs in run.blobs.items()}
    result = run.batch([msgspec.structs.replace(order(NOON, 99.0, device="other"), ip="10.0.0.1")])
    assert result.duplicate_of.tolist() == [1]
    assert not any(changed.any() for changed in result.touched.values())
    assert run.blobs == before


def test_an_engine_of_the_same_catalogue_gives_the_same_state_for_any_lateness() -> None:
    log: list[Event] = [view(NOON + n) for n in range(5)]
    runs = [Run(engine_of(EVERYTHING, lateness)) for lateness in (0, DAY_MS)]
    for run in runs:
        run.batches(log, 2)
    assert runs[0].blobs == runs[1].blobs
