"""Count the outcomes of every source offset by what docs/topics.md promises, with no code of the product.

    python -m verification.outcome_count --bootstrap 127.0.0.1:9092 --prefix run-1. --partitions 8

Every record of `searches`, `clicks` and `orders` has exactly one outcome: an intent label and candidates (and a fraud alert if
and only if the label says so), or a late event, or a dead letter. A record with the topic and `answer_id` of an earlier one
repeats it byte for byte, key and value. The records are read with kafka-python and parsed with `json`; import-linter holds this
module to that.
Count while no worker runs, else the last events seem to have no outcome.

The last line is JSON. Exit status 1 unless `ok`. Its keys: `events` source records; `answered`, `alerts`, `late_events`,
`dead_letters` places with this outcome; `repeats` records beyond the first of their `answer_id`. Faults, all 0 if `ok`: `missing`
places with no outcome, or an answer of which a part is missing; `doubled_outcomes` places with two outcomes or two ids;
`differing_repeats` ids with records of different bytes; `needless` outcomes of no source record, alerts that the label does not
announce; `misplaced` outcomes in another partition than their source; `unreadable` records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition

Place = tuple[str, int, int]  # source topic, partition, offset

SOURCES: Final = ("searches", "clicks", "orders")
LABELS, CANDIDATES, ALERTS = "intent-labels", "recommendation-candidates", "fraud-alerts"
LATE, DEAD = "late-events", "dead-letters"
OUTCOMES: Final = (LABELS, CANDIDATES, ALERTS, LATE, DEAD)
FAULTS: Final = ("missing", "doubled_outcomes", "differing_repeats", "needless", "misplaced", "unreadable")

_ANSWER: Final = frozenset({LABELS, CANDIDATES, ALERTS})
_EXAMPLES: Final = 5
_PATIENCE_S: Final = 60.0
_POLL_MS: Final = 500
_PROGRESS_EVERY_S: Final = 5.0


class TopicRecord(NamedTuple):
    """One record of a topic (named without the prefix of the deployment)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class OutcomeCounter:
    """Enter every record of the five outcome topics in any order, then `close` with the source records."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._first: dict[tuple[str, str], bytes] = {}  # topic and answer id -> digest of the first record
        self._topics: dict[Place, set[str]] = defaultdict(set)
        self._alert_announced: set[Place] = set()
        self._faults: dict[str, set[Any]] = {name: set() for name in FAULTS}
        self._repeats = 0

    def enter(self, record: TopicRecord) -> None:
        """Enter one record."""
        try:
            answer = json.loads(record.value or b"")
            source = answer["source"]
            place = (str(source["topic"]).removeprefix(self._prefix), int(source["partition"]), int(source["offset"]))
            identity = (record.topic, str(answer["answer_id"]))
            is_announced = record.topic == LABELS and bool(answer["fraud_alert"])
        except (ValueError, KeyError, TypeError):
            self._faults["unreadable"].add(record[:3])
            return
        digest = hashlib.sha256(repr((record.key, record.value)).encode()).digest()
        first = self._first.setdefault(identity, digest)
        if first is not digest:
            self._repeats += 1
            if first != digest:
                self._faults["differing_repeats"].add(identity)
            return
        if record.topic in self._topics[place]:
            self._faults["doubled_outcomes"].add(place)
        self._topics[place].add(record.topic)
        if is_announced:
            self._alert_announced.add(place)
        if record.partition != place[1]:
            self._faults["misplaced"].add(record[:3])

    def close(self, sources: Iterable[Place]) -> dict[str, Any]:
        """Compare with the source records; return the counts, `ok`, and a few examples of each fault."""
        places = set(sources)
        for place in places | self._topics.keys():
            self._compare(place, self._topics.get(place, set()), exists=place in places)
        topics = Counter(topic for place in places for topic in self._topics.get(place, ()))
        faults = {name: len(found) for name, found in self._faults.items()}
        return {
            "events": len(places),
            "answered": topics[LABELS],
            "alerts": topics[ALERTS],
            "late_events": topics[LATE],
            "dead_letters": topics[DEAD],
            "repeats": self._repeats,
            **faults,
            "ok": bool(places) and not any(faults.values()),
            "examples": {name: sorted(found)[:_EXAMPLES] for name, found in self._faults.items() if found},
        }

    def _compare(self, place: Place, topics: set[str], *, exists: bool) -> None:
        if not exists:
            self._faults["needless"].add(place)
            return
        is_answered = bool(topics & _ANSWER)
        if is_answered + (LATE in topics) + (DEAD in topics) > 1:
            self._faults["doubled_outcomes"].add(place)
        is_announced = place in self._alert_announced
        if not topics or (is_answered and not {LABELS, CANDIDATES} <= topics) or (is_announced and ALERTS not in topics):
            self._faults["missing"].add(place)
        if ALERTS in topics and not is_announced:
            self._faults["needless"].add(place)


def count_outcomes(sources: Iterable[Place], records: Iterable[TopicRecord], prefix: str = "") -> dict[str, Any]:
    """Count the outcomes of the source records among the records of the outcome topics; see the module's docstring.

    Args:
        sources: Topic, partition and offset of every source record.
        records: Every record of `OUTCOMES`.
        prefix: What the deployment puts before each topic; sources in answers may be named with it or without.
    """
    counter = OutcomeCounter(prefix)
    for record in records:
        counter.enter(record)
    return counter.close(sources)


def read_topics(bootstrap: str, prefix: str, topics: Iterable[str], partitions: int) -> Iterator[TopicRecord]:
    """Yield every committed record of the topics, up to their ends of the moment.

    Raises:
        TimeoutError: The broker gave nothing for a minute.
    """
    names = {TopicPartition(prefix + topic, partition): topic for topic in topics for partition in range(partitions)}
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        consumer.assign(list(names))
        ends = consumer.end_offsets(list(names))
        consumer.seek_to_beginning()
        last, moved_s = -1, time.monotonic()
        while (position := sum(consumer.position(place) for place in names)) < sum(ends.values()):
            if position != last:
                last, moved_s = position, time.monotonic()
            elif time.monotonic() - moved_s > _PATIENCE_S:
                raise TimeoutError(f"{bootstrap} gave no record for {_PATIENCE_S:.0f} s at {position} of {sum(ends.values())}")
            for place, fetched in consumer.poll(timeout_ms=_POLL_MS).items():
                for record in fetched:
                    yield TopicRecord(names[place], place.partition, record.offset, record.key, record.value)
    finally:
        consumer.close()


def with_progress(records: Iterable[TopicRecord]) -> Iterator[TopicRecord]:
    """Pass the records on, and print a line to stderr every five seconds."""
    next_s = time.monotonic() + _PROGRESS_EVERY_S
    for number, record in enumerate(records, 1):
        if time.monotonic() >= next_s:
            next_s += _PROGRESS_EVERY_S
            print(f"counting: {number:,} records", file=sys.stderr, flush=True)
        yield record


def main() -> None:
    """Read the topics of a deployment, count, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="Address of the broker.")
    parser.add_argument("--prefix", default="", help="What the deployment puts before each topic.")
    parser.add_argument("--partitions", type=int, default=8, help="Partitions of every topic; default 8.")
    options = parser.parse_args()
    sources, outcomes = (
        with_progress(read_topics(options.bootstrap, options.prefix, topics, options.partitions))
        for topics in (SOURCES, OUTCOMES)
    )
    counts = count_outcomes([record[:3] for record in sources], outcomes, options.prefix)
    print(json.dumps(counts))
    raise SystemExit(0 if counts["ok"] else 1)


if __name__ == "__main__":
    main()
