"""The schema of one entity kind's state: the cells that a catalogue's features need.

A schema is independent of the features. Its JSON text is stored beside the state, so that a worker with another catalogue can
read the state; its hash is the first part of every blob.

    {"format": 2, "kind": "user", "sequence": true, "session_gap_ms": 1800000,
     "blocks": [{"window": {"length_ms": ..., "tile_ms": ..., "spare_tiles": ...},
                 "cells": [{"op": "sum", "measure": {...}, "words": 0}, ...]}, ...],
     "lasts": [{"field": "device", "kinds": []}], "histograms": [{"measure": {...}, "cells": 24}], "session": [...]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from stream_app.events import KINDS
from stream_app.features.declarations import Catalogue, EntityKind, Measure

FORMAT: Final = 2  # raise it when the bytes of a blob, or what a cell holds, change
Operation = Literal["sum", "clipped", "square", "max", "latest", "min", "first", "distinct"]
# In this order in a record: layout.py.
OPERATIONS: Final = ("sum", "clipped", "square", "max", "latest", "min", "first", "distinct")


class MeasureKey(msgspec.Struct, frozen=True, order=True):
    """The meaning of a measure, without its name. `kinds` are in order of events.KINDS, so that equal meanings compare equal."""

    field: str
    kinds: tuple[str, ...] = ()

    @classmethod
    def of(cls, measure: Measure) -> MeasureKey:
        """Return the meaning of a declared measure."""
        return cls(measure.field, tuple(kind for kind in KINDS if kind in measure.kinds))


class StateCell(msgspec.Struct, frozen=True, order=True):
    """One column of a tile's record; `words` of them for a distinct set."""

    op: Operation
    measure: MeasureKey
    words: int = 0

    @property
    def columns(self) -> int:
        """The number of columns."""
        return self.words or 1


class WindowSpan(msgspec.Struct, frozen=True, order=True):
    """A window without its name."""

    length_ms: int
    tile_ms: int
    spare_tiles: int

    @property
    def tiles(self) -> int:
        """Whole tiles in the window."""
        return self.length_ms // self.tile_ms

    @property
    def slots(self) -> int:
        """Tiles kept."""
        return self.tiles + 1 + self.spare_tiles


class Block(msgspec.Struct, frozen=True):
    """A ring of tiles."""

    window: WindowSpan
    cells: tuple[StateCell, ...]

    @property
    def width(self) -> int:
        """Columns of one record."""
        return sum(cell.columns for cell in self.cells)


class Histogram(msgspec.Struct, frozen=True, order=True):
    """Counts of a measure's values, in `cells` cells."""

    measure: MeasureKey
    cells: int


class StateSchema(msgspec.Struct, frozen=True):
    """The schema of one kind's state."""

    kind: str
    sequence: bool
    session_gap_ms: int
    blocks: tuple[Block, ...]
    lasts: tuple[MeasureKey, ...]
    histograms: tuple[Histogram, ...]
    session: tuple[MeasureKey, ...]
    format: int = FORMAT

    def text(self) -> str:
        """Return the schema as JSON; equal schemas give equal texts."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @property
    def tag(self) -> bytes:
        """The first 4 bytes of blobs with this schema."""
        return hashlib.sha256(self.text().encode()).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> StateSchema:
        """Parse the result of `text()`. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(text, type=cls)


class Need(msgspec.Struct, frozen=True):
    """A part of the state that a feature reads. `where`: a window, or "last", "histogram", "session"."""

    where: str
    op: str
    measure: str
    size: int = 0


def schema_of(catalogue: Catalogue, kind: EntityKind, needs: Iterable[Need]) -> StateSchema:
    """Return the schema with all parts that the features of a kind need, each once, in an order that features do not affect."""
    needed = set(needs)
    keys = {m.name: MeasureKey.of(m) for m in catalogue.measures}
    blocks = []
    for window in catalogue.windows:
        cells = [
            StateCell(op, keys[m.name], need.size)
            for op in OPERATIONS
            for m in catalogue.measures
            for need in needed
            if (need.where, need.op, need.measure) == (window.name, op, m.name)
        ]
        if cells:
            blocks.append(Block(WindowSpan(window.length_ms, window.tile_ms, window.spare_tiles), tuple(cells)))

    def lifetime(where: str) -> Iterator[tuple[MeasureKey, int]]:
        for measure in catalogue.measures:
            yield from ((keys[measure.name], n.size) for n in needed if (n.where, n.measure) == (where, measure.name))

    return StateSchema(
        kind=kind.name,
        sequence=kind.sequence,
        session_gap_ms=kind.session_gap_ms,
        blocks=tuple(blocks),
        lasts=tuple(key for key, _ in lifetime("last")),
        histograms=tuple(Histogram(key, size) for key, size in lifetime("histogram")),
        session=tuple(key for key, _ in lifetime("session")),
    )
