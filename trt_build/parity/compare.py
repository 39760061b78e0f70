"""Compare a model's outputs with reference outputs for the same rows: differences, worst rows, and agreement in ranking items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.plan import Precision
from trt_build.parity.tolerances import OVERLAPS, TOLERANCES, Tolerance

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
    """Compare each output (B, ...) of a model in `precision`, by task; `items` (N, D) are ranked with a retrieval's output."""
    return [_difference(name, value, candidate[name], kinds[name], precision, items) for name, value in reference.items()]


def merged(parts: Sequence[Sequence[OutputDifference]]) -> list[OutputDifference]:
    """Return the worst of several comparisons for each task; of the means, too, the largest counts."""
    best: dict[str, OutputDifference] = {}
    for difference in (difference for part in parts for difference in part):
        pair = (best.get(difference.task, difference), difference)
        best[difference.task] = replace(
            max(pair, key=lambda one: one.largest),
            mean=max(one.mean for one in pair),
            overlap=min((one.overlap for one in pair if one.overlap is not None), default=None),
        )
    return list(best.values())


def overlap_at(reference: NDArray[Any], candidate: NDArray[Any], items: NDArray[Any]) -> float:
    """Return the share of the 20 best of `items` (N, D) by `reference` (B, D) among those by `candidate` (B, D), on average."""
    count = min(RANKED, len(items))
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
        limits=TOLERANCES[precision][kind],
        worst=tuple(LargestDifference(row, float(flat_reference[row, at]), float(flat_candidate[row, at])) for row, at in places),
        overlap=overlap_at(reference, candidate, items) if kind == "retrieval" and items is not None else None,
        least_overlap=OVERLAPS[precision],
    )
