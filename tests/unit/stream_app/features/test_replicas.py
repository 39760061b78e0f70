"""Replicas of other groups: reads, scaling of a sample, and limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.events import Click, Event
from stream_app.features.declarations import Catalogue, EntityKind
from stream_app.features.state.blobs import Blobs, Replicas
from tests.unit.stream_app.features.agreement import run_both
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, group_of, logs, new_run
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING

checked = settings(deadline=None, max_examples=40)
ADDED = ("sum", "clipped", "square")  # operations that add up, and so grow with the number of replicas


def grown(value: int, held: int, asked: int) -> int:
    """value * held / asked, a half rounded up."""
    return (2 * value * held + asked) // (2 * asked)


def expected_sample(described: dict[str, Any], held: int, asked: int) -> dict[str, Any]:
    """A merged state as it must be when only `asked` of `held` replicas were read."""
    tiles = {
        label: {start: grown(value, held, asked) for start, value in ring.items()} if label.split()[0] in ADDED else ring
        for label, ring in described["tiles"].items()
    }
    histograms = {label: [grown(count, held, asked) for count in counts] for label, counts in described["histograms"].items()}
    return {**described, "tiles": tiles, "histograms": histograms}


@checked
@given(log=logs(), asked=st.integers(1, 3), more=st.integers(0, 300))
def test_sums_of_a_sample_of_replicas_are_scaled_to_all(log: list[Event], asked: int, more: int) -> None:
    run = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=EVERYTHING, groups=3)
    run.batches(log, 9)
    for kind in ("device", "item", "query"):
        keys = sorted({key for _, key in run.blobs[kind]})
        lists = [[run.blobs[kind][g, key] for g in range(3) if (g, key) in run.blobs[kind]][:asked] for key in keys]
        whole = Replicas.of_lists(lists)
        sample = Replicas(whole.blobs, whole.of, np.array(whole.held + more, np.int32), whole.asked)
        read, seen = run.engine.merge(kind, sample), run.engine.merge(kind, whole)
        for number, of_one in enumerate(lists):
            described = run.engine.describe_replicas(kind, seen, number)
            expected = expected_sample(described, len(of_one) + more, len(of_one))
            assert run.engine.describe_replicas(kind, read, number) == expected


def test_an_entity_that_nobody_else_holds_reads_as_its_own_state() -> None:
    run = new_run(catalogue=EVERYTHING)
    run.batch([Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i", device="d")])
    ((_, blob),) = run.blobs["device"].items()
    none = Replicas(Blobs.of([]), np.zeros(0, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32))
    others = run.engine.merge("device", none)
    assert not others.held.any()
    assert run.engine.describe_replicas("device", others, 0) == run.engine.describe("device", None)
    assert len(run.engine.merge("device", []).held) == 0
    assert run.engine.describe_replicas("device", run.engine.merge("device", [[blob]]), 0) == run.engine.describe("device", blob)


def without_sharing() -> Catalogue:
    def alone(kind: EntityKind) -> EntityKind:
        return replace(kind, shared=False)

    return replace(EVERYTHING, kinds=tuple(alone(kind) for kind in EVERYTHING.kinds))


@checked
@given(log=logs(max_size=25), size=st.sampled_from([1, 7, 40]))
def test_kinds_that_are_not_shared_see_their_own_group_alone(log: list[Event], size: int) -> None:
    run_both(without_sharing(), log, size=size, groups=3, lateness_ms=ALL_ORDERS_MS)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_older_replica_does_not_bring_back_tiles_that_the_newest_event_has_left_behind(order: tuple[int, int]) -> None:
    day = 86_400_000
    log: list[Event] = [
        Click(event_id="e", user="ann", event_time_ms=NOON, action="view", item="i", device="d"),
        Click(event_id="f", user="bob", event_time_ms=NOON + 200 * day, action="view", item="i", device="d"),
    ]
    run, _ = run_both(EVERYTHING, [log[at] for at in order], size=1, groups=3, lateness_ms=ALL_ORDERS_MS)
    assert len({group for group, _ in run.blobs["device"]}) == 2
    ((_, merged),) = run.merged("device").items()
    assert all(len(ring) <= 1 for ring in merged["tiles"].values())


def test_a_group_that_lags_behind_another_still_sees_all_of_its_own_windows() -> None:
    def click(user: str, number: int, at_ms: int) -> Click:
        where = {"device": "d", "ip": "10.0.0.1", "item": "i", "category": "c"}
        return Click(event_id=f"{user}{number}", user=user, event_time_ms=at_ms, action="view", **where)  # type: ignore[arg-type]

    run = new_run(lateness_ms=ALL_ORDERS_MS, groups=2)
    behind, ahead = (next(u for u in ("u0", "u1", "ann", "bob", "cat") if group_of(click(u, 0, NOON), 2) == g) for g in (0, 1))
    names = run.engine.feature_names
    alone = [run.batch([click(behind, n, NOON + n * 60_000)]) for n in range(5)][-1].dense[0]
    run.batch([click(ahead, 0, NOON + 3 * 3_600_000)])
    again = run.batch([click(behind, 5, NOON + 5 * 60_000)]).dense[0]
    for name in ("device_events_10m", "ip_events_10m", "item_browses_1h", "category_browses_1h"):
        assert (alone[names.index(name)], again[names.index(name)]) == (4.0, 5.0), name
