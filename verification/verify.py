"""Verify a run: answers against source records, source records against the raw files, and state against the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stream_app.events import SOURCE_TOPICS, Click, Event, Order, Search
from stream_app.features.catalog import CATALOGUE
from verification.harness.answer_audit import ALERTS, CANDIDATES, DEAD, LABELS, LATE, AnswerAudit, AuditProblems, Place
from verification.harness.namespace import ID_KEY, RunNamespace
from verification.harness.output_topics import OutputRecord, OutputTopicReader
from verification.harness.raw_files import RawFiles, card_events, taobao_events
from verification.journal_audit import Journal
from verification.oracle.replay import entity_logs
from verification.state_comparison import StateComparison, compare_states
from verification.stored_state import Bookkeeping, read_store

_TOPICS: Mapping[type[Event], str] = {Search: "searches", Click: "clicks", Order: "orders"}
SHARED = frozenset(kind.name for kind in CATALOGUE.kinds if kind.shared)


@dataclass(slots=True)
class SourceRecords:
    """The source topics as read back.

    Attributes:
        places: Of every record.
        group_of: User (the record's key) -> partition.
        counts: (topic, user) -> records.
        faults: A user in two partitions: its state would be split.
    """

    places: list[Place]
    group_of: dict[str, int]
    counts: Counter[tuple[str, str]]
    faults: list[str]


@dataclass(slots=True)
class AuditVerdict:
    """All findings of a run."""

    events: int
    books: AnswerAudit
    problems: AuditProblems
    state: StateComparison
    import_faults: list[str]
    store_faults: list[str]
    journal_faults: list[str]
    commits: int

    @property
    def good(self) -> bool:
        """Whether nothing is missing, nothing differs, and everything adds up."""
        faults = (self.import_faults, self.store_faults, self.journal_faults)
        return not (self.problems.counts or self.state.differences or any(faults))

    def figures(self) -> dict[str, Any]:
        """Return the counts; their meaning stands in verification/e2e.py."""
        topics = self.books.topics
        counts = self.problems.counts
        return {
            "ok": self.good,
            "events": self.events,
            "answers": {name: len(topics[name].answers) for name in (ALERTS, LABELS, CANDIDATES)},
            "missing": counts["missing"],
            "duplicates": sum(len(book.repeated) for book in topics.values()),
            "duplicates_differing": counts["differing"],
            "state_keys_compared": self.state.keys,
            "state_values_compared": self.state.values,
            "state_differences": self.state.differences,
            "sequences_compared": self.state.sequences,
            "sequences_of_one_topic": self.state.sequences_of_one_topic,
            "sessions_compared": self.state.sessions,
            "sessions_of_known_order": self.state.sessions_of_known_order,
            "late": len(topics[LATE].answers),
            "dead_letters": len(topics[DEAD].answers),
            "needless": counts["needless"],
            "id_faults": counts["id"],
            "unreadable": counts["unreadable"],
            "import_faults": len(self.import_faults),
            "store_faults": len(self.store_faults),
            "journal_faults": len(self.journal_faults),
            "commits": self.commits,
        }

    def examples(self) -> list[str]:
        """Return the first problems of each kind, for people."""
        lines = [f"{kind}: {text}" for kind, few in self.problems.examples.items() for text in few]
        lines += [f"state: {text}" for text in self.state.examples]
        lines += [f"import: {text}" for text in self.import_faults[:5]]
        lines += [f"store: {text}" for text in self.store_faults[:5]]
        return lines + [f"journal: {text}" for text in self.journal_faults[:5]]


def verify(space: RunNamespace, files: RawFiles, limits: Mapping[str, int]) -> AuditVerdict:
    """Read topics and store of `space` and compare them with the raw files.

    Raises:
        BrokerUnavailableError: A topic could not be read to its end.
    """
    sources, books, journal = _read_topics(space)
    ends = _ends(sources)
    problems = books.close(sources.places)
    raw = [*taobao_events(files.taobao, limits["taobao"]), *card_events(files.cards, limits["cards"])]
    import_faults = import_faults_of(sources, raw)
    imported = [event for event in raw if event.user in sources.group_of]  # a missing user is an import fault already
    stored = read_store(space.services.redis.url, space.name, _describe())
    state = compare_states(entity_logs(imported, sources.group_of, ID_KEY), stored.states)
    store_faults = [*stored.index_faults(SHARED), *_store_faults(space, ends, stored.books)]
    return AuditVerdict(
        events=len(sources.places),
        books=books,
        problems=problems,
        state=state,
        import_faults=import_faults,
        store_faults=store_faults,
        journal_faults=journal.faults(ends),
        commits=journal.commits(),
    )


def import_faults_of(sources: SourceRecords, raw: Iterable[Event]) -> list[str]:
    """Return where the source topics do not hold each raw row once: by topic and user, how many records."""
    expected = Counter((_TOPICS[type(event)], event.user) for event in raw)
    return sources.faults + [
        f"{topic} has {sources.counts[topic, user]} records of {user}, the file has {expected[topic, user]} rows"
        for topic, user in sorted(expected.keys() | sources.counts.keys())
        if sources.counts[topic, user] != expected[topic, user]
    ]


def _read_topics(space: RunNamespace) -> tuple[SourceRecords, AnswerAudit, Journal]:
    meter, bootstrap = space.meter(), space.services.kafka.bootstrap
    sources = SourceRecords([], {}, Counter(), [])
    books, journal = AnswerAudit(space.topic_prefix), Journal(space.topic_prefix)
    prefix = len(space.topic_prefix)
    with OutputTopicReader(bootstrap) as reader:
        for record in reader.read_to(meter.ends([space.topic(n) for n in SOURCE_TOPICS])):
            _enter_source(sources, record.topic[prefix:], record)
        answers = [space.topic(name) for name in (ALERTS, LABELS, CANDIDATES, DEAD, LATE)]
        for record in reader.read_to(meter.ends(answers)):
            books.enter(record.topic[prefix:], record.value)
        for record in reader.read_to(meter.ends([space.topic("journal")])):
            journal.enter(record.value)
    return sources, books, journal


def _enter_source(sources: SourceRecords, topic: str, record: OutputRecord) -> None:
    user = record.key.decode()
    sources.places.append((topic, record.partition, record.offset))
    sources.counts[topic, user] += 1
    if sources.group_of.setdefault(user, record.partition) != record.partition:
        sources.faults.append(f"{user} is in partitions {sources.group_of[user]} and {record.partition}")


def _ends(sources: SourceRecords) -> dict[tuple[str, int], int]:
    """Return (topic, partition) -> one more than its last offset."""
    ends: dict[tuple[str, int], int] = {}
    for topic, partition, offset in sources.places:
        ends[topic, partition] = max(ends.get((topic, partition), 0), offset + 1)
    return ends


def _store_faults(space: RunNamespace, ends: Mapping[tuple[str, int], int], books: Bookkeeping) -> list[str]:
    """Return where the store's position is not the end of the topics, and keys that it should not have."""
    fronts = {(topic.removeprefix(space.topic_prefix), group): front for (topic, group), front in books.fronts.items()}
    faults = [
        f"the front of {topic} in group {group} is {fronts.get((topic, group))}, the topic ends at {end}"
        for (topic, group), end in sorted(ends.items())
        if fronts.get((topic, group)) != end
    ]
    faults += [f"group {group} has {count} commits in its outbox" for group, count in sorted(books.outbox.items())]
    faults += [f"the answers of {key} never expire" for key in books.lasting]
    return faults + [f"unknown key {key}" for key in books.unknown]


def _describe() -> Any:  # noqa: ANN401  # FeatureEngine.describe: kind, bytes -> mapping
    from stream_app.features.engine import FeatureEngine

    return FeatureEngine(CATALOGUE, allowed_lateness_ms=86_400_000).describe
