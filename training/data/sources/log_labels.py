"""Labels of a log's events: those in the log, and those that follow from the rest of a session.

A session is named by the log, or consists of one user's events without a pause longer than the gap. It is over when the log
continues for that gap after its last event. The events of an open session have no label except the action that came next.
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

Recommended = Literal["engaged item", "next item", "next category"]

_IMPORTED_TASKS: Final = ("intent", "click", "conversion")  # tasks of Label, beside fraud, that override labels from the session


@dataclass(frozen=True)
class FraudTruth:
    """Fraud labels of N events, and when they were known.

    Attributes:
        truth: (N,) int8, 1 fraud, 0 honest, -1 never known.
        known_ms: (N,) int64, when a fraud became known; NEVER_MS for honest events.
        mature_ms: (N,) int64, when an event without a complaint begins to count as honest.
    """

    truth: NDArray[np.int8]
    known_ms: NDArray[np.int64]
    mature_ms: NDArray[np.int64]


def fraud_truth(events: Sequence[Event], labels: Sequence[Label], maturity_ms: int | None) -> FraudTruth:
    """Join fraud labels to their events by event id.

    If some labels say honest (value 0), only labelled events are known. Otherwise an event of a kind with frauds is honest once
    it is older than the longest delay of a fraud label (or `maturity_ms`).

    Raises:
        ContractError: No label names an event of the log, or an id names several events.
    """
    by_id = {label.event_id: label for label in labels if label.task == "fraud"}
    time_ms = np.array([event.event_time_ms for event in events], np.int64)
    truth = np.full(len(events), UNKNOWN, np.int8)
    known_ms, mature_ms = np.full(len(events), NEVER_MS, np.int64), np.full(len(events), NEVER_MS, np.int64)
    if not by_id:
        return FraudTruth(truth, known_ms, mature_ms)
    places = _places_of(events, by_id)
    matches = [by_id[events[place].event_id] for place in places]
    label_ms = np.array([label.label_time_ms for label in matches], np.int64)
    frauds = np.array([label.value > 0 for label in matches])
    if frauds.all():
        delay_ms = int((label_ms - time_ms[places]).max()) if maturity_ms is None else maturity_ms
        kinds = {type(events[place]) for place in places}
        truth[[type(event) in kinds for event in events]] = 0
        mature_ms = time_ms + delay_ms
    else:
        mature_ms[places] = label_ms
    truth[places] = frauds
    known_ms[places] = np.where(frauds, label_ms, NEVER_MS)
    return FraudTruth(truth, known_ms, mature_ms)


def _places_of(events: Sequence[Event], by_id: Mapping[str, Label]) -> list[int]:
    places = [place for place, event in enumerate(events) if event.event_id in by_id]
    moments = {(event.event_id, event.user, event.event_time_ms) for event in map(events.__getitem__, places)}
    ids = {event_id for event_id, _, _ in moments}
    if not ids or len(moments) > len(ids):
        fault = f"{len(moments):,} different events share {len(ids):,} of them" if ids else "no event has one of those ids"
        raise ContractError(
            f"{len(by_id):,} fraud labels name their events by id, and {fault}. Operator action: correct the mapping: event_id "
            "of a label and of its event must be the same, and no other event's; with several files use {file} in both."
        )
    return places


def imported_labels(events: Sequence[Event], labels: Sequence[Label]) -> dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Return for each task with labels in the log the labels (N,) and when each was known (N,)."""
    imported = {(label.task, label.event_id): label for label in labels if label.task in _IMPORTED_TASKS}
    by_task: dict[str, tuple[NDArray[np.int32], NDArray[np.int64]]] = {}
    for task in sorted({task for task, _ in imported}):
        of_events = [imported.get((task, event.event_id)) for event in events]
        values = np.array([UNKNOWN if label is None else round(label.value) for label in of_events], np.int32)
        by_task[task] = values, np.array([NEVER_MS if label is None else label.label_time_ms for label in of_events], np.int64)
    return by_task


def sessions_of(events: Sequence[Event], gap_ms: int) -> list[list[int]]:
    """Return the positions of each session in `events` (in canonical order), ascending."""
    current: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    ended: list[list[int]] = []
    for place, event in enumerate(events):
        session = current[event.user, event.session]
        if session and not event.session and event.event_time_ms - events[session[-1]].event_time_ms > gap_ms:
            ended.append(session)
            session = current[event.user, event.session] = []
        session.append(place)
    return [*ended, *current.values()]


@dataclass(frozen=True)
class SessionLabels:
    """Labels of N events from the rest of their sessions.

    Attributes:
        labels: (N, fields of SessionLabel) int32.
        known_ms: (N, fields of SessionLabel) int64, when each became known: the next action and item with the next event, all
            others at the end of the session; NEVER_MS where nothing is known.
        session: (N,) int64, number of the event's session.
    """

    labels: NDArray[np.int32]
    known_ms: NDArray[np.int64]
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
        events: the N events.
        numbers: item -> number, for all items of the log.
        gap_ms: pause that ends a session.
        leave: whether the last event of a session has the next action `leave`; else it has none.
        recommended: meaning of `next_item`: the next other item that is engaged with (session_labels.py), the item of the next
            event, or the category of the next event.
        categories: category -> number, for all of the log.
    """
    shape = (len(events), len(SessionLabel._fields))
    result = SessionLabels(np.full(shape, UNKNOWN, np.int32), np.full(shape, NEVER_MS, np.int64), np.zeros(len(events), np.int64))
    labels, known_ms = result.labels, result.known_ms
    action, item = (SessionLabel._fields.index(name) for name in ("next_action", "next_item"))
    end_ms = events[-1].event_time_ms if events else 0
    for number, places in enumerate(sessions_of(events, gap_ms)):
        steps = [step_of(events[place], numbers) for place in places]
        over_ms = steps[-1].time_ms + gap_ms
        result.session[places] = number
        if over_ms <= end_ms:
            labels[places], known_ms[places] = session_labels(steps, bot=False), over_ms
            if not leave:
                labels[places[-1], action] = UNKNOWN
        if recommended != "engaged item":
            labels[places, item] = UNKNOWN
        # Where `leave` is a class, an action counts only if the log lasts for the whole gap after the event, so quick
        # actions are not overrepresented at the end of the log.
        for at, next_place in pairwise(places):
            if not leave or events[at].event_time_ms + gap_ms <= end_ms:
                labels[at, action] = next_kind(step_of(events[next_place], numbers))
                known_ms[at, action] = events[next_place].event_time_ms
            if recommended != "engaged item":
                labels[at, item] = _target(events[next_place], recommended, numbers, categories)
                known_ms[at, item] = events[next_place].event_time_ms
    return result


def first_item(event: Event) -> Click | OrderLine | None:
    """Return the part of an event that names item and category: a click itself, an order's first line; None for a search."""
    if isinstance(event, Order):
        return event.lines[0]
    return event if isinstance(event, Click) else None


def _target(event: Event, recommended: Recommended, numbers: dict[str, int], categories: dict[str, int]) -> int:
    item = first_item(event)
    if item is None:
        return UNKNOWN
    return numbers[item.item] if recommended == "next item" else categories.get(item.category, UNKNOWN)
