"""gap_mean over a window, gap_std and gap_min over the last interactions: the pace of an entity's events."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.sequence import ENTRY, SEQUENCE
from stream_app.features.state.state_schema import Need

__all__ = ["GAP_MEAN", "GAP_MIN", "GAP_STD", "SPECS", "read_gap_mean", "read_gap_min", "read_gap_std"]

GAP_MEAN: Final = 10
GAP_STD: Final = 20
GAP_MIN: Final = 21


def _needs(f: Feature) -> tuple[Need, ...]:
    return tuple(Need(f.window, op, f.measure) for op in ("sum", "first", "latest"))


SPECS: Final = {
    "gap_mean": Spec(GAP_MEAN, _needs, lambda f: f"(last - first) / ({f.measure} - 1) over {f.window}"),
    "gap_std": Spec(GAP_STD, lambda _: (), lambda _: f"std of the gaps of the last {SEQUENCE} interactions"),
    "gap_min": Spec(GAP_MIN, lambda _: (), lambda _: f"shortest gap of the last {SEQUENCE} interactions"),
}


@inlined
def read_gap_mean(count: Int, first: Int, latest: Int, default: Real) -> Real:
    """Return the mean seconds between neighbours; `default` below two events."""
    return (latest - first) / 1000.0 / (count - 1) if count >= 2 else default


@inlined
def _gap(row: NDArray[np.int64], start: Int, total: Int, back: Int) -> Int:
    newer = start + 1 + ((total - back) % SEQUENCE) * ENTRY
    older = start + 1 + ((total - back - 1) % SEQUENCE) * ENTRY
    return np.int64(abs(row[newer] - row[older]))


@inlined
def read_gap_std(row: NDArray[np.int64], start: Int, default: Real) -> Real:
    """Return the population standard deviation of the gaps in seconds; `default` below three interactions."""
    total = row[start]
    gaps = min(total, np.int64(SEQUENCE)) - 1
    if gaps < 2:
        return default
    sums, squares = np.float64(0.0), np.float64(0.0)
    for back in range(1, gaps + 1):
        gap = _gap(row, start, total, back) / 1000.0
        sums += gap
    mean = sums / gaps
    for back in range(1, gaps + 1):
        off = _gap(row, start, total, back) / 1000.0 - mean
        squares += off * off
    return np.float64(np.sqrt(squares / gaps))


@inlined
def read_gap_min(row: NDArray[np.int64], start: Int, default: Real) -> Real:
    """Return the shortest gap in seconds; `default` below two interactions."""
    total = row[start]
    gaps = min(total, np.int64(SEQUENCE)) - 1
    if gaps < 1:
        return default
    least = _gap(row, start, total, np.int64(1))
    for back in range(2, gaps + 1):
        least = min(least, _gap(row, start, total, back))
    return least / 1000.0
