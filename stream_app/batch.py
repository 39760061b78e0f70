"""The values of a batch in the pipeline: the offsets it applies, its decoded events, and its scored events.

`stream_app.pipeline` builds these plain values; `stream_app.outputs`, the handler and replay read them. The rows of all arrays
are the batch's events in folding order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_app.codec.answers import SourceRecord
from stream_app.codec.outbox import OutboxBatch
from stream_app.decision.decide import Decisions
from stream_app.events import Event, Source
from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.fold_types import FoldResult
from stream_app.ranked import RankedBatch


@dataclass(frozen=True, slots=True)
class OffsetSpan:
    """Offsets [start, end) of one topic that a batch applies to a group, under the epoch of the group's claim."""

    group: int
    epoch: str
    topic: str
    start: int
    end: int


class DeadRecord(NamedTuple):
    """A record that is no valid event: why, for a person and (`kind`) for a metric, and its group."""

    record: SourceRecord
    topic: str
    reason: str
    kind: str
    group: int


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A decoded batch: events in folding order with their coordinates and groups, and the invalid records."""

    spans: Sequence[OffsetSpan]
    events: list[Event]
    sources: list[Source]
    groups: list[int]
    records: list[SourceRecord]
    dead: list[DeadRecord]
    columns: EventColumns | None
    rows: Mapping[str, EntityRows]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch's folded and scored rows, and the outboxes of the commits that answered its duplicates first."""

    folded: FoldResult
    ranked: RankedBatch
    decisions: Decisions
    alerts: list[bool]
    commits: npt.NDArray[np.int64]  # (B,) commit number of the event's step; a lower `duplicate_of` is of an earlier batch
    earlier: Mapping[tuple[int, int], OutboxBatch | None]  # by (group, commit); None: the store no longer keeps it
