"""Compare a model's outputs with reference outputs for the same rows: differences, worst rows, and agreement in ranking items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.plan import Precision
from trt_build.parity.tolerances import OVERLAPS, Tolerance, tolerance

_WORST: Final = 3
RANKED: Final = 20  # items of an answer


@dataclass(frozen=True)
class LargestDifference:
    """A row with a large difference: its number, and the two values that differ most."""

    row: int
    reference: float
    candidate: float


@dataclass(frozen=True)
class OutputDifference:
    """The difference of one output from the reference, over all inputs and batch sizes; infinite where only one is finite.

    Attributes:
        task: name of the output.
        largest: absolute difference.
        mean: absolute difference.
        limits: largest and mean difference allowed.
        worst: rows with the largest differences, the worst first.
        overlap: share of the best items that agree, for a retrieval with items; else None.
        least_overlap: smallest overlap allowed.
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
        """Whether everything is within its limits."""
        ranks = self.overlap is None or self.overlap >= self.least_overlap
        return self.largest <= self.limits.largest and self.mean <= self.limits.mean and ranks

    def text(self) -> str:
        """Return one sentence with the worst rows."""
        parts = [f"{self.task}: {self.largest:.3g} at most ({self.limits.largest:.0e} allowed), {self.mean:.2g} on average"]
        parts[0] += f" ({self.limits.mean:.0e})"
        if self.overlap is not None:
            parts.append(f"the best {RANKED} items agree to {self.overlap:.2%} (at least {self.least_overlap:.1%})")
        rows = ", ".join(f"row {w.row}: {w.candidate:.6g} for {w.reference:.6g}" for w in self.worst)
        return "; ".join([*parts, f"worst {rows}"] if rows else parts)


def compare(
    reference: Mapping[str, NDArray[Any]],
    candidate: Mapping[str, NDArray[Any]],
    kinds: Mapping[str, str],
    precision: Precision,
    items: NDArray[Any] | None = None,
) -> list[OutputDifference]:
    """Compare each output.

    Args:
        reference: outputs by task, each (B, ...).
        candidate: outputs by task, likewise.
        kinds: kind of each task.
        precision: of the candidate.
        items: (N, D) item vectors to rank with a retrieval's output; None = no ranking.
    """
    return [_difference(name, value, candidate[name], kinds[name], precision, items) for name, value in reference.items()]


def merged(parts: Sequence[Sequence[OutputDifference]]) -> list[OutputDifference]:
    """Return the worst of several comparisons for each task; of the means, too, the largest counts."""
    best: dict[str, OutputDifference] = {}
    for difference in (difference for part in parts for difference in part):
        worst = best.get(difference.task)
        if worst is None:
            best[difference.task] = difference
            continue
        worse = difference if difference.largest > worst.largest else worst
        overlaps = [d.overlap for d in (worst, difference) if d.overlap is not None]
        best[difference.task] = OutputDifference(
            task=worse.task,
            largest=worse.largest,
            mean=max(worst.mean, difference.mean),
            limits=worse.limits,
            worst=worse.worst,
            overlap=min(overlaps, default=None),
            least_overlap=worse.least_overlap,
        )
    return list(best.values())


def overlap_at(reference: NDArray[Any], candidate: NDArray[Any], items: NDArray[Any], count: int = RANKED) -> float:
    """Return the share of the best items by `reference` that are among the best by `candidate`, on average over rows.

    Args:
        reference: (B, D) vectors.
        candidate: (B, D) vectors.
        items: (N, D) vectors of items.
        count: how many are the best.
    """
    count = min(count, len(items))
    best = [np.argpartition(-(vectors @ items.T), count - 1, axis=1)[:, :count] for vectors in (reference, candidate)]
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(*best, strict=True)]
    return float(np.mean(shared)) / count


def _difference(
    task: str, reference: NDArray[Any], candidate: NDArray[Any], kind: str, precision: Precision, items: NDArray[Any] | None
) -> OutputDifference:
    with np.errstate(invalid="ignore"):
        gaps = np.abs(candidate.astype(np.float64) - reference).reshape(len(reference), -1)
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    by_row = gaps.max(axis=1)
    order = np.argsort(-by_row)[:_WORST]
    places = [(int(row), int(gaps[row].argmax())) for row in order if by_row[row] > 0]
    flat_reference, flat_candidate = reference.reshape(gaps.shape), candidate.reshape(gaps.shape)
    return OutputDifference(
        task=task,
        largest=float(by_row.max(initial=0.0)),
        mean=float(gaps.mean()),
        limits=tolerance(precision, kind),
        worst=tuple(LargestDifference(row, float(flat_reference[row, at]), float(flat_candidate[row, at])) for row, at in places),
        overlap=overlap_at(reference, candidate, items) if kind == "retrieval" and items is not None else None,
        least_overlap=OVERLAPS[precision],
    )
