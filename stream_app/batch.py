"""What a batch is on its way through the pipeline: the offsets it applies, its decoded events, and what was judged of them.

Plain values, made by `stream_app.pipeline` and read by whoever answers them (`stream_app.outputs`), commits them or writes
them to files. Rows of all arrays are the batch's events in folding order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_app.codec.answers import SourceRecord
from stream_app.codec.outbox import OutboxBatch
from stream_app.decision.decide import Decisions
from stream_app.events import Event, Source
from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.fold_types import FoldResult
from stream_app.ranked import RankedBatch

__all__ = ["DecodedBatch", "OffsetSpan", "ScoredBatch"]


@dataclass(frozen=True, slots=True)
class OffsetSpan:
    """Offsets [start, end) of one topic that a batch applies to a group, under the epoch it was claimed with."""

    group: int
    epoch: str
    topic: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A decoded batch: events in folding order with their coordinates and groups, and the records that are no events."""

    spans: Sequence[OffsetSpan]
    events: list[Event]
    sources: list[Source]
    groups: list[int]
    records: list[SourceRecord]
    dead: list[tuple[SourceRecord, str, str, int]]  # record, topic, reason, group
    columns: EventColumns | None
    rows: Mapping[str, EntityRows]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch's folded and scored rows, and the outboxes of the earlier commits that its duplicates were answered in."""

    folded: FoldResult
    ranked: RankedBatch
    decisions: Decisions
    alerts: list[bool]
    commits: npt.NDArray[np.int64]  # (B,) what the step of the event's group will be numbered; a duplicate of less came before
    earlier: Mapping[tuple[int, int], OutboxBatch | None]  # by (group, commit); None: no longer kept
