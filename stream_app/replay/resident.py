"""State of all entities in memory, as rows of the fold's own matrices: a chunk of a replay unpacks and packs nothing.

One partition group, events in canonical order. An entity's row stays where it is from one batch to the next. When a kind has as
many rows as it may have, those that were used longest ago are packed and kept as blobs; the next event of such an entity unpacks
its blob. What is folded does not depend on that bound.

An entity that has been silent for longer than its kind's time to live is forgotten, by event time, as the store forgets it live
by the clock: so memory does not grow with the length of a log. Nor does that depend on how the log is cut, as long as no batch
spans more than the shortest time to live (a day): `Resident.span_ms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.blobs import Blobs
from stream_app.features.columns import EntityRows, EventColumns
from stream_app.features.declare import EntityKind
from stream_app.features.engine import FeatureEngine, FoldResult, Judged

__all__ = ["Resident"]

_FIRST_ROOM: Final = 1 << 10  # rows of a kind; doubled when they are not enough
_HOT_BYTES: Final = 512 << 20  # of all rows together: a row of a user is 10 kB, its blob some hundred bytes
_FEWEST_SWEPT: Final = 1 << 14  # entities of a kind below which none is looked for that may be forgotten


class Resident:
    """Folds batches into state that it keeps.

    Args:
        engine: Any, warm.
        kinds: The entity kinds to fold; empty: all of the catalogue.
        hot_bytes: Rows of all kinds together; what is beyond is kept packed. A batch's own entities are hot whatever this says.

    Attributes:
        span_ms: The longest time that a batch may span.
    """

    def __init__(self, engine: FeatureEngine, kinds: Sequence[str] = (), *, hot_bytes: int = _HOT_BYTES) -> None:
        self._engine = engine
        widths = engine.widths()
        chosen = [kind for kind in engine.kinds if not kinds or kind.name in kinds]
        # Every kind may have the same number of hot rows: users, whose rows are the widest, decide.
        room = max(1, hot_bytes // (8 * sum(widths[kind.name] for kind in chosen)))
        self._tables = {kind.name: _Table(engine, kind, widths[kind.name], room) for kind in chosen}
        self.span_ms = min(kind.ttl_ms for kind in engine.kinds)

    def fold(self, columns: EventColumns, commits: NDArray[np.int64] | None = None, judged: Judged | None = None) -> FoldResult:
        """Read every event's features and add it to its entities, as `FeatureEngine.fold` does, with the state kept here.

        Args:
            columns: B events in order of time, spanning `span_ms` at most, none of them before the last one of the batch before.
            commits: (B,), as there.
            judged: As there.
        """
        rows: dict[str, EntityRows] = {}
        own: dict[str, NDArray[np.int64]] = {}
        if len(columns):
            assert columns.time_ms[-1] - columns.time_ms[0] <= self.span_ms, "a batch spans more than an entity may live"
        for kind, table in self._tables.items():
            number = table.numbers(columns.keys[kind], columns.time_ms)
            rows[kind], own[kind] = EntityRows(table.groups, table.names, number), table.state
        return self._engine.fold(columns, rows, own, {}, commits, judged)

    def load(self, kind: str, keys: Sequence[bytes], blobs: Blobs) -> None:
        """Take in the packed state of entities, in place of what is kept of them."""
        self._tables[kind].load(keys, blobs)

    def packed(self, kind: str, most: int = 1 << 12) -> Iterator[tuple[list[bytes], Blobs]]:
        """Yield all of a kind's entities with their packed state, in order of their keys, at most `most` at a time."""
        return self._tables[kind].packed(most)

    def entities(self) -> Mapping[str, int]:
        """Return how many entities of each kind have state."""
        return {kind: table.entities() for kind, table in self._tables.items()}


class _Table:
    """All entities of one kind: hot ones have a row in `state`, cold ones a blob. A vacant row is empty."""

    def __init__(self, engine: FeatureEngine, kind: EntityKind, width: int, room: int) -> None:
        self._engine, self._kind, self._ttl_ms, self._room = engine, kind.name, kind.ttl_ms, room
        self.state = np.zeros((min(room, _FIRST_ROOM), width), np.int64)
        self.groups = np.zeros(len(self.state), np.int32)
        self.names: list[bytes] = [b""] * len(self.state)  # by row
        self._row: dict[bytes, int] = {}
        self._vacant = list(range(len(self.state)))
        self._used = np.zeros(len(self.state), np.int64)  # the batch that last used the row
        self._cold: dict[bytes, bytes] = {}
        self._batch = 0
        self._sweep_at = _FEWEST_SWEPT

    def __len__(self) -> int:
        return len(self._row) + len(self._cold)

    def entities(self) -> int:
        """Return how many have state."""
        return len(self._with_state()) + len(self._cold)

    def _with_state(self) -> list[bytes]:
        """Return the hot ones but for those that only events without effect have named (late ones, repeated ones)."""
        keys, rows = list(self._row), np.fromiter(self._row.values(), np.int64, len(self._row))
        return list(compress(keys, (self.state[rows, 0] > 0).tolist()))

    def numbers(self, keys: Sequence[bytes], time_ms: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the rows of a batch's entities, -1 for b""; those that have been silent for too long are empty."""
        self._batch += 1
        found = list(map(self._row.get, keys))
        if None in found:
            missing = dict.fromkeys(compress(keys, [row is None for row in found]))
            missing.pop(b"", None)
            if missing:
                # What this batch needs must not make room for the rest of it.
                self._used[np.array([row for row in found if row is not None], np.int64)] = self._batch
                self._heat(list(missing), int(time_ms[0]))
            found = [self._row.get(key, -1) for key in keys]
        numbers = np.array(found, np.int32)
        there = np.flatnonzero(numbers >= 0)
        self._used[numbers[there]] = self._batch
        self._expire(numbers, there, time_ms)
        return numbers

    def _expire(self, numbers: NDArray[np.int32], there: NDArray[np.intp], time_ms: NDArray[np.int64]) -> None:
        newest = self.state[numbers[there], 0]
        silent = there[(newest > 0) & (time_ms[there] - (newest - 1) > self._ttl_ms)]
        for row in dict.fromkeys(numbers[silent].tolist()):
            first = int(np.argmax(numbers == row))
            if time_ms[first] - (self.state[row, 0] - 1) > self._ttl_ms:  # else an event of this batch has kept it alive
                self.state[row] = 0

    def load(self, keys: Sequence[bytes], blobs: Blobs) -> None:
        """Take in packed state."""
        for key in keys:
            if key in self._row:
                self._vacate(key)
        self._cold.update(zip(keys, blobs, strict=True))

    def packed(self, most: int) -> Iterator[tuple[list[bytes], Blobs]]:
        """Yield all entities in order of their keys."""
        keys = sorted([*self._with_state(), *self._cold])
        for first in range(0, len(keys), most):
            part = keys[first : first + most]
            rows = np.array([self._row[key] for key in part if key in self._row], np.int64)
            hot = iter(self._engine.pack(self._kind, self.state, rows))
            yield part, Blobs.of([next(hot) if key in self._row else self._cold[key] for key in part])

    def _heat(self, keys: list[bytes], now_ms: int) -> None:
        """Give rows to entities that have none."""
        if len(self) >= self._sweep_at:
            self._sweep(now_ms)
        free = self._free(len(keys))
        self._used[free] = self._batch
        blobs = [self._cold.pop(key, None) for key in keys]
        for key, row in zip(keys, free.tolist(), strict=True):
            self._row[key] = row
            self.names[row] = key
        known = [number for number, blob in enumerate(blobs) if blob]
        if known:
            self.state[free[known]] = self._engine.unpack(self._kind, [blobs[number] for number in known])

    def _free(self, wanted: int) -> NDArray[np.int64]:
        """Return so many empty rows: vacant ones, new ones, or those of entities that go cold."""
        while len(self._vacant) < wanted and len(self.state) < self._room:
            self._grow(min(self._room, 2 * len(self.state)))
        if len(self._vacant) < wanted:
            self._cool(wanted - len(self._vacant))
        if len(self._vacant) < wanted:
            self._grow(len(self.state) + wanted - len(self._vacant))
        return np.array([self._vacant.pop() for _ in range(wanted)], np.int64)

    def _cool(self, lacking: int) -> None:
        """Pack the rows that were used longest ago, but for those of this batch."""
        taken = np.fromiter(self._row.values(), np.int64, len(self._row))
        idle = taken[self._used[taken] < self._batch]
        going = min(len(idle), max(lacking, len(self.state) // 4))  # many at once: packing is by the batch
        if not going:
            return
        rows = idle[np.argsort(self._used[idle], kind="stable")[:going]]
        for row, blob in zip(rows.tolist(), self._engine.pack(self._kind, self.state, rows), strict=True):
            if self.state[row, 0] > 0:
                self._cold[self.names[row]] = blob
            self._vacate(self.names[row])

    def _vacate(self, key: bytes) -> None:
        row = self._row.pop(key)
        self.names[row] = b""
        self.state[row] = 0
        self._vacant.append(row)

    def _sweep(self, now_ms: int) -> None:
        """Forget who has been silent for too long: nobody will read of them."""
        oldest = now_ms - self._ttl_ms
        for key, row in list(self._row.items()):
            if self.state[row, 0] - 1 < oldest and self._used[row] < self._batch:
                self._vacate(key)
        for key in [key for key, blob in self._cold.items() if _newest_ms(blob) < oldest]:
            del self._cold[key]
        self._sweep_at = max(_FEWEST_SWEPT, 2 * len(self))

    def _grow(self, rows: int) -> None:
        before, width = self.state.shape
        self.state = np.concatenate((self.state, np.zeros((rows - before, width), np.int64)))
        self.groups = np.zeros(rows, np.int32)
        self.names += [b""] * (rows - before)
        self._used = np.concatenate((self._used, np.zeros(rows - before, np.int64)))
        self._vacant += range(before, rows)


def _newest_ms(blob: bytes) -> int:
    """The time of an entity's newest event: the first varint behind a blob's tag and check (stream_app/features/blob.py)."""
    value = shift = 0
    for byte in blob[8:18]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return value - 1
