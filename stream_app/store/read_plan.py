"""What a batch reads: index entries, blobs of which group, and how the answers become one Snapshot. No connection here.

Three steps, with requests between them: `ReadPlan` numbers the entities, `choose_replicas` picks the replicas of each shared row
(as `replica_selection.select_replicas` does for one row), `snapshot` builds the result. A blob that several rows need
is read once.
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

__all__ = ["ReadPlan", "ReplicaChoice"]

_EMPTY: Final = np.empty(0, np.int64)

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReplicaChoice:
    """What a batch wants, once it is known who holds replicas.

    group, entity (W,): what is asked for, each once, by group and entity ascending. own (R,), asked (P,): positions in them of
    the rows' own blobs and of the replicas, row by row. counts, held (S,): how many replicas each shared row asks, and how many
    other groups hold one.
    """

    group: Numbers
    entity: Numbers
    own: Numbers
    replicas: Numbers
    counts: Numbers
    held: Numbers


class ReadPlan:
    """The rows of one batch, all kinds after another; an entity of a shared kind has one number whatever group wants it.

    Attributes:
        ids: Of each entity, in hex; those of one kind stand together.
        index: Names of the index entries of the shared entities.
    """

    def __init__(self, prefix: str, groups: int, shared_kinds: frozenset[str], rows: Mapping[str, EntityRows]) -> None:
        self._prefix, self._groups, self._shared, self._rows = prefix, groups, shared_kinds, rows
        self.ids: list[str] = []
        self.index: list[str] = []
        self._starts: list[int] = []  # of each kind's entities
        entity: list[Numbers] = []  # of a row
        entry: list[Numbers] = []  # of a shared row
        for kind, wanted in rows.items():
            self._starts.append(len(self.ids))
            if kind in shared_kinds:
                known = {key: at for at, key in enumerate(dict.fromkeys(wanted.keys))}
                numbers = np.fromiter(map(known.__getitem__, wanted.keys), np.int64, len(wanted.keys))
                entry.append(numbers + len(self.index))
                head, ids = holders_head(prefix, kind), [key.hex() for key in known]
                self.index += [head + each for each in ids]
            else:
                numbers, ids = np.arange(len(wanted.keys), dtype=np.int64), [key.hex() for key in wanted.keys]
            entity.append(numbers + len(self.ids))
            self.ids += ids
        self._entity, self._entry = _joined(entity), _joined(entry)
        self._group = _joined([wanted.groups.astype(np.int64) for wanted in rows.values()])
        self._shared_rows = np.flatnonzero(_joined([np.full(len(w.keys), kind in shared_kinds) for kind, w in rows.items()]))

    def choose_replicas(self, bitmaps: Sequence[bytes | None], most: int) -> ReplicaChoice:
        """Pick the replicas to ask.

        Args:
            bitmaps: The index entries, in order of `index`.
            most: Most replicas of one row.
        """
        row, group, counts, held = self._select(bitmaps, most)
        entities = max(len(self.ids), 1)
        own = self._group * entities + self._entity
        asked = group * entities + self._entity[self._shared_rows[row]]
        wanted, place = np.unique(np.concatenate((own, asked)), return_inverse=True)
        wanted_group, wanted_entity = np.divmod(wanted, entities)
        return ReplicaChoice(wanted_group, wanted_entity, place[: len(own)], place[len(own) :], counts, held)

    def _select(self, bitmaps: Sequence[bytes | None], most: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """(shared row, group) of each replica to ask, row by row, a row's in the order of its asking; counts and held."""
        total = len(self._shared_rows)
        held, counts = np.zeros(total, np.int64), np.zeros(total, np.int64)
        width = (self._groups + 7) // 8
        packed = b"".join([(bits or b"")[:width].ljust(width, b"\0") for bits in bitmaps])
        has = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(-1, width), axis=1, count=self._groups).astype(bool)
        own = self._group[self._shared_rows]
        some = np.flatnonzero(has.sum(1)[self._entry] - has[self._entry, own])  # rows that others hold: often few
        others = (own[some, None] + 1 + np.arange(self._groups - 1)) % self._groups  # in the order of asking
        holds = has[self._entry[some, None], others]
        taken = holds & (np.cumsum(holds, axis=1) <= most)
        held[some], counts[some] = holds.sum(1), taken.sum(1)
        at, place = np.nonzero(taken)
        return some[at], others[at, place], counts, held

    def names(self, choice: ReplicaChoice) -> list[str]:
        """The keys of what is wanted."""
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
        """Put together what was found under `names`."""
        own, others = {}, {}
        at = row = question = 0
        for kind, wanted in self._rows.items():
            size = len(wanted.keys)
            own[kind] = Blobs.of([blobs[place] for place in choice.own[at : at + size].tolist()])
            at += size
            if kind in self._shared:
                counts, held = choice.counts[row : row + size], choice.held[row : row + size]
                last = question + int(counts.sum())
                others[kind] = build_replicas(blobs, choice.replicas[question:last], counts, held)
                row, question = row + size, last
        return Snapshot(own, others, reads)


def _joined(parts: Iterable[NDArray[Any]]) -> Numbers:
    return np.concatenate([_EMPTY, *parts])
