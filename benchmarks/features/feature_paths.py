"""The path of a batch through the feature engine, timed piece by piece, without the rest of the worker.

No decoding, no model, no answers, no Kafka. `FeaturePath`: read the state from a store, fold, write it back under the fence.
`ResidentPath`: fold into state that stays in memory as the engine's rows, with nothing to read or write.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EntityRows, EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.store.port import CommitStatus, GroupStep, StateWrite, Store

_ROOM = 1 << 17  # entities of a kind: the real logs fit in, so that nothing is copied
_TOPIC = "clicks"  # the fence wants offsets of some topic


@dataclass(slots=True)
class Laps:
    """Seconds by piece, and how many events they are of. Pieces of a store elsewhere hold the waiting for it."""

    events: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _last: float = 0.0

    def start(self) -> None:
        """Begin a piece."""
        self._last = time.perf_counter()

    def lap(self, piece: str) -> None:
        """End a piece and begin the next."""
        now = time.perf_counter()
        self.seconds[piece] += now - self._last
        self._last = now

    def add(self, other: Laps) -> None:
        """Add another's."""
        self.events += other.events
        for piece, seconds in other.seconds.items():
            self.seconds[piece] += seconds

    def us(self) -> dict[str, float]:
        """Return microseconds an event, by piece."""
        return {piece: round(seconds / max(1, self.events) * 1e6, 3) for piece, seconds in self.seconds.items()}


@dataclass(slots=True)
class FeaturePath:
    """Batches through one store, each after the one before it, by a warm engine. Groups must be claimed first."""

    engine: FeatureEngine
    store: Store
    laps: Laps = field(default_factory=Laps)
    _epochs: dict[int, str] = field(default_factory=dict)
    _offsets: Counter[int] = field(default_factory=Counter)

    async def claim(self, groups: Sequence[int]) -> None:
        """Claim `groups` at the store, as their only writer."""
        for group in groups:
            claim = await self.store.claim(group, "bench-features")
            self._epochs[group] = claim.epoch
            self._offsets[group] = claim.fronts.get(_TOPIC, 0)

    async def take(self, columns: EventColumns) -> FoldResult:
        """Read what a batch's entities have, fold the batch, and commit it.

        Raises:
            RuntimeError: The store refused a step.
        """
        engine, laps = self.engine, self.laps
        laps.start()
        rows = engine.rows(columns)
        laps.lap("rows")
        snapshot = await self.store.read(rows)
        laps.lap("read")
        own = {kind: engine.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
        replicas_of = {kind: engine.merge(kind, replicas) for kind, replicas in snapshot.others.items()}
        laps.lap("unpack")
        reads = np.array([snapshot.reads[group] for group in range(len(snapshot.reads))], np.int64)
        folded = engine.fold(columns, rows, own, replicas_of, reads[columns.group] + 1)
        laps.lap("fold")
        writes = self._writes(rows, own, folded)
        steps = [self._step(columns, group, snapshot.reads[group], of_group) for group, of_group in writes.items()]
        laps.lap("pack")
        results = await self.store.commit(steps)
        laps.lap("commit")
        refused = [result for result in results if result.status is not CommitStatus.APPLIED]
        if refused:
            raise RuntimeError(f"the store refused a step: {refused[0]}")
        laps.events += len(columns)
        return folded

    def _writes(
        self, rows: Mapping[str, EntityRows], own: Mapping[str, NDArray[np.int64]], folded: FoldResult
    ) -> dict[int, list[StateWrite]]:
        writes: dict[int, list[StateWrite]] = {}
        for kind in self.engine.kinds:
            of_kind, changed = rows[kind.name], np.flatnonzero(folded.touched[kind.name])
            if not len(changed):
                continue
            blobs = self.engine.pack(kind.name, own[kind.name], changed)
            groups, firsts = np.unique(of_kind.groups[changed], return_index=True)  # groups of rows ascend
            ends = [*firsts.tolist()[1:], len(changed)]
            keys = [of_kind.keys[row] for row in changed.tolist()]
            for group, first, end in zip(groups.tolist(), firsts.tolist(), ends, strict=True):
                write = StateWrite(kind.name, kind.shared, keys[first:end], blobs.part(first, end), kind.ttl_ms)
                writes.setdefault(group, []).append(write)
        return writes

    def _step(self, columns: EventColumns, group: int, after: int, writes: Sequence[StateWrite]) -> GroupStep:
        start = self._offsets[group]
        self._offsets[group] = start + int(np.count_nonzero(columns.group == group))
        return GroupStep(group, self._epochs[group], {_TOPIC: (start, self._offsets[group])}, b"", writes, after=after)


class _Rows:
    """All entities of one kind, numbered in order of appearance, and a row of state for each. Zeros are an empty row."""

    def __init__(self, width: int) -> None:
        self.state = np.zeros((_ROOM, width), np.int64)  # untouched memory costs nothing
        self.groups = np.zeros(_ROOM, np.int32)
        self.keys: list[bytes] = []
        self._number = {b"": -1}

    def numbers(self, keys: Sequence[bytes]) -> NDArray[np.int32]:
        """Return the numbers of a batch's entities, -1 for none; new ones get the next."""
        if not any(keys):
            return np.full(len(keys), -1, np.int32)
        numbers = list(map(self._number.get, keys))
        if None in numbers:
            for at in [at for at, number in enumerate(numbers) if number is None]:
                numbers[at] = self._number.setdefault(keys[at], len(self.keys))
                if numbers[at] == len(self.keys):
                    self.keys.append(keys[at])
        return np.fromiter(numbers, np.int32, len(numbers))

    def reserve(self, keys: Iterable[bytes]) -> None:
        """Add rows for new entities."""
        first = len(self.keys)
        last = first + len(set(keys) - self._number.keys())
        while last > len(self.state):
            self.state = np.concatenate((self.state, np.zeros_like(self.state)))
            self.groups = np.zeros(len(self.state), np.int32)
        self.state[first:last] = 0


class ResidentPath:
    """State of all entities as rows in memory, of one group: what updates and reads cost by themselves.

    `laps` has what it took to `number` the entities, and to `fold`.
    """

    def __init__(self, engine: FeatureEngine, laps: Laps) -> None:
        self._engine = engine
        self._laps = laps
        self._kinds = {kind: _Rows(width) for kind, width in engine.widths().items()}

    def reserve(self, batches: Sequence[EventColumns]) -> None:
        """Set memory aside for the entities of what comes next, as a process that runs has it: page faults are not measured."""
        for kind, rows in self._kinds.items():
            rows.reserve(key for columns in batches for key in columns.keys[kind])

    def take(self, columns: EventColumns) -> FoldResult:
        """Fold a batch, for which there is room, into the rows of its entities."""
        self._laps.start()
        rows, own = {}, {}
        for kind, of_kind in self._kinds.items():
            number = of_kind.numbers(columns.keys[kind])
            count = len(of_kind.keys)
            rows[kind] = EntityRows(of_kind.groups[:count], of_kind.keys, number)
            own[kind] = of_kind.state[:count]
        self._laps.lap("number")
        folded = self._engine.fold(columns, rows, own, {})
        self._laps.lap("fold")
        self._laps.events += len(columns)
        return folded


async def in_lanes(paths: Sequence[FeaturePath], batches: Sequence[Sequence[EventColumns]]) -> None:
    """Take the batches of each lane in order, the lanes at the same time: while one waits for the store, another computes."""

    async def one(path: FeaturePath, of_lane: Sequence[EventColumns]) -> None:
        for columns in of_lane:
            await path.take(columns)

    await asyncio.gather(*(one(path, of_lane) for path, of_lane in zip(paths, batches, strict=True)))
