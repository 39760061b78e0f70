"""Events one after the other, as the engine gets them, and what each must read; and the state of every entity of a whole log."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_app.events import Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import EVENT, Catalogue, EntityKind
from verification.oracle.facts import NO_CODES, Codes, EventFacts, facts_of
from verification.oracle.readings import EntityHistory, reading, tolerance
from verification.oracle.state import QUERIES, SEQUENCE, KindState

Entity = tuple[int, str, str]  # partition group, kind, key in hex


@dataclass
class ExpectedEvent:
    """What the engine must return for one event.

    Attributes:
        context, item, query: Codes that the model gets.
        late_by_ms: How far the event is behind the newest one of its user; 0 unless it is refused for it.
        duplicate_of: Commit of the event that this one repeats, -1 if none.
        features: Values in the catalogue's order.
        tolerances: By feature's number: how far the engine may be off.
        sequence: Codes and age in s of the last interactions, right-aligned, 32 of them.
        queries: The same of the last queries, 4 of them.
    """

    context: Codes
    item: tuple[int, int]
    query: Codes
    late_by_ms: int = 0
    duplicate_of: int = -1
    features: list[float] = field(default_factory=list)
    tolerances: dict[int, float] = field(default_factory=dict)
    sequence: list[tuple[Codes, float]] = field(default_factory=list)
    queries: list[tuple[Codes, float]] = field(default_factory=list)


class Oracle:
    """Applies events one after the other; `next_batch` makes other groups' events visible."""

    def __init__(self, catalogue: Catalogue, allowed_lateness_ms: int, key: bytes) -> None:
        self.catalogue, self.allowed_lateness_ms, self.key = catalogue, allowed_lateness_ms, key
        self.events: dict[tuple[str, bytes], list[EventFacts]] = defaultdict(list)  # by kind and key
        self._states = {kind.name: KindState(catalogue, kind) for kind in catalogue.kinds}
        self._batch = 0

    def next_batch(self) -> None:
        """End the batch."""
        self._batch += 1

    def apply(self, event: Event, group: int, commit: int = 0) -> ExpectedEvent:
        """Read what the event must see, and add it unless it is late or a duplicate."""
        facts = facts_of(event, self.catalogue, self.key, group=group, batch=self._batch, commit=commit)
        expected = ExpectedEvent(facts.context, facts.codes[:2], facts.query)
        first = self.catalogue.kinds[0]
        visible = self._visible(first, facts)
        newest = max((e.time_ms for e in visible), default=facts.time_ms)
        if facts.time_ms < newest - self.allowed_lateness_ms:
            expected.late_by_ms = newest - facts.time_ms
            return expected
        expected.features, expected.tolerances = self._features(facts)
        if first.sequence:
            expected.sequence = _padded(visible, facts.time_ms, SEQUENCE, lambda e: e.codes)
            queries = [e for e in visible if e.query != NO_CODES]
            expected.queries = _padded(queries, facts.time_ms, QUERIES, lambda e: e.query)
            originals = [e for e in visible[-SEQUENCE:] if _same(e, facts)]
            if originals:
                expected.duplicate_of = originals[0].commit
                return expected
        self._add(facts)
        return expected

    def add(self, event: Event, group: int) -> None:
        """Add an event without a look at what it sees."""
        self._add(facts_of(event, self.catalogue, self.key, group=group, batch=self._batch))

    def read(self, kind: EntityKind, key: bytes, at_ms: int, group: int | None = None) -> tuple[list[float], dict[int, float]]:
        """Return an entity's features at a time, for an event without values of its own, and by how much they may be off."""
        history = EntityHistory(self.events_of(kind.name, key, group), at_ms, self.catalogue, kind.session_gap_ms)
        features = [f for f in self.catalogue.features if f.entity == kind.name]
        values = [reading(f, history, 0) for f in features]
        return values, {n: tolerance(f, history, value, 0) for n, (f, value) in enumerate(zip(features, values, strict=True))}

    def events_of(self, kind: str, key: bytes, group: int | None) -> list[EventFacts]:
        """Return the entity's events in one group; None: in all groups."""
        return [e for e in self.events.get((kind, key), []) if group is None or e.group == group]

    def state(self, kind: str, key: bytes, group: int | None = None) -> dict[str, Any]:
        """Return the entity's state: of one group's replica, or of all of them merged (None)."""
        return self._states[kind].describe(self.events_of(kind, key, group))

    def _add(self, facts: EventFacts) -> None:
        for kind, key in facts.keys.items():
            self.events[kind, key].append(facts)

    def _visible(self, kind: EntityKind, to: EventFacts) -> list[EventFacts]:
        """The own group's events before this one, and other groups' of earlier batches if the kind is shared."""
        events = self.events.get((kind.name, to.keys.get(kind.name, b"")), [])
        return [e for e in events if e.group == to.group or (kind.shared and e.batch < to.batch)]

    def _features(self, facts: EventFacts) -> tuple[list[float], dict[int, float]]:
        histories = {EVENT: EntityHistory([], facts.time_ms, self.catalogue)}
        for kind in self.catalogue.kinds:
            visible = self._visible(kind, facts)
            histories[kind.name] = EntityHistory(visible, facts.time_ms, self.catalogue, kind.session_gap_ms, facts.group)
        own = [(f, facts.values[f.measure]) for f in self.catalogue.features]
        values = [reading(f, histories[f.entity], value) for f, value in own]
        off = [tolerance(f, histories[f.entity], value, own_value) for (f, own_value), value in zip(own, values, strict=True)]
        return values, {column: by for column, by in enumerate(off) if by}


@dataclass(frozen=True, slots=True)
class EntityLog:
    """All events of one entity in one group.

    Attributes:
        kind: What is kept of it.
        events: In the order of their topic's records; in order of arrival altogether, if `in_order`.
        in_order: Whether the order between topics is known.
    """

    kind: KindState
    events: list[EventFacts]
    in_order: bool

    def by_topic(self) -> Mapping[str, Sequence[EventFacts]]:
        """Return the events by topic, each in order of arrival; under "" if the order between topics is known."""
        topics: dict[str, list[EventFacts]] = defaultdict(list)
        for event in self.events:
            topics["" if self.in_order else event.topic].append(event)
        return topics


def entity_logs(
    events: Iterable[Event],
    group_of: Mapping[str, int],
    id_key: str,
    catalogue: Catalogue = CATALOGUE,
    *,
    in_order: bool = False,
) -> dict[Entity, EntityLog]:
    """Return what each entity must have counted. Duplicates are left out: an event is one of its user's last 32, sent again.

    Args:
        events: In the order of their topic's records, for the events of one user in one topic; in order of arrival altogether,
            for those of a user that has duplicates.
        group_of: User -> its partition.
        id_key: The secret under which identifiers are hashed.
        catalogue: The declared features.
        in_order: The events are in order of arrival altogether: sequences and sessions are then compared whole.

    Raises:
        KeyError: A user has no partition: none of its events came to the broker.
    """
    kinds = {kind.name: KindState(catalogue, kind) for kind in catalogue.kinds}
    logs: dict[Entity, EntityLog] = {}
    last: dict[str, deque[EventFacts]] = defaultdict(lambda: deque(maxlen=SEQUENCE))
    for event in events:
        facts = facts_of(event, catalogue, id_key.encode(), group=group_of[event.user])
        if any(_same(earlier, facts) for earlier in last[event.user]):
            continue
        last[event.user].append(facts)
        for kind, key in facts.keys.items():
            entity = (facts.group, kind, key.hex())
            logs.setdefault(entity, EntityLog(kinds[kind], [], in_order)).events.append(facts)
    return logs


def _same(one: EventFacts, other: EventFacts) -> bool:
    return (one.topic, one.event_id, one.time_ms) == (other.topic, other.event_id, other.time_ms)


def _padded(events: Sequence[EventFacts], t: int, length: int, codes: Callable[[EventFacts], Codes]) -> list[tuple[Codes, float]]:
    entries = [(codes(e), max(0, t - e.time_ms) / 1000) for e in events[-length:]]
    return [*[(NO_CODES, 0.0)] * (length - len(entries)), *entries]
