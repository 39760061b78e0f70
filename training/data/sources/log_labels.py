"""What a log's events turned out to mean: labels that came with it, and those that the rest of a session tells.

A session is what the log calls one, or what one user does without a pause longer than the gap. It is over when the log goes on
for that gap after its last event; before that it may go on, and its events have no label but the action that did come next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.evaluation.session_labels import SessionLabel, next_kind, session_labels, step_of
from stream_app.events import Click, Event, Label, Order, OrderLine
from training.data.dataset import UNKNOWN
from training.data.sources.events import NEVER_MS

__all__ = [
    "FraudTruth",
    "Recommended",
    "SessionLabels",
    "first_thing",
    "fraud_truth",
    "labels_of_sessions",
    "sessions_of",
    "told_labels",
]

Recommended = Literal["engaged item", "next item", "next category"]

_TOLD: Final = ("intent", "click", "conversion")  # tasks of Label, beside fraud, that overrule what the session tells


@dataclass(frozen=True)
class FraudTruth:
    """What a log says of fraud, for N events.

    Attributes:
        truth: (N,) int8, 1 fraud, 0 honest, -1 never said.
        known_ms: (N,) int64, when a fraud became known; NEVER_MS for the honest.
        decided_ms: (N,) int64, from when on the event counts as honest if nothing was said against it.
    """

    truth: NDArray[np.int8]
    known_ms: NDArray[np.int64]
    decided_ms: NDArray[np.int64]


def fraud_truth(events: Sequence[Event], labels: Sequence[Label], maturity_ms: int | None) -> FraudTruth:
    """Join fraud labels to their events by event id.

    If there are verdicts of honest (value 0), only what has a verdict is known. Else silence means honest, for events of the
    kinds that ever are frauds, once they are older than the longest delay there was (or `maturity_ms`).

    Raises:
        ContractError: No label names an event of the log, or one id names several.
    """
    told = {label.event_id: label for label in labels if label.task == "fraud"}
    time_ms = np.array([event.event_time_ms for event in events], np.int64)
    truth = np.full(len(events), UNKNOWN, np.int8)
    known_ms, decided_ms = np.full(len(events), NEVER_MS, np.int64), np.full(len(events), NEVER_MS, np.int64)
    if not told:
        return FraudTruth(truth, known_ms, decided_ms)
    places = _places_of(events, told)
    said = [told[events[place].event_id] for place in places]
    said_ms = np.array([label.label_time_ms for label in said], np.int64)
    frauds = np.array([label.value > 0 for label in said])
    if frauds.all():
        delay_ms = int((said_ms - time_ms[places]).max()) if maturity_ms is None else maturity_ms
        kinds = {type(events[place]) for place in places}
        truth[[type(event) in kinds for event in events]] = 0
        decided_ms = time_ms + delay_ms
    else:
        decided_ms[places] = said_ms
    truth[places] = frauds
    known_ms[places] = np.where(frauds, said_ms, NEVER_MS)
    return FraudTruth(truth, known_ms, decided_ms)


def _places_of(events: Sequence[Event], told: Mapping[str, Label]) -> list[int]:
    places = [place for place, event in enumerate(events) if event.event_id in told]
    moments = {(event.event_id, event.user, event.event_time_ms) for event in map(events.__getitem__, places)}
    ids = {event_id for event_id, _, _ in moments}
    if not ids or len(moments) > len(ids):
        wrong = f"{len(moments):,} different events share {len(ids):,} of them" if ids else "no event has one of those ids"
        raise ContractError(
            f"{len(told):,} fraud labels name their events by id, and {wrong}. Operator action: correct the mapping: event_id of "
            "a label and of its event must be the same, and no other event's; with several files use {file} in both."
        )
    return places


def told_labels(events: Sequence[Event], labels: Sequence[Label]) -> dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Return, by task, labels (N,) that the log brings itself, and when each was known (N,); only tasks that have any."""
    told = {(label.task, label.event_id): label for label in labels if label.task in _TOLD}
    found: dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]] = {}
    for task in sorted({task for task, _ in told}):
        of_events = [told.get((task, event.event_id)) for event in events]
        values = np.array([UNKNOWN if label is None else round(label.value) for label in of_events], np.int32)
        found[task] = values, np.array([NEVER_MS if label is None else label.label_time_ms for label in of_events], np.int64)
    return found


def sessions_of(events: Sequence[Event], gap_ms: int) -> list[list[int]]:
    """Return each session's places in `events` (in canonical order), ascending."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    done: list[list[int]] = []
    for place, event in enumerate(events):
        own = found[event.user, event.session]
        if own and not event.session and event.event_time_ms - events[own[-1]].event_time_ms > gap_ms:
            done.append(own)
            own = found[event.user, event.session] = []
        own.append(place)
    return [*done, *found.values()]


@dataclass(frozen=True)
class SessionLabels:
    """What sessions tell of N events.

    Attributes:
        labels: (N, fields of SessionLabel) int32.
        told_ms: (N, fields of SessionLabel) int64, when each became known: what came next with the next event, all else when the
            session was over; NEVER_MS where nothing is known.
        session: (N,) int64, which session the event is of.
    """

    labels: NDArray[np.int32]
    told_ms: NDArray[np.int64]
    session: NDArray[np.int64]


def labels_of_sessions(
    events: Sequence[Event],
    numbers: dict[str, int],
    *,
    gap_ms: int,
    leave: bool,
    recommended: Recommended,
    categories: dict[str, int],
) -> SessionLabels:
    """Label N events in canonical order by the rest of their sessions.

    Args:
        events: the log.
        numbers: item -> number; has all items of the log.
        gap_ms: see the module.
        leave: whether the last event of a session has the next action `leave`; else none.
        recommended: what `next_item` is: the next other item that is engaged with (session_labels.py), the item of the next
            event, or the category of the next event.
        categories: category -> number; has all of the log.
    """
    shape = (len(events), len(SessionLabel._fields))
    found = SessionLabels(np.full(shape, UNKNOWN, np.int32), np.full(shape, NEVER_MS, np.int64), np.zeros(len(events), np.int64))
    labels, told_ms = found.labels, found.told_ms
    action, item = (SessionLabel._fields.index(name) for name in ("next_action", "next_item"))
    end_ms = events[-1].event_time_ms if events else 0
    for number, places in enumerate(sessions_of(events, gap_ms)):
        steps = [step_of(events[place], numbers) for place in places]
        over_ms = steps[-1].time_ms + gap_ms
        found.session[places] = number
        if over_ms <= end_ms:
            labels[places], told_ms[places] = session_labels(steps, bot=False), over_ms
            if not leave:
                labels[places[-1], action] = UNKNOWN
        if recommended != "engaged item":
            labels[places, item] = UNKNOWN
        # Whoever had the whole gap to act has acted, whether or not the session is over: no action is favoured by its haste.
        # Where it is only asked what came, not whether, all that did counts.
        for at, following in pairwise(places):
            if not leave or events[at].event_time_ms + gap_ms <= end_ms:
                labels[at, action] = next_kind(step_of(events[following], numbers))
                told_ms[at, action] = events[following].event_time_ms
            if recommended != "engaged item":
                labels[at, item] = _goal(events[following], recommended, numbers, categories)
                told_ms[at, item] = events[following].event_time_ms
    return found


def first_thing(event: Event) -> Click | OrderLine | None:
    """Return what names the event's item and category: itself, an order's first line; None for a search."""
    if isinstance(event, Order):
        return event.lines[0]
    return event if isinstance(event, Click) else None


def _goal(event: Event, recommended: Recommended, numbers: dict[str, int], categories: dict[str, int]) -> int:
    thing = first_thing(event)
    if thing is None:
        return UNKNOWN
    return numbers[thing.item] if recommended == "next item" else categories.get(thing.category, UNKNOWN)
