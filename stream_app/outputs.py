"""Builds the outcome of each record of a batch: answers, a late event or a dead letter; and each commit's journal line.

Every offset has exactly one outcome: two or three answers, or a late event, or a dead letter
(docs/adr/0007-one-fate-for-each-offset.md). A duplicate gets the answers of its first delivery again
(docs/adr/0009-duplicates.md). This module reads and writes nothing: it builds messages group by group and counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from stream_app.batch import DecodedBatch, OffsetSpan, ScoredBatch
from stream_app.clock import Clock
from stream_app.codec.answers import AnswerEncoder, Origin, SourceRecord, answer_id
from stream_app.codec.duplicate_answers import commit_name, encode_duplicate_answers, find_first_answers
from stream_app.codec.feature_rows import encode_feature_rows
from stream_app.codec.outbox import OutboxBatch
from stream_app.events import Event, JournalLine
from stream_app.features.fold_types import FoldResult
from stream_app.metrics import Metrics
from stream_app.ranked import RankedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputBuilder:
    """Builds the messages of batches.

    Attributes:
        encoder: Encodes the messages.
        clock: The time at which an answer is decided.
        metrics: Counts late events, duplicates and dead letters.
        allowed_lateness_ms: The limit that a late-event message names.
        scored_at_ingest: Use the record's own time as `scored_time_ms` in place of the clock's, so that a replay's answers do not
            depend on the size of its batches.
        records_features: Whether to publish the features of each answered event too.
    """

    encoder: AnswerEncoder
    clock: Clock
    metrics: Metrics
    allowed_lateness_ms: int
    scored_at_ingest: bool = False
    records_features: bool = False

    def build(
        self, batch: DecodedBatch, scored: ScoredBatch | None, reads: Mapping[int, int], serving: str
    ) -> dict[int, OutboxBatch]:
        """Build the outcome of every record of the batch.

        Args:
            batch: The decoded batch.
            scored: Its folded and scored events; None if it has no events.
            reads: Group -> commit number that the batch's read saw, for the journal.
            serving: Version of the serving model; the journal names it if the batch has no events.

        Returns:
            All messages by group, for every group that the batch applies offsets to.
        """
        now_ms = self.clock.now_ms()
        line = self._journal_line(scored.ranked if scored is not None else None, reads, serving, now_ms)
        outboxes = {
            group: OutboxBatch(group, {}, _of_group(line, group, batch.spans))
            for group in sorted({span.group for span in batch.spans})
        }
        if scored is not None:
            self._add_events(batch, scored, outboxes, now_ms)
            _add_forgotten(scored, outboxes)
            if self.records_features:
                self._add_features(batch, scored.folded, outboxes)
        for dead in batch.dead:
            key, letter = self.encoder.dead_letter(dead.record, dead.topic, dead.reason, "codec.decode")
            outboxes[dead.group].add("dead-letters", key, letter)
            self.metrics.dead_letters.labels(dead.topic, dead.kind).inc()
        return outboxes

    def _journal_line(self, ranked: RankedBatch | None, reads: Mapping[int, int], serving: str, now_ms: int) -> JournalLine:
        """Build a template for the journal lines of a batch: `_of_group` fills in group, epoch and ranges of each group.

        `ranked` is None for a batch without events.
        """
        return JournalLine(
            group=-1,
            commit=0,  # the store draws it; filled in when the line is published
            epoch="",
            ranges={},
            reads={str(other): commit for other, commit in reads.items()},
            scored_time_ms=now_ms,
            model_version=ranked.champion.version if ranked is not None else serving,
            features_version=self.encoder.features_version,
            challengers={c.norms.version: c.percent for c in ranked.challengers} if ranked is not None else {},
            degraded=ranked is not None and ranked.degraded,
        )

    def _add_features(self, batch: DecodedBatch, folded: FoldResult, outboxes: Mapping[int, OutboxBatch]) -> None:
        """Add the model's inputs for the answered events."""
        ids = [answer_id(source.topic, source.partition, source.offset) for source in batch.sources]
        rows = encode_feature_rows(ids, folded.inputs(), self.encoder.features_version)
        for record, group, late, value in zip(batch.records, batch.groups, folded.late.tolist(), rows, strict=True):
            if not late:
                outboxes[group].add("features", record.key, value)

    def _add_events(self, batch: DecodedBatch, scored: ScoredBatch, outboxes: Mapping[int, OutboxBatch], now_ms: int) -> None:
        folded = scored.folded
        late, duplicate_of = folded.late.tolist(), folded.duplicate_of.tolist()
        for topic, count in _in_time_by_batch(batch, late, self.allowed_lateness_ms).items():
            self.metrics.in_time_by_batch.labels(topic).inc(count)
        # A number from `commits` on is that of this very batch: the first event is in it.
        firsts = _first_rows(batch, scored) if (folded.duplicate_of >= scored.commits).any() else {}
        for row, (event, source, record) in enumerate(zip(batch.events, batch.sources, batch.records, strict=True)):
            outbox, key = outboxes[batch.groups[row]], record.key
            if late[row]:
                late_by_ms = int(folded.late_by_ms[row])
                line = self.encoder.late_event(source, record.value or b"", late_by_ms, self.allowed_lateness_ms)
                outbox.add("late-events", key, line)
                self.metrics.late_events.labels(source.topic).inc()
                continue
            origin = Origin(source, record.timestamp, self._scored_ms(event, record, now_ms))
            if duplicate_of[row] < 0:
                self._add_answers(outbox, key, event, origin, row, scored)
                continue
            first_row = firsts.get(_identity(source.topic, batch.groups[row], event))
            if duplicate_of[row] >= scored.commits[row] and first_row is not None:
                first, first_event = batch.sources[first_row], batch.events[first_row]
                origin = origin._replace(
                    scored_time_ms=self._scored_ms(first_event, batch.records[first_row], now_ms),
                    duplicate_of=answer_id(first.topic, first.partition, first.offset),
                )
                self._add_answers(outbox, key, first_event, origin, first_row, scored)
                self.metrics.duplicates.labels(source.topic, "first").inc()
                continue
            self._answer_again(outbox, key, event, origin, row, scored)

    def _scored_ms(self, event: Event, record: SourceRecord, now_ms: int) -> int:
        if not self.scored_at_ingest:
            return now_ms
        return record.timestamp if record.timestamp >= 0 else event.event_time_ms

    def _answer_again(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, scored: ScoredBatch
    ) -> None:
        """Answer a duplicate of an event of an earlier commit: with the first answers, or with new ones if those are gone."""
        source, group, commit = origin.source, outbox.group, int(scored.folded.duplicate_of[row])
        earlier = scored.earlier.get((group, commit))
        first = find_first_answers(earlier, key, source.topic, event) if earlier is not None else {}
        for topic, answer in encode_duplicate_answers(first, source, origin.ingest_time_ms).items():
            outbox.add(topic, key, answer)
        if not first:
            origin = origin._replace(duplicate_of=commit_name(group, commit))
            self._add_answers(outbox, key, event, origin, row, scored)
        self.metrics.duplicates.labels(source.topic, "first" if first else "again").inc()

    def _add_answers(
        self, outbox: OutboxBatch, key: bytes | None, event: Event, origin: Origin, row: int, scored: ScoredBatch
    ) -> None:
        alert = scored.alerts[row]
        label, candidates = self.encoder.answers(event, origin, row, scored.ranked, alert=alert)
        outbox.add("intent-labels", key, label)
        outbox.add("recommendation-candidates", key, candidates)
        if alert:
            why = (scored.decisions.rules[row], scored.decisions.reasons[row])
            outbox.add("fraud-alerts", key, self.encoder.alert(event, origin, row, scored.ranked, why))


def _add_forgotten(scored: ScoredBatch, outboxes: Mapping[int, OutboxBatch]) -> None:
    """Note in the journal which earlier answers the store no longer keeps."""
    for (group, commit), outbox in scored.earlier.items():
        if outbox is None:
            outboxes[group].journal.forgotten.append(commit)


def _of_group(line: JournalLine, group: int, spans: Sequence[OffsetSpan]) -> JournalLine:
    own = [span for span in spans if span.group == group]
    ranges = {span.topic: (span.start, span.end) for span in own}
    return msgspec.structs.replace(line, group=group, epoch=own[0].epoch, ranges=ranges, forgotten=[])


_Identity = tuple[int, str, str, str, int]


def _identity(topic: str, group: int, event: Event) -> _Identity:
    """Identify an event that was sent twice: group, topic, user, event id and event time."""
    return group, topic, event.user, event.event_id, event.event_time_ms


def _in_time_by_batch(batch: DecodedBatch, late: Sequence[bool], allowed_lateness_ms: int) -> Mapping[str, int]:
    """Count by topic the events that are late in the order of offsets, and in time because their batch is folded by event time.

    Only records of the event's topic are compared: between topics Kafka knows no order.
    """
    count: Counter[str] = Counter()
    if batch.events[-1].event_time_ms - batch.events[0].event_time_ms <= allowed_lateness_ms:  # nearly always
        return count
    newest: dict[tuple[str, str], int] = {}
    for row in sorted(range(len(late)), key=lambda row: batch.sources[row].offset):
        event, topic = batch.events[row], batch.sources[row].topic
        before = newest.get((topic, event.user), event.event_time_ms)
        count[topic] += before - event.event_time_ms > allowed_lateness_ms and not late[row]
        newest[topic, event.user] = max(before, event.event_time_ms)
    return count


def _first_rows(batch: DecodedBatch, scored: ScoredBatch) -> dict[_Identity, int]:
    """Return the row of each event of the batch that is neither late nor a duplicate, by its identity."""
    counted = (scored.folded.duplicate_of < 0) & ~scored.folded.late
    rows = np.flatnonzero(counted).tolist()
    return {_identity(batch.sources[row].topic, batch.groups[row], batch.events[row]): row for row in rows}
