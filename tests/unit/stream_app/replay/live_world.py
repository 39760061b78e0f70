"""A live run in memory: two workers own two partition groups each, and their batches interleave; recordable as files."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from stream_app.batch import DecodedBatch, OffsetSpan
from stream_app.codec.outbox import Messages
from stream_app.events import Event
from stream_app.logs.log_files import RecordLine
from stream_app.pipeline import BatchCommit, Pipeline
from stream_app.replay.checkpoints.state_file import write_dumps
from stream_app.store.memory import MemoryStore
from stream_app.store.port import CommitStatus, GroupDump
from tests.scoring import SETTINGS, Record, record_of, scoring_engine, scoring_pipeline, topic_of

GROUPS = 4
OWNED = ((0, 1), (2, 3))


@dataclass
class LiveWorld:
    """Records of the source topics and published messages, by (topic, partition)."""

    events: Sequence[Event]
    sources: dict[tuple[str, int], list[Record]] = field(default_factory=lambda: defaultdict(list))
    published: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = field(default_factory=lambda: defaultdict(list))
    dumps: dict[int, GroupDump] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for event in self.events:
            place = (topic_of(event), sum(event.user.encode()) % GROUPS)
            self.sources[place].append(record_of(event, place[1], len(self.sources[place])))

    def run(self, seed: int, snapshot_at: int = -1) -> LiveWorld:
        """Score everything: reads and commits of the two workers fall in a random order.

        From step `snapshot_at` on the groups are dumped, one after the other, while the workers go on.
        """
        shared = frozenset(kind.name for kind in scoring_engine().kinds if kind.shared)
        recording = replace(SETTINGS, features=replace(SETTINGS.features, record=True))
        pipeline = scoring_pipeline(MemoryStore(GROUPS, shared), settings=recording)
        try:
            asyncio.run(self._run(pipeline, random.Random(seed), snapshot_at))
        finally:
            pipeline.model_thread.shutdown()
        return self

    async def _run(self, pipeline: Pipeline, draw: random.Random, snapshot_at: int) -> None:
        epochs = {group: (await pipeline.store.claim(group, "live")).epoch for group in range(GROUPS)}
        fronts: dict[tuple[str, int], int] = defaultdict(int)
        under_way: list[BatchCommit | None] = [None, None]
        step_number = 0
        while any(under_way) or any(fronts[place] < len(records) for place, records in self.sources.items()):
            if 0 <= (group := step_number - snapshot_at) < GROUPS and snapshot_at >= 0:
                self.dumps[group] = await pipeline.store.dump(group)
            step_number += 1
            worker = draw.randrange(2)
            if under_way[worker] is None:
                decoded = self._cut(pipeline, OWNED[worker], fronts, epochs, draw)
                under_way[worker] = await pipeline.score(decoded) if decoded is not None else None
                continue
            scored = under_way[worker]
            assert scored is not None
            under_way[worker] = None
            for step, result in zip(scored.steps, await pipeline.store.commit(scored.steps), strict=True):
                assert result.status is CommitStatus.APPLIED
                self._publish(step.group, scored.outboxes[step.group].with_journal(result.commit))

    def _cut(
        self, pipeline: Pipeline, groups: Sequence[int], fronts: dict[tuple[str, int], int], epochs: Mapping[int, str],
        draw: random.Random,
    ) -> DecodedBatch | None:  # fmt: skip
        spans: list[OffsetSpan] = []
        records: list[tuple[str, Record]] = []
        for (topic, group), there in self.sources.items():
            start = fronts[topic, group]
            end = min(len(there), start + draw.randrange(12))
            if group in groups and start < end:
                spans.append(OffsetSpan(group, epochs[group], topic, start, end))
                records += [(topic, record) for record in there[start:end]]
                fronts[topic, group] = end
        return pipeline.prepare(spans, records) if spans else None

    def _publish(self, group: int, messages: Mapping[str, Messages]) -> None:
        for topic, topic_messages in messages.items():
            self.published[topic, group] += list(zip(topic_messages.keys, topic_messages.values, strict=True))

    def snapshot(self, path: Path) -> Path:
        """Write what `millrace snapshot` writes."""
        engine = scoring_engine()
        write_dumps(path, self.dumps, engine, engine.layout_records())
        return path

    def record(self, folder: Path) -> Path:
        """Write what `millrace record` writes."""
        for part in ("log", "live"):
            (folder / part).mkdir(parents=True)
        for (topic, partition), records in self.sources.items():
            lines = [_line(replace(record, topic=topic)) for record in records]
            (folder / "log" / f"{topic}-{partition}.jsonl").write_bytes(b"".join(lines))
        for (topic, partition), messages in self.published.items():
            records = [Record(topic, partition, at, 0, key, value) for at, (key, value) in enumerate(messages)]
            (folder / "live" / f"{topic}-{partition}.jsonl").write_bytes(b"".join(map(_line, records)))
        return folder


def _line(record: Record) -> bytes:
    line = RecordLine(
        topic=record.topic, key=(record.key or b"").decode(), value=(record.value or b"").decode(), time_ms=record.timestamp,
        partition=record.partition, offset=record.offset,
    )  # fmt: skip
    return msgspec.json.encode(line) + b"\n"
