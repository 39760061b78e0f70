"""Engine against oracle: runs a log through both and compares every number of every event and state.

Counts, sums, times, means, sets and codes must agree to the last bit of float32. Deviations alone may be off, by what
`verification.oracle.readings.tolerance` says of the numbers at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.events import Event
from stream_app.features.declarations import Catalogue, Feature
from stream_app.features.fold_types import FoldResult
from tests.unit.stream_app.features.cases import KEY, Run, group_of, new_run
from verification.oracle.replay import ExpectedEvent, Oracle


def run_both(catalogue: Catalogue, log: Sequence[Event], *, size: int, groups: int = 1, lateness_ms: int) -> tuple[Run, Oracle]:
    """Send a log through both in batches of `size`; what they say of each event is compared, then every state."""
    run, oracle = new_run(lateness_ms=lateness_ms, groups=groups, catalogue=catalogue), Oracle(catalogue, lateness_ms, KEY)
    for start in range(0, len(log), size):
        batch = log[start : start + size]
        commits = {group: run.steps[group] + 1 for group in range(groups)}
        result = run.batch(batch)
        for e, event in enumerate(batch):
            group = group_of(event, groups)
            check_event(catalogue, result, e, oracle.apply(event, group, commits[group]), event)
        oracle.next_batch()
    check_states(run, oracle)
    return run, oracle


def check_event(catalogue: Catalogue, result: FoldResult, e: int, expected: ExpectedEvent, event: Event) -> None:
    assert result.context[e].tolist() == list(expected.context)
    assert result.item[e].tolist() == list(expected.item)
    assert result.query[e].tolist() == list(expected.query)
    assert result.late_by_ms[e] == expected.late_by_ms
    assert result.late[e] == (expected.late_by_ms > 0)
    assert result.duplicate_of[e] == expected.duplicate_of, event
    if expected.late_by_ms:
        for tensor in (result.dense, result.sequence_ids, result.sequence_gaps, result.query_ids, result.query_gaps):
            assert not tensor[e].any(), "a late event has zeros"
        return
    check_features(catalogue.features, result.dense[e], expected.features, expected.tolerances)
    interactions = (result.sequence_ids[e], result.sequence_gaps[e], expected.sequence)
    for ids, gaps, entries in (interactions, (result.query_ids[e], result.query_gaps[e], expected.queries)):
        assert ids.tolist() == [list(codes) for codes, _ in entries]
        assert gaps.tolist() == [float(np.float32(gap)) for _, gap in entries]


def check_features(
    features: Sequence[Feature], actual: NDArray[np.float32], expected: Sequence[float], tolerances: Mapping[int, float]
) -> None:
    """Compare the engine's numbers with the oracle's."""
    rounded = np.array(expected, np.float32)
    assert actual.shape == rounded.shape
    off = [
        f"{features[f]}: engine {float(actual[f])!r}, oracle {expected[f]!r}"
        for f in np.flatnonzero(actual != rounded).tolist()
        if not abs(float(actual[f]) - expected[f]) <= tolerances.get(f, 0.0)
    ]
    assert not off, f"{len(off)} features differ, the first: " + "; ".join(off[:3])


def check_states(run: Run, oracle: Oracle) -> None:
    """Every state of every group, and none besides."""
    for kind in run.engine.kinds:
        expected: dict[tuple[int, bytes], dict[str, Any]] = {}
        for (kind_name, key), events in oracle.events.items():
            if kind_name == kind.name:
                expected |= {(group, key): oracle.state(kind.name, key, group) for group in {event.group for event in events}}
        described = run.described(kind.name)
        assert described.keys() == expected.keys(), kind.name
        for pair, state in expected.items():
            parts = [part for part in state.keys() | described[pair].keys() if state.get(part) != described[pair].get(part)]
            assert not parts, [
                (kind.name, part, "engine", described[pair].get(part), "oracle", state.get(part)) for part in parts
            ]


def without_order(described: dict[str, Any]) -> dict[str, Any]:
    """A state without what depends on the order of arrival."""
    return {part: value for part, value in described.items() if part not in ("session", "sequence", "queries")}
