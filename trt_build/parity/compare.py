"""Two answers to the same rows, set against each other: how far apart, on which rows most, and whether they rank items alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.plan import Precision
from trt_build.parity.tolerances import OVERLAPS, Tolerance, tolerance

__all__ = ["LargestDifference", "OutputDifference", "compare", "merged", "overlap_at"]

_WORST: Final = 3
RANKED: Final = 20  # items that are answered to an event


@dataclass(frozen=True)
class LargestDifference:
    """A row on which answers are far apart: its number, and the two numbers that differ most."""

    row: int
    wanted: float
    found: float


@dataclass(frozen=True)
class OutputDifference:
    """How far one output is from its source, over all inputs and batch sizes; infinite where only one of them is finite.

    Attributes:
        task: name of the output.
        largest: absolute difference.
        mean: absolute difference.
        limits: what is allowed.
        worst: the rows that are furthest off, the worst first.
        overlap: of the best items, for a retrieval; None for others or without items.
        least_overlap: what is asked of it.
    """

    task: str
    largest: float
    mean: float
    limits: Tolerance
    worst: tuple[LargestDifference, ...] = ()
    overlap: float | None = None
    least_overlap: float = 0.0

    @property
    def allowed(self) -> float:
        """The largest absolute difference allowed."""
        return self.limits.largest

    @property
    def fine(self) -> bool:
        """Whether all is within what is allowed."""
        ranks = self.overlap is None or self.overlap >= self.least_overlap
        return self.largest <= self.limits.largest and self.mean <= self.limits.mean and ranks

    def text(self) -> str:
        """Say it in one sentence, the worst rows with it."""
        parts = [f"{self.task}: {self.largest:.3g} at most ({self.limits.largest:.0e} allowed), {self.mean:.2g} on average"]
        parts[0] += f" ({self.limits.mean:.0e})"
        if self.overlap is not None:
            parts.append(f"the best {RANKED} items agree to {self.overlap:.2%} (at least {self.least_overlap:.1%})")
        rows = ", ".join(f"row {w.row}: {w.found:.6g} for {w.wanted:.6g}" for w in self.worst)
        return "; ".join([*parts, f"worst {rows}"] if rows else parts)


def compare(
    wanted: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    kinds: Mapping[str, str],
    precision: Precision,
    items: NDArray[Any] | None = None,
) -> list[OutputDifference]:
    """Compare each output.

    Args:
        wanted: the source's answers by task, each (B, ...).
        found: the answers that are judged.
        kinds: kind of each task.
        precision: of what is judged.
        items: (N, D) vectors of items to rank with a retrieval's answers; None = no ranking.
    """
    return [_difference(name, value, found[name], kinds[name], precision, items) for name, value in wanted.items()]


def merged(parts: Sequence[Sequence[OutputDifference]]) -> list[OutputDifference]:
    """Return, for each task, the worst of several comparisons; means of them are not mixed: the largest counts."""
    best: dict[str, OutputDifference] = {}
    for difference in (one for part in parts for one in part):
        seen = best.get(difference.task)
        if seen is None:
            best[difference.task] = difference
            continue
        worse = difference if difference.largest > seen.largest else seen
        overlaps = [one.overlap for one in (seen, difference) if one.overlap is not None]
        best[difference.task] = OutputDifference(
            task=worse.task,
            largest=worse.largest,
            mean=max(seen.mean, difference.mean),
            limits=worse.limits,
            worst=worse.worst,
            overlap=min(overlaps, default=None),
            least_overlap=worse.least_overlap,
        )
    return list(best.values())


def overlap_at(wanted: NDArray[Any], found: NDArray[Any], items: NDArray[Any], count: int = RANKED) -> float:
    """Return the share of the best items by `wanted` that are among the best by `found`, on average over rows.

    Args:
        wanted: (B, D) vectors.
        found: (B, D) vectors.
        items: (N, D) vectors of items.
        count: how many are the best.
    """
    count = min(count, len(items))
    best = [np.argpartition(-(vectors @ items.T), count - 1, axis=1)[:, :count] for vectors in (wanted, found)]
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(*best, strict=True)]
    return float(np.mean(shared)) / count


def _difference(
    task: str, wanted: NDArray[Any], found: NDArray[Any], kind: str, precision: Precision, items: NDArray[Any] | None
) -> OutputDifference:
    with np.errstate(invalid="ignore"):
        gaps = np.abs(found.astype(np.float64) - wanted).reshape(len(wanted), -1)
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    by_row = gaps.max(axis=1)
    order = np.argsort(-by_row)[:_WORST]
    places = [(int(row), int(gaps[row].argmax())) for row in order if by_row[row] > 0]
    flat_wanted, flat_found = wanted.reshape(gaps.shape), found.reshape(gaps.shape)
    return OutputDifference(
        task=task,
        largest=float(by_row.max(initial=0.0)),
        mean=float(gaps.mean()),
        limits=tolerance(precision, kind),
        worst=tuple(LargestDifference(row, float(flat_wanted[row, at]), float(flat_found[row, at])) for row, at in places),
        overlap=overlap_at(wanted, found, items) if kind == "retrieval" and items is not None else None,
        least_overlap=OVERLAPS[precision],
    )
