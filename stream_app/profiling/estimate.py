"""Estimate the bytes of state for given traffic: fold real events, measure real blobs.

Every event goes through the engine as in a worker, by partition group, so a shared entity counts once for each group that sees
it. `KEY_BYTES` is the overhead of Redis per key: `MEMORY USAGE` minus the length of the value, on Redis 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from stream_app.features.state.blobs import Blobs

if TYPE_CHECKING:
    from rich.table import Table

    from stream_app.events import Event
    from stream_app.features.engine import FeatureEngine
    from stream_app.privacy import Pseudonymizer

KEY_BYTES: Final = 150  # of a key and its entry, its expiry's entry, and the value's header; see the test that measures it
_HOLDER_BYTES: Final = 160  # of the index entry of a shared entity
_BATCH: Final = 4_096
# Items, categories and queries do not grow with the users.
_NOT_WITH_USERS: Final = frozenset({"item", "category", "query"})


@dataclass(frozen=True, slots=True)
class KindBytes:
    """Blobs of one kind, of all groups: how many, percentiles and sum of their lengths."""

    kind: str
    shared: bool
    entities: int  # different ones; a shared one may be several blobs
    count: int
    p50: int
    p95: int
    p99: int
    most: int
    total: int


@dataclass(slots=True)
class MeasuredState:
    """State that a log leaves behind."""

    events: int = 0
    late: int = 0
    duplicates: int = 0
    first_ms: int = 0
    last_ms: int = 0
    kinds: list[KindBytes] = field(default_factory=list)

    @property
    def users(self) -> int:
        """How many users have state at the end."""
        return self.kinds[0].entities if self.kinds else 0

    def scale(self, kind: KindBytes, users: int, items: int) -> float:
        """Return by how much the number of a kind grows if there are so many users and items; 0: as measured."""
        if kind.kind == "item":
            return items / kind.entities if items and kind.entities else 1.0
        return users / self.users if users and self.users and kind.kind not in _NOT_WITH_USERS else 1.0


def measure(
    engine: FeatureEngine,
    identity: Pseudonymizer,
    events: Iterable[Event],
    group_of: Callable[[str], int],
    on_progress: Callable[[int], None] = lambda _events: None,
) -> MeasuredState:
    """Fold events in order of arrival and measure their state; any key of `identity` gives the same bytes.

    `group_of` is user -> partition group. `on_progress` is called after each batch with the number of events so far.
    """
    measured, state = MeasuredState(), _State(engine)
    source = iter(events)
    while batch := list(islice(source, _BATCH)):
        columns = engine.columns(batch, [group_of(event.user) for event in batch], identity)
        rows = engine.rows(columns)
        own = {kind: engine.unpack(kind, state.read(kind, needed.groups.tolist(), needed.keys)) for kind, needed in rows.items()}
        result = engine.fold(columns, rows, own, {})
        for kind, needed in rows.items():
            changed = np.flatnonzero(result.touched[kind])
            blobs = engine.pack(kind, own[kind], changed)
            places = [(int(needed.groups[i]), needed.keys[i]) for i in changed.tolist()]
            state.write(kind, places, blobs, (own[kind][changed, 0] - 1).tolist())  # a row begins with its newest time, plus 1
        first_ms = int(columns.time_ms.min())
        measured.first_ms = min(measured.first_ms, first_ms) if measured.events else first_ms
        measured.last_ms = max(measured.last_ms, int(columns.time_ms.max()))
        measured.events += len(batch)
        measured.late += int(result.late.sum())
        measured.duplicates += int((result.duplicate_of >= 0).sum())
        on_progress(measured.events)
    measured.kinds = state.measured(measured.last_ms)
    return measured


class _State:
    """Blobs by (group, key), with the event time of their newest event, from which on the store would let them expire."""

    def __init__(self, engine: FeatureEngine) -> None:
        self._engine = engine
        self._blobs: dict[str, dict[tuple[int, bytes], tuple[bytes, int]]] = {kind.name: {} for kind in engine.kinds}

    def read(self, kind: str, groups: list[int], keys: list[bytes]) -> Blobs:
        known = self._blobs[kind]
        return Blobs.of([known.get(place, (None, 0))[0] for place in zip(groups, keys, strict=True)])

    def write(self, kind: str, places: list[tuple[int, bytes]], blobs: Blobs, newest_ms: list[int]) -> None:
        self._blobs[kind].update(zip(places, zip(blobs, newest_ms, strict=True), strict=True))

    def measured(self, end_ms: int) -> list[KindBytes]:
        found = []
        for kind in self._engine.kinds:
            alive = {place: blob for place, (blob, ms) in self._blobs[kind.name].items() if ms > end_ms - kind.ttl_ms}
            lengths = np.sort(np.array([len(blob) for blob in alive.values()] or [0], np.int64))
            p50, p95, p99 = (int(lengths[min(len(lengths) - 1, int(len(lengths) * share))]) for share in (0.5, 0.95, 0.99))
            entities = len({key for _, key in alive})
            total = int(lengths.sum())
            found.append(KindBytes(kind.name, kind.shared, entities, len(alive), p50, p95, p99, int(lengths[-1]), total))
        return found


def estimate_json(measured: MeasuredState, users: int = 0, items: int = 0) -> dict[str, object]:
    """Return the figures, scaled to so many users and items (0: as measured).

    Bytes are of blobs; `redis_bytes` are with what Redis adds, but for the room that its memory allocator leaves empty.
    """
    entities: dict[str, object] = {}
    total = with_redis = 0
    for kind in measured.kinds:
        scale = measured.scale(kind, users, items)
        blob_bytes, redis_bytes = round(kind.total * scale), round(_in_redis(kind) * scale)
        entities[kind.kind] = {
            "count": round(kind.count * scale),
            "bytes_p50": kind.p50,
            "bytes_p95": kind.p95,
            "bytes_p99": kind.p99,
            "bytes_max": kind.most,
            "total_bytes": blob_bytes,
            "redis_bytes": redis_bytes,
        }
        total, with_redis = total + blob_bytes, with_redis + redis_bytes
    return {
        "events": measured.events,
        "measured_users": measured.users,
        "users": users or measured.users,
        "days": round((measured.last_ms - measured.first_ms) / 86_400_000, 3),
        "late": measured.late,
        "duplicates": measured.duplicates,
        "entities": entities,
        "total_bytes": total,
        "redis_bytes": with_redis,
    }


def estimate_table(figures: Mapping[str, object]) -> Table:
    """Return `estimate_json` as a table, a row for each kind and one for all."""
    from rich.table import Table

    table = Table("entity", "blobs", "p50", "p95", "p99", "most", "all blobs", "in Redis")
    for column in table.columns[1:]:
        column.justify = "right"
    entities = figures["entities"]
    assert isinstance(entities, dict)
    for kind, found in entities.items():
        sizes = [f"{found[name]:,} B" for name in ("bytes_p50", "bytes_p95", "bytes_p99", "bytes_max")]
        table.add_row(kind, f"{found['count']:,}", *sizes, _size(found["total_bytes"]), _size(found["redis_bytes"]))
    table.add_section()
    table.add_row("all", "", "", "", "", "", _size(figures["total_bytes"]), _size(figures["redis_bytes"]))
    return table


def _in_redis(kind: KindBytes) -> int:
    return kind.total + kind.count * KEY_BYTES + (kind.entities * _HOLDER_BYTES if kind.shared else 0)


def _size(count: object) -> str:
    assert isinstance(count, int)
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"
