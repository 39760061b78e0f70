"""State of a canonical replay in files, and back: one file of each process that holds a share of the entities.

Which process holds an entity is told by its key, so any number of processes can go on from what any number has written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from stream_app.codec.outbox import decode_outbox
from stream_app.features.engine import FeatureEngine
from stream_app.features.state.blobs import Blobs
from stream_app.replay.checkpoints.state_file import EntityFrame, GroupHeader, StateHeader, read_header, read_state, write_state
from stream_app.replay.duplicate_cache import DuplicateCache
from stream_app.replay.memory_state import MemoryState
from stream_app.replay.parallel.partitioning import share_of

__all__ = ["WHOLE", "StateShard", "load_kept", "load_state", "save_state"]

_GROUP: Final = 0
_MERGED_AT_ONCE: Final = 4_096


@dataclass(frozen=True, slots=True)
class StateShard:
    """Which of `shares` of the entities a process holds."""

    number: int
    shares: int

    def of(self, keys: list[bytes], blobs: Blobs) -> tuple[list[bytes], Blobs]:
        """Return what belongs to this share."""
        if self.shares == 1:
            return keys, blobs
        at = np.flatnonzero(share_of(keys, self.shares) == self.number).tolist()
        return [keys[number] for number in at], Blobs.of([blobs[number] for number in at])


WHOLE: Final = StateShard(0, 1)


class _Kept(msgspec.Struct):
    """Answers that may be asked for again: number, time and payload of each batch."""

    kept: list[tuple[int, int, bytes]]


def save_state(path: Path, engine: FeatureEngine, states: Sequence[MemoryState], events: int, kept: DuplicateCache) -> None:
    """Write a file.

    Args:
        path: Is replaced as a whole.
        engine: Whose state it is.
        states: Each of kinds of its own.
        events: So many were replayed.
        kept: Answers that may be asked for again.
    """
    header = StateHeader(
        catalogue_hash=engine.catalogue_hash,
        layouts=engine.layout_records(),
        groups={_GROUP: GroupHeader(events, {})},
        replay=msgspec.json.encode(_Kept(kept.kept())),
    )
    write_state(path, header, _frames(states))


def _frames(states: Sequence[MemoryState]) -> Iterator[EntityFrame]:
    for state in states:
        for kind in state.entities():
            for keys, blobs in state.packed(kind):
                yield EntityFrame.of(_GROUP, kind, keys, blobs)


def load_state(paths: Sequence[Path], engine: FeatureEngine, states: Mapping[str, MemoryState], share: StateShard = WHOLE) -> int:
    """Begin with the state of files. Replicas that several groups hold of an entity become one.

    Args:
        paths: What `save_state` or `millrace snapshot` wrote.
        engine: Learns what the files' blobs look like.
        states: Who keeps each kind.
        share: Of the entities; the others are left out.

    Returns:
        So many commits that state has seen: events are numbered behind them, so what it says of the past is never taken for what
        the coming events do.

    Raises:
        InputFileError: A file is damaged.
        ContractError: A file describes state of another release.
    """
    commits = 0
    for path in paths:
        header = read_header(path)
        engine.learn_layouts(header.layouts)
        replicas: dict[str, dict[bytes, list[bytes]]] = {}
        for frame in read_state(path):
            keys, blobs = share.of(frame.keys, frame.blobs())
            if len(header.groups) == 1:
                states[frame.kind].load(frame.kind, keys, blobs)
                continue
            held = replicas.setdefault(frame.kind, {})
            for key, blob in zip(keys, blobs, strict=True):
                held.setdefault(key, []).append(blob)
        for kind, of_kind in replicas.items():
            _load_merged(engine, states[kind], kind, of_kind)
        commits = max(commits, *(group.commit for group in header.groups.values()), 0)
    return commits


def load_kept(paths: Sequence[Path], kept: DuplicateCache) -> None:
    """Take in the answers that may be asked for again.

    Raises:
        InputFileError: A file is damaged.
    """
    for path in paths:
        for first, newest_ms, payload in msgspec.json.decode(read_header(path).replay, type=_Kept).kept:
            kept.add(first, newest_ms, decode_outbox(payload))


def _load_merged(engine: FeatureEngine, state: MemoryState, kind: str, replicas: dict[bytes, list[bytes]]) -> None:
    single = [key for key, blobs in replicas.items() if len(blobs) == 1]
    state.load(kind, single, Blobs.of([replicas[key][0] for key in single]))
    several = [key for key, blobs in replicas.items() if len(blobs) > 1]
    for first in range(0, len(several), _MERGED_AT_ONCE):
        part = several[first : first + _MERGED_AT_ONCE]
        merged = engine.merge(kind, [replicas[key] for key in part])
        state.load(kind, part, engine.pack(kind, merged.rows))
