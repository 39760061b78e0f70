"""A worker as small as can be: the chunked transport over a SQLite store with epochs and fronts.

The store keeps what the real one must keep: one epoch per partition group, drawn at each assignment, and one front per
partition. It logs every application of an offset in a table without a unique key, so that a double one shows as two
rows.

Usage: python -m tests.integration.transport_worker '{"store": "...", "bootstrap": "...", "group": "...", "topics":
[...], ...}'
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_app.agents.options import AgentOptions
from stream_app.agents.ports import LogPosition, TopicPartition
from stream_app.agents.run import run_sources
from stream_app.errors import ContractError, FencedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream_app.agents.ports import Chunk, CommitBarrier

log = logging.getLogger("transport_worker")

SCHEMA = """
CREATE TABLE IF NOT EXISTS epochs (grp INTEGER PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fronts (topic TEXT, part INTEGER, front INTEGER NOT NULL, PRIMARY KEY (topic, part));
CREATE TABLE IF NOT EXISTS applied (topic TEXT, part INTEGER, pos INTEGER, value BLOB, pid INTEGER, generation INTEGER);
"""


def open_store(path: str) -> sqlite3.Connection:
    """Open (and make) the store; every process has its own connection."""
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("PRAGMA synchronous=OFF")  # the processes are killed, not the machine
    store.executescript(SCHEMA)
    return store


class SqliteWorker:
    """Hooks and handler in one."""

    def __init__(self, store: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
        self.store = store
        self.delay_s = float(settings.get("delay_s", 0.0))
        self.fenced = bool(settings.get("fence", True))
        self.die_in = str(settings.get("die_in", ""))
        self.latency: list[float] = []
        self.epochs: dict[int, dict[int, int]] = {}

    async def on_assigned(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        if self.die_in == "on_assigned":
            msg = "the claim was refused on purpose"
            raise ContractError(msg)
        self.store.execute("BEGIN IMMEDIATE")
        epochs = self.epochs[generation] = {}
        for group in {place.partition for place in partitions}:
            upsert = "INSERT INTO epochs VALUES (?, 1) ON CONFLICT (grp) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"
            [epochs[group]] = self.store.execute(upsert, [group]).fetchone()
        rows = self.store.execute("SELECT topic, part, front FROM fronts").fetchall()
        self.store.execute("COMMIT")
        known = {TopicPartition(topic, part): front for topic, part, front in rows}
        log.info("claimed %s for assignment %d", sorted(epochs), generation)
        return {place: front for place, front in known.items() if place in partitions}

    async def check_topics(self, ids: Mapping[str, str]) -> None:
        """Knows no ids."""

    def store_answers(self) -> bool:
        return True

    async def watch_assignment(self) -> None:
        """Nothing is left to do after a claim."""

    async def on_revoked(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        log.info("revoked %s of assignment %d", sorted(partitions), generation)

    async def on_out_of_range(self, place: TopicPartition, position: LogPosition) -> int:
        msg = f"{place.topic}-{place.partition}: {position} is outside the log"
        raise ContractError(msg)

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        if self.die_in == "handle":
            msg = "the batch failed on purpose"
            raise RuntimeError(msg)
        await asyncio.sleep(self.delay_s)
        await barrier.wait_previous_committed()
        self.apply(batch)
        barrier.mark_committed()

    def apply(self, batch: Sequence[Chunk]) -> None:
        """One transaction: check epoch and front, log the records, move the front."""
        self.store.execute("BEGIN IMMEDIATE")
        try:
            for chunk in batch:
                self.apply_chunk(chunk)
        except BaseException:
            self.store.execute("ROLLBACK")
            raise
        self.store.execute("COMMIT")

    def apply_chunk(self, chunk: Chunk) -> None:
        place = (chunk.topic, chunk.partition)
        [epoch] = self.store.execute("SELECT epoch FROM epochs WHERE grp = ?", [chunk.partition]).fetchone()
        row = self.store.execute("SELECT front FROM fronts WHERE topic = ? AND part = ?", place).fetchone()
        front = row[0] if row else chunk.start
        own = self.epochs[chunk.generation][chunk.partition]
        if self.fenced and epoch != own:
            msg = f"group {chunk.partition} has epoch {epoch}, this worker holds {own}"
            raise FencedError(msg)
        if self.fenced and chunk.start > front:
            msg = f"{chunk!r} does not join the front {front}"
            raise ContractError(msg)
        floor = front if self.fenced else chunk.start
        rows = [(*place, r.offset, r.value, os.getpid(), chunk.generation) for r in chunk.records if r.offset >= floor]
        self.store.executemany("INSERT INTO applied VALUES (?, ?, ?, ?, ?, ?)", rows)
        self.store.execute("INSERT OR REPLACE INTO fronts VALUES (?, ?, ?)", (*place, max(front, chunk.end)))


def main(argument: str) -> int:
    """Run the worker that the JSON argument describes."""
    settings = json.loads(argument)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    worker = SqliteWorker(open_store(settings["store"]), settings)
    options = AgentOptions(
        bootstrap=settings["bootstrap"],
        group=settings["group"],
        topics=tuple(settings["topics"]),
        work_dir=Path(settings["work_dir"]) if "work_dir" in settings else None,
        **settings.get("options", {}),
    )
    return run_sources(options, worker, worker)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
