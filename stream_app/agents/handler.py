"""Takes a batch from chunks to acknowledged answers, in the order that the guarantee rests on.

    drop      skip what the store has applied (redelivery, rewind)
    prepare   decode, columns                                       while earlier batches are still in flight
    wait      for the commits of the previous batches of the same groups
    score     read, fold, score, decide
    commit    answers into the outbox, state and front: one script for each group
    publish   wait until the broker has acknowledged every answer
    mark      remember the commit as published; the group's next step, or its revocation, removes it from the outbox

A crash between any two lines loses nothing. Before `commit` nothing has happened; after it the answers are in the outbox, and the
next owner of the group publishes the same bytes again. Republishing may outlast a claim, during which
no heartbeat is sent: so a task of the assignment republishes the outbox, and the assignment's own answers wait for that task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stream_app.admin.topic_ids import refuse_new_topics
from stream_app.agents.partitioner import PartitionerWatch
from stream_app.agents.ports import LogPosition, TopicPartition
from stream_app.agents.store_watch import StoreWatch
from stream_app.batch import OffsetSpan
from stream_app.codec.dead_letter_limit import DeadLetterLimit
from stream_app.codec.outbox import decode_outbox
from stream_app.errors import AbandonedError, ContractError, FencedError, StoreRolledBackError
from stream_app.events import SOURCE_TOPICS
from stream_app.pipeline import Pipeline
from stream_app.store.port import Claim, CommitStatus, GroupStep, Store

if TYPE_CHECKING:
    from stream_app.agents.ownership import OwnershipTracker
    from stream_app.agents.ports import Chunk, CommitBarrier
    from stream_app.agents.publisher import Publisher
    from stream_app.codec.answers import SourceRecord
    from stream_app.metrics import Metrics

log = logging.getLogger(__name__)


class ScoringHandler:
    """BatchHandler and AssignmentHooks of the worker (see `stream_app.agents.ports`)."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        ownership: OwnershipTracker,
        publisher: Publisher,
        metrics: Metrics,
        topic_prefix: str,
        owner: str,
        max_dead_share: float = 0.0,
    ) -> None:
        self._pipeline = pipeline
        self._store: Store = pipeline.store
        self._dead_letter_limit = DeadLetterLimit(max_dead_share)
        self._ownership = ownership
        self._publisher = publisher
        self._metrics = metrics
        self._topic_prefix = topic_prefix
        self._owner = owner
        self._republishing: asyncio.Task[None] | None = None  # the current assignment's
        self._waiting: dict[TopicPartition, int] = {}
        self._partitioner = PartitionerWatch(ownership.groups, metrics)
        self._watch = StoreWatch(self._store, metrics, ownership.commits)

    # --- assignment ------------------------------------------------------------------------------------------------------

    async def check_topics(self, ids: Mapping[str, str]) -> None:
        """Refuse a topic that was made anew; see `stream_app.agents.ports.AssignmentHooks`."""
        found = {self._name(topic): topic_id for topic, topic_id in ids.items()}
        refuse_new_topics(found, await self._store.topic_ids(found))

    async def on_assigned(self, partitions: frozenset[TopicPartition], generation: int) -> Mapping[TopicPartition, int]:
        """Claim each partition group and return its fronts; start to publish the groups' outboxes again."""
        self._ownership.refuse_new_partitions(partitions)
        self._ownership.refuse_torn_groups(partitions, (self._topic_prefix + name for name in SOURCE_TOPICS))
        groups = sorted({place.partition for place in partitions})
        await self._stop_republishing()
        self._waiting.clear()
        self._ownership.release(list(self._ownership.owned()))
        await self._publisher.start()
        await self._pipeline.learn_layouts()
        claims = dict(zip(groups, await asyncio.gather(*(self._store.claim(g, self._owner) for g in groups)), strict=True))
        for group, claim in claims.items():
            self._ownership.record_claim(group, claim)
        self._republishing = asyncio.create_task(self._republish(claims), name=f"outbox of assignment {generation}")
        self._watch.start()
        self._metrics.groups_owned.set(len(groups))
        # A group without a front starts at the beginning, whatever Kafka's commits are: the position lives with the state.
        fronts = {place: self._front(place) or 0 for place in partitions}
        log.info("assignment %d: owns groups %s", generation, groups)
        return fronts

    async def _republish(self, claims: Mapping[int, Claim]) -> None:
        for group, claim in claims.items():
            for commit, payload in claim.outbox.items():  # marked one by one, so that a failure repeats none of them
                counts = await self._publisher.publish([(group, decode_outbox(payload).with_journal(commit))])
                await self._store.mark_published(group, claim.epoch, [commit])
                self._metrics.republished.inc(sum(counts.values()))
                log.info("group %d: published again %s of commit %d", group, counts, commit)

    async def watch_assignment(self) -> None:
        """Watch what no batch may find out: the outboxes, then the store; see `stream_app.agents.ports.AssignmentHooks`."""
        await self.wait_republished()
        await self._watch.wait_failed()

    def store_answers(self) -> bool:
        """Return whether the store answers; see `stream_app.agents.ports.AssignmentHooks`."""
        return self._watch.store_answers()

    async def wait_republished(self) -> None:
        """Return when the outboxes that this assignment's claims returned are published.

        Raises:
            AbandonedError: The partitions were revoked before.
            MillraceError: Publishing or marking failed.
        """
        task = self._republishing
        if task is None:
            return
        await asyncio.wait([task])
        if task.cancelled():
            raise AbandonedError("the partitions went while their outbox was published again; the next owner goes on with it")
        task.result()

    async def _stop_republishing(self) -> None:
        task, self._republishing = self._republishing, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])  # after a failure the rest is still in the outbox

    async def on_revoked(self, partitions: frozenset[TopicPartition], generation: int) -> None:
        """Mark published answers, so that the next owner does not publish them again."""
        released = self._ownership.release({place.partition for place in partitions})
        await self._stop_republishing()
        await self._watch.stop()
        for ownership in released:
            await self._store.mark_published(ownership.group, ownership.epoch, ownership.published)
        self._metrics.groups_owned.set(len(self._ownership.owned()))
        log.info("assignment %d revoked", generation)

    async def close(self) -> None:
        """Disconnect from broker and store; no batch may be running."""
        await self._stop_republishing()
        await self._watch.stop()
        await self._publisher.stop()
        await self._store.close()

    async def on_out_of_range(self, place: TopicPartition, position: LogPosition) -> int:
        """Start a group without a front at the oldest record; refuse a front that the log no longer holds."""
        front = self._front(place)
        if front is None and position.start < position.beginning:
            return position.beginning
        if front is not None and position.beginning <= front <= position.end:
            return front  # only Kafka's committed offset, the lower of the two, has expired
        raise ContractError(
            f"{place.topic}-{place.partition}: the store has applied all offsets below {front or 0}, but the log holds "
            f"[{position.beginning}, {position.end}), and reading was to begin at {position.start}. Operator action: if the "
            "topic was made anew, give the worker a new redis.prefix (or delete the old keys); if records expired before they "
            "were read, they are lost: lengthen the topic's retention, then delete the group's `front:` field in Redis to go on "
            "at the oldest record."
        )

    def _front(self, place: TopicPartition) -> int | None:
        return self._ownership.owned()[place.partition].fronts.get(self._name(place.topic))

    def _name(self, topic: str) -> str:
        return topic.removeprefix(self._topic_prefix)

    # --- batches ---------------------------------------------------------------------------------------------------------

    async def handle(self, batch: Sequence[Chunk], barrier: CommitBarrier) -> None:
        """Score one batch, commit it, publish its answers; see `stream_app.agents.ports.BatchHandler`."""
        lap = _Laps(self._metrics)
        self._count_waiting(batch, applied=False)
        spans, records = self._drop_applied(batch)
        if not spans:
            await barrier.wait_previous_committed()
            self._count_waiting(batch, applied=True)
            barrier.mark_committed()
            return
        self._partitioner.look(records)
        decoded = self._pipeline.prepare(spans, records)
        self._dead_letter_limit.check((topic for topic, _ in records), (dead.topic for dead in decoded.dead))
        lap("prepare")
        await barrier.wait_previous_committed()
        lap("wait")
        batch_commit = await self._pipeline.score(decoded, self._ownership.commits())
        lap("score")
        applied = await self._commit(batch_commit.steps)
        self._count_waiting(batch, applied=True)
        barrier.mark_committed()
        lap("commit")
        await self.wait_republished()
        counts = await self._publisher.publish(
            (step.group, batch_commit.outboxes[step.group].with_journal(commit)) for step, commit in applied
        )
        lap("publish")
        for step, commit in applied:
            self._ownership.record_published(step.group, step.epoch, commit)
        if batch_commit.scored is not None and batch_commit.scored.ranked.on_published is not None:
            batch_commit.scored.ranked.on_published(decoded.sources, decoded.events)
        self._count(records, counts)
        if len(applied) < len(batch_commit.steps):
            refused = len(batch_commit.steps) - len(applied)
            raise FencedError(f"{refused} of {len(batch_commit.steps)} groups have another owner now")

    def _drop_applied(self, batch: Sequence[Chunk]) -> tuple[list[OffsetSpan], list[tuple[str, SourceRecord]]]:
        spans: dict[tuple[int, str], OffsetSpan] = {}
        records: list[tuple[str, SourceRecord]] = []
        for chunk in batch:
            topic, group = self._name(chunk.topic), chunk.partition
            fresh_part = self._ownership.advance(group, topic, chunk.start, chunk.end)
            if fresh_part is None:
                self._metrics.skipped.inc(len(chunk.records))
                continue
            ownership, start = fresh_part
            earlier = spans.get((group, topic))
            spans[group, topic] = OffsetSpan(group, ownership.epoch, topic, earlier.start if earlier else start, chunk.end)
            fresh = [(topic, record) for record in chunk.records if record.offset >= start]
            self._metrics.skipped.inc(len(chunk.records) - len(fresh))
            records.extend(fresh)
        return list(spans.values()), records

    async def _commit(self, steps: Sequence[GroupStep]) -> list[tuple[GroupStep, int]]:
        """Commit the steps; return the applied ones with their commit numbers."""
        steps = [replace(step, published=self._ownership.published_commits(step.group, step.epoch)) for step in steps]
        applied: list[tuple[GroupStep, int]] = []
        for step, result in zip(steps, await self._store.commit(steps), strict=True):
            if result.status is CommitStatus.APPLIED:
                self._ownership.record_applied(step.group, step.epoch, result.commit, step.published)
                applied.append((step, result.commit))
            elif result.status is CommitStatus.FENCED:
                self._metrics.fenced.inc()
                log.warning("group %d: step refused, %s", step.group, result.detail)
            elif result.status is CommitStatus.BEHIND:
                raise StoreRolledBackError(
                    f"group {step.group}: the store stands behind this worker ({result.detail}); it has lost writes or was "
                    "restored. The worker starts again from the store's front; Kafka has the rest."
                )
            else:
                raise ContractError(
                    f"group {step.group}: the step was applied before, under this very epoch ({result.detail}). "
                    "Operator action: restart the worker; if this repeats, report it."
                )
        self._metrics.last_commit_time.set_to_current_time()
        return applied

    def _count_waiting(self, batch: Sequence[Chunk], *, applied: bool) -> None:
        for chunk in batch:
            if chunk.highwater >= 0:
                place = TopicPartition(chunk.topic, chunk.partition)
                self._waiting[place] = max(0, chunk.highwater - (chunk.end if applied else chunk.start))
        self._metrics.waiting.set(sum(self._waiting.values()))

    def _count(self, records: Sequence[tuple[str, SourceRecord]], counts: Mapping[str, int]) -> None:
        for topic, count in Counter(topic for topic, _ in records).items():
            self._metrics.events.labels(topic).inc(count)
        for topic, count in counts.items():
            self._metrics.answers.labels(topic).inc(count)
        self._metrics.batch_events.observe(len(records))


class _Laps:
    """Times the hops of one batch."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last = time.perf_counter()

    def __call__(self, hop: str) -> None:
        now = time.perf_counter()
        self._metrics.batch_seconds.labels(hop).observe(now - self._last)
        self._last = now
