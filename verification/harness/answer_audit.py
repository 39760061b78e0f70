"""Match every source record of a run with its answers, and count what does not add up.

A source record is one place in Kafka (topic, partition, offset). It has exactly one of: an entry in `intent-labels`
and one in `recommendation-candidates` (and one in `fraud-alerts` exactly if its label says so); a dead letter; a late
event. An answer may be published more than once, then with the same bytes. Everything else is counted as a problem, by
kind, with a few examples for people.

The answers are decoded with structs of this module alone, so the audit notices a renamed or lost field.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

Place = tuple[str, int, int]  # source topic without prefix, partition, offset

ALERTS, LABELS, CANDIDATES, DEAD, LATE = (
    "fraud-alerts",
    "intent-labels",
    "recommendation-candidates",
    "dead-letters",
    "late-events",
)
_EXAMPLES = 5


class _Source(msgspec.Struct):
    topic: str
    partition: int
    offset: int


class _Head(msgspec.Struct):
    answer_id: str
    source: _Source
    fraud_alert: bool | None = None


@dataclass(slots=True)
class AuditProblems:
    """Counts by kind, and the first examples of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str) -> None:
        """Count one problem."""
        self.counts[kind] += 1
        few = self.examples.setdefault(kind, [])
        if len(few) < _EXAMPLES:
            few.append(example)


@dataclass(slots=True)
class AnswerBook:
    """The records of one answer topic, by the place of their source record.

    Attributes:
        answers: Place -> (answer id, digest of the bytes) of its first record.
        repeated: Places that were answered more than once.
        differing: Those of them with a record whose bytes differ from the first.
    """

    answers: dict[Place, tuple[str, bytes]] = field(default_factory=dict)
    repeated: set[Place] = field(default_factory=set)
    differing: set[Place] = field(default_factory=set)

    def enter(self, place: Place, answer_id: str, value: bytes) -> None:
        """Enter one record of the topic."""
        entry = (answer_id, hashlib.blake2b(value, digest_size=16).digest())
        first = self.answers.setdefault(place, entry)
        if first is not entry:
            self.repeated.add(place)
            if first != entry:
                self.differing.add(place)


class AnswerAudit:
    """The books of all topics, and their comparison with the source records.

    Source topics in answers may be named with or without `topic_prefix`.
    """

    def __init__(self, topic_prefix: str = "") -> None:
        self._prefix = topic_prefix
        self.topics: dict[str, AnswerBook] = {name: AnswerBook() for name in (ALERTS, LABELS, CANDIDATES, DEAD, LATE)}
        self.problems = AuditProblems()
        self._alerted: dict[Place, bool] = {}  # `fraud_alert` of the label
        self._head = msgspec.json.Decoder(_Head)

    def enter(self, topic: str, value: bytes) -> None:
        """Enter one record of the answer or side topic `topic` (its name without prefix)."""
        try:
            head = self._head.decode(value)
        except msgspec.MsgspecError as err:
            self.problems.add("unreadable", f"{topic}: {err}: {value[:200]!r}")
            return
        place = (head.source.topic.removeprefix(self._prefix), head.source.partition, head.source.offset)
        self.topics[topic].enter(place, head.answer_id, value)
        if topic == LABELS:
            if head.fraud_alert is None:
                self.problems.add("unreadable", f"{topic}: no fraud_alert: {value[:200]!r}")
            else:
                self._alerted[place] = head.fraud_alert

    def close(self, sources: Iterable[Place]) -> AuditProblems:
        """Compare with the source records and return everything that does not add up.

        Kinds: `missing` answers, `needless` ones (no such source record, an alert that no label announces, an answer
        to a dead or late record), `differing` repeats, `id` (two places share an answer id, or one has two),
        `unreadable`.
        """
        known = set(sources)
        dead, late = self.topics[DEAD].answers.keys(), self.topics[LATE].answers.keys()
        refused = dead | late
        for place in dead & late:
            self.problems.add("needless", f"{place} is a dead letter and a late event")
        for topic in (LABELS, CANDIDATES):
            self._compare(topic, known - refused)
        self._compare(ALERTS, {place for place, alert in self._alerted.items() if alert})
        for topic in (DEAD, LATE):
            for place in self.topics[topic].answers.keys() - known:
                self.problems.add("needless", f"{topic}: {place} is no source record")
        for topic, book in self.topics.items():
            for place in book.differing:
                self.problems.add("differing", f"{topic}: the records for {place} differ")
        self._check_ids()
        return self.problems

    def _compare(self, topic: str, expected: set[Place]) -> None:
        present = self.topics[topic].answers.keys()
        for place in sorted(expected - present):
            self.problems.add("missing", f"{topic}: none for {place}")
        for place in sorted(present - expected):
            self.problems.add("needless", f"{topic}: one for {place}")

    def _check_ids(self) -> None:
        # The id is a function of the place alone: the same in every answer topic, and of no other place.
        of_place: dict[Place, str] = {}
        for topic in (LABELS, CANDIDATES, ALERTS, DEAD, LATE):
            for place, (answer_id, _) in self.topics[topic].answers.items():
                if of_place.setdefault(place, answer_id) != answer_id:
                    self.problems.add("id", f"{topic}: {place} has the ids {of_place[place]} and {answer_id}")
        places: dict[str, Place] = {}
        for place, answer_id in of_place.items():
            if places.setdefault(answer_id, place) != place:
                self.problems.add("id", f"{answer_id} is the id of {places[answer_id]} and {place}")
