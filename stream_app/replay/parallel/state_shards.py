"""Save and load the state of a canonical replay: one file per process, each with a share of the entities.

An entity's key determines its share, so a replay can resume on another number of processes.
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

_GROUP: Final = 0
_MERGED_AT_ONCE: Final = 4_096


@dataclass(frozen=True, slots=True)
class StateShard:
    """The share of the entities that one process holds: number `number` of `shares`."""

    number: int
    shares: int

    def of(self, keys: list[bytes], blobs: Blobs) -> tuple[list[bytes], Blobs]:
        """Return the entities of this share."""
        if self.shares == 1:
            return keys, blobs
        at = np.flatnonzero(share_of(keys, self.shares) == self.number).tolist()
        return [keys[number] for number in at], Blobs.of([blobs[number] for number in at])


WHOLE: Final = StateShard(0, 1)


class _CachedAnswers(msgspec.Struct):
    """Answers that later duplicates may need: number, time and payload of each batch."""

    entries: list[tuple[int, int, bytes]] = msgspec.field(name="kept")


def save_state(path: Path, engine: FeatureEngine, states: Sequence[MemoryState], events: int, duplicates: DuplicateCache) -> None:
    """Replace a file by states (disjoint in their entity kinds), the number of replayed events and the cached answers."""
    header = StateHeader(
        catalogue_hash=engine.catalogue_hash,
        layouts=engine.layout_records(),
        groups={_GROUP: GroupHeader(events, {})},
        replay=msgspec.json.encode(_CachedAnswers(duplicates.entries())),
    )
    write_state(path, header, _frames(states))


def _frames(states: Sequence[MemoryState]) -> Iterator[EntityFrame]:
    for state in states:
        for kind in state.entities():
            for keys, blobs in state.packed(kind):
                yield EntityFrame.of(_GROUP, kind, keys, blobs)


def load_state(paths: Sequence[Path], engine: FeatureEngine, states: Mapping[str, MemoryState], share: StateShard = WHOLE) -> int:
    """Load the state of files. Replicas of an entity in several groups are merged.

    Args:
        paths: Files of `save_state` or `millrace snapshot`.
        engine: Learns the layouts of the files' blobs.
        states: Entity kind -> state.
        share: The share to load; other entities are skipped.

    Returns:
        The highest commit number. The replay numbers its events after it, so that no stored number matches that of a new event.

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
            by_key = replicas.setdefault(frame.kind, {})
            for key, blob in zip(keys, blobs, strict=True):
                by_key.setdefault(key, []).append(blob)
        for kind, of_kind in replicas.items():
            _load_merged(engine, states[kind], kind, of_kind)
        commits = max(commits, *(group.commit for group in header.groups.values()), 0)
    return commits


def load_answers(paths: Sequence[Path], duplicates: DuplicateCache) -> None:
    """Load the answers that later duplicates may need.

    Raises:
        InputFileError: A file is damaged.
    """
    for path in paths:
        for first, newest_ms, payload in msgspec.json.decode(read_header(path).replay, type=_CachedAnswers).entries:
            duplicates.add(first, newest_ms, decode_outbox(payload))


def _load_merged(engine: FeatureEngine, state: MemoryState, kind: str, replicas: dict[bytes, list[bytes]]) -> None:
    single = [key for key, blobs in replicas.items() if len(blobs) == 1]
    state.load(kind, single, Blobs.of([replicas[key][0] for key in single]))
    several = [key for key, blobs in replicas.items() if len(blobs) > 1]
    for first in range(0, len(several), _MERGED_AT_ONCE):
        part = several[first : first + _MERGED_AT_ONCE]
        merged = engine.merge(kind, [replicas[key] for key in part])
        state.load(kind, part, engine.pack(kind, merged.rows))
