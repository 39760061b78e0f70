"""The store of a journal replay: state of every partition group, answers for duplicates, and reads in progress.

Once other groups have committed, a read whose commit is still open cannot be repeated from the state. So a checkpoint stores the
read's snapshot, and a resumed replay uses that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.codec.outbox import Messages, OutboxBatch, encode_outbox
from stream_app.events import JournalLine
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.engine import FeatureEngine
from stream_app.features.state.blobs import Replicas
from stream_app.logs.recording import RecordedRun
from stream_app.replay.checkpoints.state_file import decode_blobs, encode_blobs, read_header, read_state, write_dumps
from stream_app.replay.journal.journal_order import Commit
from stream_app.store.memory import MemoryStore
from stream_app.store.port import GroupDump, Snapshot

_SLACK_MS: Final = 600_000  # live keeps answers from their publication, whose time the journal lacks


class _Read(msgspec.Struct, array_like=True):
    """Snapshot of a read: `own` blobs by kind; `others` by kind, with the arrays `of`, `held`, `asked`; commits by group."""

    group: int
    commit: int
    own: dict[str, tuple[bytes, bytes]]
    others: dict[str, tuple[tuple[bytes, bytes], bytes, bytes, bytes]]
    commits: dict[int, int]

    @classmethod
    def of(cls, commit: Commit, seen: Snapshot) -> _Read:
        others = {
            kind: (encode_blobs(replicas.blobs), _bytes(replicas.of), _bytes(replicas.held), _bytes(replicas.asked))
            for kind, replicas in seen.others.items()
        }
        return cls(*commit, {kind: encode_blobs(blobs) for kind, blobs in seen.own.items()}, others, dict(seen.reads))

    def snapshot(self) -> Snapshot:
        others = {
            kind: Replicas(decode_blobs(*blobs), _int32(of), _int32(held), _int32(asked))
            for kind, (blobs, of, held, asked) in self.others.items()
        }
        return Snapshot({kind: decode_blobs(*blobs) for kind, blobs in self.own.items()}, others, self.commits)


def _bytes(array: NDArray[np.int32]) -> bytes:
    return array.astype("<i4").tobytes()


def _int32(data: bytes) -> NDArray[np.int32]:
    return np.frombuffer(data, "<i4").astype(np.int32)


class _JournalCheckpoint(msgspec.Struct):
    """State of a checkpoint besides the groups' state.

    Attributes:
        outboxes: Group, commit and payload of the answers that duplicates may need.
        decided: Group, commit and time of the reads, in order.
        reads: Snapshots of the reads in progress.
    """

    outboxes: list[tuple[int, int, bytes]]
    decided: list[tuple[int, int, int]]
    reads: list[_Read]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_checkpoint: Final = msgspec.msgpack.Decoder(_JournalCheckpoint).decode


async def _dumped(store: MemoryStore, groups: Iterable[int]) -> dict[int, GroupDump]:
    return {group: await store.dump(group) for group in groups}


class JournalStore(MemoryStore):
    """A memory store that returns an earlier commit's answers exactly if live did; the journal lists those that live had dropped.

    `kept_ms` is how long live keeps published answers; `saw` is the snapshot of the last read.
    """

    def __init__(self, groups: int, shared: frozenset[str], max_replicas: int, kept_ms: int) -> None:
        super().__init__(groups, shared, max_replicas=max_replicas)
        self._groups_count, self._kept_ms = groups, kept_ms + _SLACK_MS
        self._forgotten: frozenset[int] = frozenset()
        self._decided: dict[int, dict[int, int]] = {}  # group -> commit -> time of its decisions
        self._saved_read: Snapshot | None = None
        self._earlier: dict[int, tuple[int, bytes]] = {}  # group -> first commit of this replay, payload of the earlier ones
        self.saw: Snapshot | None = None

    def at(self, line: JournalLine, now_ms: int, saved_read: Snapshot | None = None) -> None:
        """Prepare the line's read; `saved_read`: its snapshot from a checkpoint."""
        self._forgotten, self._saved_read = frozenset(line.forgotten), saved_read
        decided = self._decided.setdefault(line.group, {})
        old = list(takewhile(lambda number: decided[number] < now_ms - self._kept_ms, decided))
        for number in old:
            self.drop_answers(line.group, number)
            del decided[number]
        decided[line.commit] = now_ms

    async def read(self, rows: Mapping[str, EntityRows]) -> Snapshot:
        """Read the blobs of a batch's entities, or return the saved snapshot of this read."""
        self.saw = self._saved_read or await super().read(rows)
        return self.saw

    async def answers(self, group: int, commits: Sequence[int]) -> dict[int, bytes]:
        """Return payloads of earlier commits; for commits before this replay, the recorded answers."""
        payloads = await super().answers(group, [number for number in commits if number not in self._forgotten])
        first, payload = self._earlier.get(group, (0, b""))
        return payloads | {number: payload for number in commits if number < first and number not in self._forgotten}

    def answer_from(self, run: RecordedRun, group: int, begin: tuple[int, Mapping[str, int]], since_ms: int) -> None:
        """Load the answers of the commits before this replay from the recording.

        `begin` is the first commit that this replay answers, and the first answered offset of each topic. Answers older than
        `since_ms`, the time of that commit, by the retention are not loaded.
        """
        commit, fronts = begin
        nothing = JournalLine(group=group, commit=commit, epoch="", ranges={}, reads={}, model_version="", features_version="")
        outbox = OutboxBatch(group, {}, nothing)
        for topic, key, value in run.earlier_answers(group, fronts, since_ms - self._kept_ms):
            outbox.topics.setdefault(topic, Messages([], [])).add(key, value)
        self._earlier[group] = commit, encode_outbox(outbox)

    def save(self, path: Path, engine: FeatureEngine, reads: Mapping[Commit, Snapshot]) -> None:
        """Write a checkpoint's file; `reads`: snapshots of the reads in progress."""
        groups = range(self._groups_count)
        dumps = asyncio.run(_dumped(self, groups))
        checkpoint = _JournalCheckpoint(
            [(group, number, payload) for group in groups for number, payload in self.waiting(group).items()],
            [(group, number, at_ms) for group, of_group in self._decided.items() for number, at_ms in of_group.items()],
            [_Read.of(commit, seen) for commit, seen in reads.items()],
        )
        write_dumps(path, dumps, engine, engine.layout_records(), replay=_encode(checkpoint))

    def restore(self, path: Path) -> dict[Commit, Snapshot]:
        """Restore a checkpoint's file; return the snapshots of the reads in progress.

        Raises:
            InputFileError: The file is damaged.
        """
        checkpoint = _decode_checkpoint(read_header(path).replay)
        outboxes: dict[int, dict[int, bytes]] = {}
        for group, number, payload in checkpoint.outboxes:
            outboxes.setdefault(group, {})[number] = payload
        for group, number, at_ms in checkpoint.decided:
            self._decided.setdefault(group, {})[number] = at_ms
        self.load_file(path, outboxes)
        return {(read.group, read.commit): read.snapshot() for read in checkpoint.reads}

    def load_file(self, path: Path, outboxes: Mapping[int, Mapping[int, bytes]] = MappingProxyType({})) -> None:
        """Restore a state file: a snapshot of live state, or a checkpoint's file with its `outboxes` by group and commit.

        Raises:
            InputFileError: The file is damaged.
        """
        for group, group_header in read_header(path).groups.items():
            self.begin(group, group_header.commit, group_header.fronts, outboxes.get(group, {}))
        for frame in read_state(path):
            self.load(frame.group, frame.kind, frame.keys, frame.blobs())
