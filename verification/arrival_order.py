"""What is right where state depends on the order of arrival: sequences and sessions.

Order of arrival is fixed within one topic and free between two. So a sequence is right if its entries of each topic are that
topic's last ones, in order; and a session is right if it is the one that the order makes, where the order is known: all events
are of one topic, or the stored sequence shows all of them. Elsewhere only the session's last event is compared: it is the newest
of all.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from verification.oracle import ALL_TOPICS, SEQUENCE, OracleSession, OracleState, Visit
from verification.oracle_values import Entry

__all__ = ["order_of", "sequence_fault", "session_after", "session_fault"]


def _topic_of(entry: Entry) -> str:
    """Return the topic of an interaction."""
    return {1: "searches", 6: "orders"}.get(entry.kind, "clicks")


def sequence_fault(arrivals: Mapping[str, Sequence[Entry]], found: Sequence[Entry]) -> str:
    """Return what is wrong with a stored sequence, "" if nothing.

    It must have min(32, all) entries, and those of each topic must be that topic's last ones, in order.
    """
    total = sum(len(entries) for entries in arrivals.values())
    if len(found) != min(SEQUENCE, total):
        return f"{len(found)} entries, not {min(SEQUENCE, total)}"
    by_topic: dict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        by_topic[ALL_TOPICS if ALL_TOPICS in arrivals else _topic_of(entry)].append(entry)
    for topic, entries in by_topic.items():
        last = list(arrivals.get(topic, ()))[-len(entries) :]
        if entries != last:
            return f"the last {len(entries)} of {topic or 'all'} are {entries}, not {last}"
    return ""


def order_of(should: OracleState, found: OracleState) -> list[Visit] | None:
    """Return an entity's visits in their order of arrival, if it is known: all are of one topic, or the sequence shows all."""
    if len(should.visits) <= 1:
        return [visit for visits in should.visits.values() for visit in visits]
    shown = len(found.sequence) == sum(map(len, should.visits.values()))
    if shown and not sequence_fault(should.arrivals, found.sequence):
        waiting = {topic: deque(visits) for topic, visits in should.visits.items()}
        return [waiting[_topic_of(entry)].popleft() for entry in found.sequence]
    return None


def session_after(visits: Iterable[Visit], should: OracleState) -> OracleSession | None:
    """Return the current session after visits in their order of arrival."""
    start_ms = last_ms = -1
    sums: list[int] = []
    for time_ms, values in visits:
        if start_ms < 0 or time_ms > last_ms + should.session_gap_ms:
            start_ms = last_ms = time_ms
            sums = list(values)
        elif time_ms >= start_ms - should.session_gap_ms:
            start_ms, last_ms = min(start_ms, time_ms), max(last_ms, time_ms)
            sums = [a + b for a, b in zip(sums, values, strict=True)]
    return (
        OracleSession(start_ms, last_ms, dict(zip(should.session_measures, sums, strict=True))) if sums or start_ms >= 0 else None
    )


def session_fault(should: OracleState, found: OracleState) -> str:
    """Return what is wrong with a stored session, "" if nothing."""
    order = order_of(should, found)
    if order is not None:
        expected = session_after(order, should)
        return "" if found.session == expected else f"{found.session}, not {expected}"
    last_ms = None if found.session is None else found.session.last_ms
    return "" if last_ms == should.newest_ms else f"last event {last_ms}, not {should.newest_ms}"
