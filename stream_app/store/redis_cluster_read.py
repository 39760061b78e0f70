"""What a batch reads from a cluster: which index entries, which blobs of which group, and how the answers become one Snapshot.

Three steps, with the requests to the nodes between them: `ReadPlan` numbers the batch's entities, `chosen` picks the replicas
that each shared row asks (as `stream_app.store.holders.asked` would), `snapshot` puts the answers together. A blob that several
rows want is asked for once. No connection here.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.blobs import Blobs
from stream_app.features.columns import EntityRows
from stream_app.store.port import Snapshot
from stream_app.store.redis_layout import flat, group_head, holders_head, pack, replicas_of

__all__ = ["Choice", "ReadPlan", "slot_of"]

_SLOTS: Final = 16_384
_EMPTY: Final = np.empty(0, np.int64)

Numbers = NDArray[np.int64]


def slot_of(head: str, ids: Sequence[str]) -> list[int]:
    """The slots of keys without a hash tag: `head` and an identifier each."""
    begun = crc_hqx(head.encode(), 0)
    return [crc_hqx(each.encode(), begun) % _SLOTS for each in ids]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a batch wants, once it is known who holds replicas.

    wanted (W,): group * entities + entity, ascending: what is asked for, each once. own (R,), asked (P,): positions in `wanted`
    of the rows' own blobs and of the replicas, row by row. row (P,): the shared row that asks. held, count (S,): how many other
    groups hold one, and how many of them are asked.
    """

    wanted: Numbers
    own: Numbers
    asked: Numbers
    row: Numbers
    held: Numbers
    count: Numbers


class ReadPlan:
    """The rows of one batch, all kinds after another; an entity of a shared kind has one number whatever group wants it."""

    def __init__(self, prefix: str, groups: int, shared_kinds: frozenset[str], rows: Mapping[str, EntityRows]) -> None:
        self._prefix, self._groups, self._shared, self._rows = prefix, groups, shared_kinds, rows
        self._kinds = list(rows)
        self._ids: list[str] = []  # of an entity, in hex
        entity: list[Numbers] = []  # of a row
        self.index: list[tuple[str, int]] = []  # key and slot of the index entries, in order of the shared entities
        shared_entity: list[Numbers] = []  # the number of a shared row's entity among the index entries
        sizes: list[int] = []
        for kind in self._kinds:
            keys = rows[kind].keys
            if kind in shared_kinds:
                known = {key: at for at, key in enumerate(dict.fromkeys(keys))}
                of_row = np.fromiter(map(known.__getitem__, keys), np.int64, len(keys))
                shared_entity.append(of_row + len(self.index))
                head, ids = holders_head(prefix, kind), [key.hex() for key in known]
                self.index.extend(zip([head + each for each in ids], slot_of(head, ids), strict=True))
            else:
                of_row, ids = np.arange(len(keys), dtype=np.int64), [key.hex() for key in keys]
            entity.append(of_row + len(self._ids))
            self._ids.extend(ids)
            sizes.append(len(ids))
        self._entity = _joined(entity)
        self._kind = np.repeat(np.arange(len(sizes)), sizes)  # of an entity
        self._digits = np.fromiter(map(len, self._ids), np.int64, len(self._ids))
        self._group = _joined([rows[kind].groups.astype(np.int64) for kind in self._kinds])
        self._shared_entity = _joined(shared_entity)
        is_shared = [np.full(len(rows[kind].keys), kind in shared_kinds) for kind in self._kinds]
        self._shared_rows = np.flatnonzero(_joined(is_shared))

    def chosen(self, bitmaps: Sequence[bytes | None], most: int) -> Choice:
        """Pick the replicas to ask.

        Args:
            bitmaps: The index entries, in order of `index`.
            most: Most replicas of one row.
        """
        row, group, held, count = self._picked(bitmaps, most)
        entities = max(len(self._ids), 1)
        own = self._group * entities + self._entity
        asked = group * entities + self._entity[self._shared_rows[row]]
        wanted = np.unique(np.concatenate((own, asked)))
        return Choice(wanted, np.searchsorted(wanted, own), np.searchsorted(wanted, asked), row, held, count)

    def _picked(self, bitmaps: Sequence[bytes | None], most: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """(row, group) of each replica to ask, row by row, a row's in the order of its asking; held and count of each row."""
        total = len(self._shared_rows)
        held, count = np.zeros(total, np.int64), np.zeros(total, np.int64)
        width = (self._groups + 7) // 8
        packed = b"".join([(bits or b"")[:width].ljust(width, b"\0") for bits in bitmaps])
        has = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(-1, width), axis=1, count=self._groups).astype(bool)
        own = self._group[self._shared_rows]
        some = np.flatnonzero(has.sum(1)[self._shared_entity] - has[self._shared_entity, own])  # rows that others hold: few
        others = (own[some, None] + 1 + np.arange(self._groups - 1)) % self._groups  # in the order of asking
        holds = has[self._shared_entity[some, None], others]
        taken = holds & (np.cumsum(holds, axis=1) <= most)
        held[some], count[some] = holds.sum(1), taken.sum(1)
        at, place = np.nonzero(taken)
        return some[at], others[at, place], held, count

    def requests(self, choice: Choice) -> list[tuple[int, tuple[bytes, str]]]:
        """Group -> ARGV of READ_GROUP, groups ascending; the blobs of all answers, in this order, are those of `wanted`."""
        entities = max(len(self._ids), 1)
        group, entity = np.divmod(choice.wanted, entities)
        bounds = [*np.flatnonzero(np.diff(group, prepend=-1)).tolist(), len(group)]
        return [(int(group[first]), self._request(int(group[first]), entity[first:last])) for first, last in pairwise(bounds)]

    def _request(self, group: int, entities: Numbers) -> tuple[bytes, str]:
        kinds, digits = self._kind[entities], self._digits[entities]
        starts = np.flatnonzero((np.diff(kinds, prepend=-1) != 0) | (np.diff(digits, prepend=-1) != 0))
        counts = np.diff(starts, append=len(entities))
        names = [self._kinds[kind] for kind in kinds[starts].tolist()]
        runs = list(zip(names, digits[starts].tolist(), counts.tolist(), strict=True))
        return pack((group_head(self._prefix, group), runs)), "".join(map(self._ids.__getitem__, entities.tolist()))

    def snapshot(self, choice: Choice, answers: Sequence[Sequence[Any]], reads: Mapping[int, int]) -> Snapshot:
        """Put together what READ_GROUP answered, in order of `requests`."""
        blobs = [value for _, chunks in answers for value in flat(chunks)]
        own, others = {}, {}
        at = row = 0
        for kind, wanted in self._rows.items():
            size = len(wanted.keys)
            own[kind] = Blobs.of([blobs[place] for place in choice.own[at : at + size].tolist()])
            at += size
            if kind in self._shared:
                of_kind = slice(row, row + size)
                first, last = np.searchsorted(choice.row, (row, row + size))
                others[kind] = replicas_of(blobs, choice.asked[first:last], choice.count[of_kind], choice.held[of_kind])
                row += size
        return Snapshot(own, others, dict(sorted(reads.items())))


def _joined(parts: Iterable[NDArray[Any]]) -> Numbers:
    return np.concatenate([_EMPTY, *parts])
