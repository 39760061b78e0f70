"""From an event's append to its answers' append, both by the broker's own clock.

Source and answer topics are stamped with LogAppendTime, and every answer carries its source record's stamp
(`ingest_time_ms`), so one clock gives both ends and no reader stands in between. Resolution is one millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from verification.harness.offsets import Offsets
from verification.harness.output_topics import OutputTopicReader

_WARM_UP_SHARE = 0.1  # of a drain: the first batches fill caches and start threads


class _Ingest(msgspec.Struct):
    ingest_time_ms: int


@dataclass(frozen=True, slots=True)
class Appends:
    """Times of N answers, epoch milliseconds by the broker's clock.

    Attributes:
        source_ms: (N,) int64, when their events were appended.
        answer_ms: (N,) int64, when they were.
    """

    source_ms: NDArray[np.int64]
    answer_ms: NDArray[np.int64]


def read_appends(bootstrap: str, start: Mapping[tuple[str, int], int], end: Offsets) -> Appends:
    """Read the answers from `start` to `end` and return their times."""
    decode = msgspec.json.Decoder(_Ingest).decode
    source, answer = [], []
    with OutputTopicReader(bootstrap) as reader:
        for record in reader.read_to(end, start):
            assert record.append_ms >= 0, f"{record.topic} has no LogAppendTime"
            answer.append(record.append_ms)
            source.append(decode(record.value).ingest_time_ms)
    return Appends(np.array(source, np.int64), np.array(answer, np.int64))


def percentiles(appends: Appends, warm_up_ms: int) -> dict[str, float]:
    """Return p50, p95 and p99 in ms of the answers to events appended later than `warm_up_ms` after the first.

    Raises:
        ValueError: There are none.
    """
    if not len(appends.source_ms):
        raise ValueError("no answers were published: nothing to take percentiles of")
    warm = appends.source_ms >= appends.source_ms.min() + warm_up_ms
    if not warm.any():
        raise ValueError(f"all {len(warm)} answers are to events of the first {warm_up_ms} ms: measure for longer")
    p50, p95, p99 = np.percentile((appends.answer_ms - appends.source_ms)[warm], [50, 95, 99])
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "p99": round(float(p99), 1)}


def drain_rate(answer_ms: NDArray[np.int64]) -> float:
    """Return answers a second from the end of the first tenth to the last one, by append times (N,) in any order.

    Raises:
        ValueError: There are too few, or they all came within one millisecond.
    """
    ordered = np.sort(answer_ms)
    first = int(len(ordered) * _WARM_UP_SHARE)
    if len(ordered) < 10 or ordered[-1] <= ordered[first]:
        raise ValueError(f"{len(ordered)} answers are too few for a rate")
    return float((len(ordered) - 1 - first) * 1000 / (ordered[-1] - ordered[first]))
