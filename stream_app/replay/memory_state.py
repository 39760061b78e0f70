"""State of all entities in memory, as rows of the matrices that the fold reads, so that no chunk unpacks or packs state.

There is one partition group, and events come in canonical order. An entity keeps its row between batches. When a kind reaches
its row limit, the least recently used rows are packed into blobs; the next event of such an entity unpacks its blob. The limit
does not change any result.

State expires by event time when an entity was silent for longer than its kind's TTL, as the live store expires it by the clock,
so memory does not grow with the length of the log. The fold applies the TTL event by event, independent of batch borders; this
module only frees the memory of expired entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.columns.keys import KeyIndex, Vacancies, words_of
from stream_app.features.declarations import EntityKind
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldPass, FoldResult, LatenessFlags
from stream_app.features.state.blob import newest_ms_of
from stream_app.features.state.blobs import Blobs
from stream_app.features.state.memory import clear_rows, sparse_zeros
from stream_app.features.state.packed import PackedStates

_HOT_BYTES: Final = 1 << 27  # of all rows together: a row of a user is 10 kB, its blob some hundred bytes
_FIRST_ROWS: Final = 1 << 10  # initial size of the key index; doubled when full
_FEWEST_SWEPT: Final = 1 << 14  # entities of a kind below which no sweep for expired ones starts


class MemoryState:
    """Folds batches into state in memory, of `kinds` or of all entity kinds of the catalogue.

    `hot_bytes` bound the unpacked rows of all kinds; other rows are packed. Entities of the current batch are always unpacked.
    """

    def __init__(self, engine: FeatureEngine, kinds: Sequence[str] = (), *, hot_bytes: int = _HOT_BYTES) -> None:
        self._engine = engine
        widths = engine.widths()
        chosen = [kind for kind in engine.kinds if not kinds or kind.name in kinds]
        # Half of the bytes gives every kind the same number of rows; kinds that need more take rows from the other half.
        share = max(1, hot_bytes // 2 // (8 * sum(widths[kind.name] for kind in chosen)))
        spare = _Spare(hot_bytes // 2)
        self._tables = {kind.name: _Table(engine, kind, widths[kind.name], share, spare) for kind in chosen}

    def fold(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, flags: LatenessFlags | None = None
    ) -> FoldResult:
        """Read every event's features and update its entities, as `FeatureEngine.fold` does.

        The B events are in order of time, none before the last event of the previous batch.
        """
        fold_pass = self._engine.begin(columns, commits, flags)
        self._fold_into(fold_pass, columns, list(self._tables))
        return fold_pass.result()

    def folds(self, batches: Iterable[tuple[EventColumns, NDArray[np.int64]]]) -> Iterator[FoldResult]:
        """Fold batch after batch as `fold` does, on two cores.

        While this thread folds the shared kinds of a batch, and reads the next one, another thread folds the next one's kinds of
        one user. Each kind sees the batches in their order, so the result is the same. One or two batches are read ahead.
        """
        shared = [kind.name for kind in self._engine.kinds if kind.shared and kind.name in self._tables]
        of_users = [kind for kind in self._tables if kind not in shared]

        def begin_fold(columns: EventColumns, commits: NDArray[np.int64]) -> FoldPass:
            fold_pass = self._engine.begin(columns, commits)
            self._fold_into(fold_pass, columns, of_users)
            return fold_pass

        with ThreadPoolExecutor(1, "millrace-fold") as executor:
            before: tuple[EventColumns, Future[FoldPass]] | None = None
            for columns, commits in batches:
                current = columns, executor.submit(begin_fold, columns, commits)
                if before is not None:
                    yield self._finished(*before, shared)
                before = current
            if before is not None:
                yield self._finished(*before, shared)

    def _finished(self, columns: EventColumns, future: Future[FoldPass], shared: Sequence[str]) -> FoldResult:
        fold_pass = future.result()
        self._fold_into(fold_pass, columns, shared)
        return fold_pass.result()

    def _fold_into(self, fold_pass: FoldPass, columns: EventColumns, kinds: Sequence[str]) -> None:
        tables = {kind: self._tables[kind] for kind in kinds}
        rows = {kind: table.numbers(columns.keys[kind], columns.time_ms) for kind, table in tables.items()}
        self._engine.fold_into(fold_pass, rows, {kind: table.state for kind, table in tables.items()})

    def load(self, kind: str, keys: Sequence[bytes], blobs: Blobs) -> None:
        """Load packed state of entities; replaces their current state."""
        self._tables[kind].load(keys, blobs)

    def packed(self, kind: str, most: int = 1 << 12) -> Iterator[tuple[list[bytes], Blobs]]:
        """Yield all of a kind's entities with their packed state, in order of their keys, at most `most` at a time."""
        return self._tables[kind].packed(most)

    def entities(self) -> Mapping[str, int]:
        """Return how many entities of each kind have state."""
        return {kind: table.entities() for kind, table in self._tables.items()}


class _Spare:
    """Bytes for rows that any kind may take beyond its share; they are never returned."""

    def __init__(self, size: int) -> None:
        self.bytes = size
        self._lock = Lock()  # two threads use the tables of one MemoryState

    def take(self, rows: int, of_bytes: int) -> int:
        """Take space for `rows` rows, or as many as fit; return their number."""
        with self._lock:
            granted = min(rows, max(0, self.bytes // of_bytes))
            self.bytes -= granted * of_bytes
            return granted


class _Table:
    """All entities of one kind: hot entities have a row in `state`, cold ones a blob. A vacant row is all zeros.

    Rows are opened in order, so that the operating system never backs unused ones with memory.
    """

    def __init__(self, engine: FeatureEngine, kind: EntityKind, width: int, share: int, spare: _Spare) -> None:
        self._engine, self._kind, self._ttl_ms = engine, kind.name, kind.ttl_ms
        self._room, self._spare = share, spare  # rows that may be opened now
        most = share + spare.bytes // (8 * width)
        self.state = sparse_zeros(most, width)
        self._index = KeyIndex(min(most, _FIRST_ROWS))
        self._opened = self._hot = 0
        self._vacant = Vacancies()  # of the opened rows
        self._cold = PackedStates()
        self._batch = 0
        self._sweep_at = _FEWEST_SWEPT

    def __len__(self) -> int:
        return self._hot + len(self._cold)

    def entities(self) -> int:
        """Return how many entities have state."""
        return len(self._with_state()) + len(self._cold)

    def _used_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._index.used[: self._opened])

    def _with_state(self) -> NDArray[np.int64]:
        """Return the rows of hot entities with state; late and repeated events leave rows without state."""
        rows = self._used_rows()
        is_known: NDArray[np.bool_] = self.state[rows, 0] > 0
        return rows[is_known]

    def numbers(self, keys: Sequence[bytes], time_ms: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the rows of a batch's entities, -1 for b""."""
        self._batch += 1
        words = words_of(keys)
        numbers, missing = self._index.find(words, self._batch)
        if missing:
            if len(self) >= self._sweep_at:
                self._sweep(int(time_ms[0]))
            self._heat(words, numbers, missing)
        return numbers

    def load(self, keys: Sequence[bytes], blobs: Blobs) -> None:
        """Load packed state."""
        words, newest_ms = words_of(keys), np.array([newest_ms_of(blob) for blob in blobs], np.int64)
        rows = self._index.rows_of(words)
        self._vacate(np.unique(rows[rows >= 0]).astype(np.int64))
        self._cold.put(words, blobs, newest_ms)

    def packed(self, most: int) -> Iterator[tuple[list[bytes], Blobs]]:
        """Yield all entities in order of their keys."""
        rows = self._with_state()
        row_of = dict(zip(self._index.keys(rows), rows.tolist(), strict=True))
        keys = sorted([*row_of, *self._cold.keys()])
        for first in range(0, len(keys), most):
            part = keys[first : first + most]
            chosen = np.array([row_of[key] for key in part if key in row_of], np.int64)
            hot = iter(self._engine.pack(self._kind, self.state, chosen))
            cold = iter(self._cold.blobs(words_of([key for key in part if key not in row_of])))
            yield part, Blobs.of([next(hot if key in row_of else cold) for key in part])

    def _heat(self, words: NDArray[np.uint64], numbers: NDArray[np.int32], missing: int) -> None:
        """Assign rows to entities that have none."""
        free = self._free(missing)
        first = self._index.add(words, numbers, self._batch, free)
        self._hot += len(free)
        known, blobs = self._cold.take(words[first])
        if len(known):
            self.state[free[known]] = self._engine.unpack(self._kind, blobs)

    def _free(self, count: int) -> NDArray[np.int32]:
        """Return `count` empty rows: vacant rows, new rows, or rows of entities that become cold."""
        opening = count - len(self._vacant)
        if opening > self._room:
            self._room += self._spare.take(opening - self._room, 8 * self.state.shape[1])
        if opening > self._room:
            self._cool(opening - self._room)
            opening = count - len(self._vacant)
        opening = max(0, opening)
        self._grow(self._opened + opening)
        opened = np.arange(self._opened, self._opened + opening, dtype=np.int32)
        self._opened, self._room = self._opened + opening, max(0, self._room - opening)
        return np.concatenate((self._vacant.take(count - opening), opened))

    def _cool(self, lacking: int) -> None:
        """Pack the least recently used rows, except those of this batch."""
        rows_in_use = self._used_rows()
        used = self._index.used[rows_in_use]
        idle, used = rows_in_use[used < self._batch], used[used < self._batch]
        going = min(len(idle), max(lacking, self._opened // 4))  # pack many at once: packing works on batches
        rows = idle[np.argsort(used, kind="stable")[:going]]
        with_state = rows[self.state[rows, 0] > 0]
        blobs = self._engine.pack(self._kind, self.state, with_state)
        self._cold.put(self._index.words[with_state], blobs, self.state[with_state, 0] - 1)
        self._vacate(rows)

    def _vacate(self, rows: NDArray[np.int64]) -> None:
        if len(rows):
            self._index.remove(rows)
            clear_rows(self.state, rows)
            self._hot -= len(rows)
            self._vacant.give(rows)

    def _sweep(self, now_ms: int) -> None:
        """Free the entities whose TTL has expired."""
        oldest, rows = now_ms - self._ttl_ms, self._used_rows()
        self._vacate(rows[(self.state[rows, 0] - 1 < oldest) & (self._index.used[rows] < self._batch)])
        self._cold.forget(oldest)
        self._sweep_at = max(_FEWEST_SWEPT, 2 * len(self))

    def _grow(self, rows: int) -> None:
        """Grow index and matrix to at least `rows` rows."""
        if rows > len(self._index):
            self._index.grow(max(rows, 2 * len(self._index)))
        if rows > len(self.state):  # entities of the current batch are hot beyond the limit
            state = sparse_zeros(max(rows, 2 * len(self.state)), self.state.shape[1])
            state[: self._opened] = self.state[: self._opened]
            self.state = state
