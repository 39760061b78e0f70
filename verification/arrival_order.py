"""Which stored sequences and sessions are right, although they depend on the order of arrival.

Order of arrival is fixed within one topic and free between two. A sequence is right if its entries of each topic are the last
ones of that topic, in order. A session is right if it follows from the order of arrival, where that is known: all events are of
one topic, or the stored sequence shows all of them. Elsewhere only the time of the session's last event is compared: it is the
newest of all.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from verification.oracle.facts import EventFacts
from verification.oracle.replay import EntityLog
from verification.oracle.state import SEQUENCE, interaction

Interaction = Mapping[str, Any]


def sequence_fault(topics: Mapping[str, Sequence[EventFacts]], stored: Sequence[Interaction]) -> str:
    """Return what is wrong with a stored sequence of an entity with these events by topic, "" if nothing.

    It must have min(32, all) entries, and those of each topic must be that topic's last ones, in order.
    """
    total = sum(len(events) for events in topics.values())
    if len(stored) != min(SEQUENCE, total):
        return f"{len(stored)} entries, not {min(SEQUENCE, total)}"
    by_topic: dict[str, list[Interaction]] = defaultdict(list)
    for entry in stored:
        by_topic[_topic_of(entry, topics)].append({name: value for name, value in entry.items() if name != "commit"})
    for topic, entries in by_topic.items():
        last = [interaction(event) for event in list(topics.get(topic, ()))[-len(entries) :]]
        if entries != last:
            return f"the last {len(entries)} of {topic or 'all'} are {entries}, not {last}"
    return ""


def arrival_order(log: EntityLog, stored: Mapping[str, Any]) -> list[EventFacts] | None:
    """Return an entity's events in their order of arrival, None where a stored state does not show it."""
    topics, sequence = log.by_topic(), stored.get("sequence", ())
    if len(topics) == 1:
        return log.events
    if len(sequence) == len(log.events) and not sequence_fault(topics, sequence):
        waiting = {topic: deque(events) for topic, events in topics.items()}
        return [waiting[_topic_of(entry, topics)].popleft() for entry in sequence]
    return None


def session_fault(log: EntityLog, stored: Mapping[str, Any]) -> str:
    """Return what is wrong with the session of a stored state, "" if nothing."""
    session = stored.get("session")
    order = arrival_order(log, stored)
    if order is not None:
        expected = log.kind.session(order)
        return "" if session == expected else f"{session}, not {expected}"
    last_ms, newest_ms = session and session["last_ms"], max(event.time_ms for event in log.events)
    return "" if last_ms == newest_ms else f"last event {last_ms}, not {newest_ms}"


def _topic_of(entry: Interaction, topics: Mapping[str, Sequence[EventFacts]]) -> str:
    return "" if "" in topics else {"search": "searches", "order": "orders"}.get(entry["kind"], "clicks")
