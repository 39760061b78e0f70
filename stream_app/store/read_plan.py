"""The keys that a batch reads, and how the values become one Snapshot. No connection here.

Three steps, with requests between them: `ReadPlan` numbers the entities, `choose_replicas` picks the replicas of each shared row
(as `replica_selection.select_replicas` does for one row), `snapshot` builds the result. A blob that several rows need is read
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs
from stream_app.store.port import Snapshot
from stream_app.store.redis_layout import build_replicas, group_head, holders_head

_EMPTY: Final = np.empty(0, np.int64)

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReplicaChoice:
    """The blobs that a batch reads, once the holders are known.

    group, entity (W,): the blobs to read, each once, ascending by group and entity. own (R,), replicas (P,): positions in them of
    the rows' own blobs and of the replicas, row by row. counts, held (S,): how many replicas each shared row reads, and how many
    other groups hold one.
    """

    group: Numbers
    entity: Numbers
    own: Numbers
    replicas: Numbers
    counts: Numbers
    held: Numbers


class ReadPlan:
    """The rows of one batch, kind after kind; an entity of a shared kind has one number for all groups.

    Attributes:
        ids: The key of each entity in hex, kind after kind.
        index: Names of the shared entities' index entries.
    """

    def __init__(self, prefix: str, groups: int, shared_kinds: frozenset[str], rows: Mapping[str, EntityRows]) -> None:
        self._prefix, self._groups, self._shared, self._rows = prefix, groups, shared_kinds, rows
        self.ids: list[str] = []
        self.index: list[str] = []
        self._starts: list[int] = []  # of each kind's entities
        entity: list[Numbers] = []  # of a row
        entry: list[Numbers] = []  # of a shared row
        for kind, of_kind in rows.items():
            self._starts.append(len(self.ids))
            if kind in shared_kinds:
                places = {key: at for at, key in enumerate(dict.fromkeys(of_kind.keys))}
                numbers = np.fromiter(map(places.__getitem__, of_kind.keys), np.int64, len(of_kind.keys))
                entry.append(numbers + len(self.index))
                head, ids = holders_head(prefix, kind), [key.hex() for key in places]
                self.index += [head + each for each in ids]
            else:
                numbers, ids = np.arange(len(of_kind.keys), dtype=np.int64), [key.hex() for key in of_kind.keys]
            entity.append(numbers + len(self.ids))
            self.ids += ids
        self._entity, self._entry = _joined(entity), _joined(entry)
        self._group = _joined([of_kind.groups.astype(np.int64) for of_kind in rows.values()])
        self._shared_rows = np.flatnonzero(_joined([np.full(len(w.keys), kind in shared_kinds) for kind, w in rows.items()]))

    def choose_replicas(self, bitmaps: Sequence[bytes | None], most: int) -> ReplicaChoice:
        """Choose the replicas to read.

        Args:
            bitmaps: The index entries, in order of `index`.
            most: Most replicas for one row.
        """
        row, group, counts, held = self._select(bitmaps, most)
        entities = max(len(self.ids), 1)
        own = self._group * entities + self._entity
        replicas = group * entities + self._entity[self._shared_rows[row]]
        blobs, place = np.unique(np.concatenate((own, replicas)), return_inverse=True)
        blob_group, blob_entity = np.divmod(blobs, entities)
        return ReplicaChoice(blob_group, blob_entity, place[: len(own)], place[len(own) :], counts, held)

    def _select(self, bitmaps: Sequence[bytes | None], most: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Return (shared row, group) of each replica to read, row by row, in the order of `select_replicas`; counts and held."""
        total = len(self._shared_rows)
        held, counts = np.zeros(total, np.int64), np.zeros(total, np.int64)
        width = (self._groups + 7) // 8
        packed = b"".join([(bits or b"")[:width].ljust(width, b"\0") for bits in bitmaps])
        has = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(-1, width), axis=1, count=self._groups).astype(bool)
        own = self._group[self._shared_rows]
        some = np.flatnonzero(has.sum(1)[self._entry] - has[self._entry, own])  # rows with a replica elsewhere: often few
        others = (own[some, None] + 1 + np.arange(self._groups - 1)) % self._groups  # in the order of reading
        holds = has[self._entry[some, None], others]
        taken = holds & (np.cumsum(holds, axis=1) <= most)
        held[some], counts[some] = holds.sum(1), taken.sum(1)
        at, place = np.nonzero(taken)
        return some[at], others[at, place], counts, held

    def names(self, choice: ReplicaChoice) -> list[str]:
        """Return the keys of the blobs to read."""
        kinds, ids = list(self._rows), self.ids
        kind = np.searchsorted(self._starts, choice.entity, side="right") - 1
        new = np.flatnonzero((np.diff(choice.group, prepend=-1) != 0) | (np.diff(kind, prepend=-1) != 0))
        entities = choice.entity.tolist()
        names: list[str] = []
        for first, last in pairwise([*new.tolist(), len(entities)]):
            head = f"{group_head(self._prefix, int(choice.group[first]))}{kinds[kind[first]]}:"
            names += [head + ids[entity] for entity in entities[first:last]]
        return names

    def snapshot(self, choice: ReplicaChoice, blobs: Sequence[bytes | None], reads: Mapping[int, int]) -> Snapshot:
        """Build the snapshot from the values of `names`."""
        own, others = {}, {}
        at = row = replica = 0
        for kind, of_kind in self._rows.items():
            size = len(of_kind.keys)
            own[kind] = Blobs.of([blobs[place] for place in choice.own[at : at + size].tolist()])
            at += size
            if kind in self._shared:
                counts, held = choice.counts[row : row + size], choice.held[row : row + size]
                last = replica + int(counts.sum())
                others[kind] = build_replicas(blobs, choice.replicas[replica:last], counts, held)
                row, replica = row + size, last
        return Snapshot(own, others, reads)


def _joined(parts: Iterable[NDArray[Any]]) -> Numbers:
    return np.concatenate([_EMPTY, *parts])
