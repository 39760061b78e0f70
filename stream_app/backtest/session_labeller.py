"""Labels of intent, next action and next item, derived from the events that follow in a session.

A session is the events of one user with one session id; a pause longer than the gap ends it. Its labels are ready once the log
has reached the gap after its last event; a session that may still continue has none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from stream_app.evaluation.recommendation_metrics import ItemLog
from stream_app.evaluation.session_labels import SessionLabel, session_labels, step_of
from stream_app.events import Click, Event, Order


class SessionLabeller:
    """Open sessions; `items` numbers and counts the items of all events."""

    def __init__(self, items: ItemLog, gap_ms: int) -> None:
        self._items, self._gap_ms = items, gap_ms
        # (user, session) -> (row or -1, event) of each of its events; the session idle for longest comes first.
        self._open: OrderedDict[tuple[str, str], list[tuple[int, Event]]] = OrderedDict()

    def add(self, event: Event, row: int) -> Iterator[tuple[int, SessionLabel]]:
        """Add the next event of the log (`row` -1: it is not scored); yield rows and labels of finished sessions."""
        now_ms = event.event_time_ms
        while self._open:
            oldest = next(iter(self._open.values()))
            if now_ms - oldest[-1][1].event_time_ms <= self._gap_ms:
                break
            self._open.popitem(last=False)
            yield from self._labels(oldest)
        for line in event.lines if isinstance(event, Order) else (event,) if isinstance(event, Click) else ():
            self._items.add(line.item, now_ms)
        own = self._open.setdefault((event.user, event.session), [])
        own.append((row, event))
        self._open.move_to_end((event.user, event.session))

    def _labels(self, session: list[tuple[int, Event]]) -> Iterator[tuple[int, SessionLabel]]:
        if all(row < 0 for row, _ in session):
            return
        labels = session_labels([step_of(event, self._items.numbers) for _, event in session], bot=False)
        for (row, _), label in zip(session, labels, strict=True):
            if row >= 0:
                yield row, label
