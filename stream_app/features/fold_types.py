"""Inputs of a fold beside events and state, and its results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import contract
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.fold import FoldBatch, FoldOutput


@dataclass(frozen=True, slots=True)
class MergedReplicas:
    """Other groups' replicas of N entities, merged: rows (N, W) int64; held (N,), whether there is any replica."""

    rows: NDArray[np.int64]
    held: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LatenessFlags:
    """Lateness and repetition of B events, from a fold of the first kind, for separate folds of other kinds (split replay).

    late_by_ms and duplicate_of, (B,) int64, as in FoldResult.
    """

    late_by_ms: NDArray[np.int64]
    duplicate_of: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The tensors of model.contract.INPUTS for B events, and the effects on the state.

    dense (B, F) float32, context (B, 4), item (B, 2), sequence_ids (B, 32, 4) int32, sequence_gaps (B, 32) float32, query (B, 4),
    query_ids (B, 4, 4) int32, query_gaps (B, 4) float32. late (B,): the event is older than the allowed lateness; its features
    and sequences are zeros and it changed nothing; late_by_ms (B,) int64, behind its user's newest event, 0 if not late.
    duplicate_of (B,) int64: the number of the step that applied the event before, -1 for a new event; a duplicate changed
    nothing. touched: per kind (N,) bool, rows to write back.
    """

    dense: NDArray[np.float32]
    context: NDArray[np.int32]
    item: NDArray[np.int32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]
    query: NDArray[np.int32]
    query_ids: NDArray[np.int32]
    query_gaps: NDArray[np.float32]
    late: NDArray[np.bool_]
    late_by_ms: NDArray[np.int64]
    duplicate_of: NDArray[np.int64]
    touched: dict[str, NDArray[np.bool_]]

    def inputs(self) -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
        """Return the tensors by their names in model.contract.INPUTS."""
        return {spec.name: getattr(self, spec.name) for spec in contract.INPUTS}


class FoldPass:
    """One batch's fold, kind by kind.

    Attributes:
        batch: The B events, as the fold reads them.
        out: The tensors that it writes.
        has_flags: Whether lateness and repetition are known.
        touched: As in FoldResult, for the kinds folded so far.
    """

    def __init__(self, columns: EventColumns, commits: NDArray[np.int64] | None, out: FoldOutput, *, has_flags: bool) -> None:
        commits = np.zeros(len(columns), np.int64) if commits is None else np.ascontiguousarray(commits, np.int64)
        self.batch = FoldBatch(columns.time_ms, columns.values, columns.ids, columns.query, columns.event, commits)
        self.out, self.has_flags = out, has_flags
        self.touched: dict[str, NDArray[np.bool_]] = {}
        self._columns = columns

    def result(self) -> FoldResult:
        """Return the tensors, after all kinds."""
        out, columns = self.out, self._columns
        late = out.late_by > 0
        out.dense[late] = 0.0
        return FoldResult(
            dense=out.dense,
            context=columns.context,
            item=np.ascontiguousarray(columns.ids[:, :2]),
            sequence_ids=out.sequence_ids,
            sequence_gaps=out.sequence_gaps,
            query=columns.query,
            query_ids=out.query_ids,
            query_gaps=out.query_gaps,
            late=late,
            late_by_ms=out.late_by,
            duplicate_of=out.duplicate_of,
            touched=self.touched,
        )
