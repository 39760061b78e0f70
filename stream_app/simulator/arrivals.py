"""Turn events into arrivals: late, out of order, twice or damaged; their labels arrive on `labels` after a delay.

    late          happened 1 to 36 hours before it arrives (a phone that was offline); some are beyond the default lateness
    out of order  arrives 0.5 to 20 s after it happened, behind younger events
    duplicate     arrives a second time within 20 s, byte for byte
    malformed     a broken copy of an event under an id of its own; it is extra, so the truth of the event itself stands

Arrivals come ascending in `arrival_ms`. Events that have not arrived when the simulation ends get no label; labels whose delay
reaches beyond the end arrive at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from stream_app.events import INTENTS, Click, Label, Order, Search
from stream_app.simulator.draws import seeded, spread
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.visit import SimulatedAction

ONLY: Final = 0  # values of Arrival.copy
FIRST_OF_TWO: Final = 1
SECOND_OF_TWO: Final = 2

_HOUR_MS: Final = 3_600_000


class Arrival(NamedTuple):
    """One record about to be sent.

    `damage`: 0, or the kind of corruption. `copy`: whether the record repeats an earlier one.
    """

    arrival_ms: int
    topic: str
    message: Search | Click | Order | Label
    fraud_kind: str
    intent: str
    copy: int
    damage: int


class _Disturbance:
    """Draw delay, repetition and damage of each event, and hold arrivals until their time."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._rng = seeded(options.seed, "arrivals")
        self._label_rng = seeded(options.seed, "labels")
        self._options = options
        self._late = options.late_share
        self._behind = self._late + options.out_of_order_share
        self._waiting: list[tuple[int, int, Arrival]] = []
        self._sequence = 0
        self._broken = 0

    def due(self, now_ms: int) -> Iterator[Arrival]:
        """Yield the held arrivals up to `now_ms`, ascending."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            yield heapq.heappop(self._waiting)[2]

    def rest_of_labels(self) -> Iterator[Arrival]:
        """Yield the held labels, ascending; held events are dropped at the end of the simulation."""
        while self._waiting:
            arrival = heapq.heappop(self._waiting)[2]
            if arrival.topic == "labels":
                yield arrival

    def disturb(self, action: SimulatedAction) -> Arrival | None:
        """Return the event as it arrives now, or None when it arrives later."""
        now_ms, topic, event, fraud_kind, intent = action
        rng, options = self._rng, self._options
        draw = rng.random()
        delay_ms = 0
        if draw < self._late:
            back_ms = int(_HOUR_MS * 36.0 ** rng.random())
            event = msgspec.structs.replace(event, event_time_ms=event.event_time_ms - back_ms)
        elif draw < self._behind:
            delay_ms = int(500 * 40.0 ** rng.random())
        copy = FIRST_OF_TWO if rng.random() < options.duplicate_share else ONLY
        if rng.random() < options.malformed_share:
            self._broken += 1
            broken = msgspec.structs.replace(event, event_id=f"{options.prefix}m{self._broken}")
            self._later(Arrival(now_ms + delay_ms, topic, broken, "", intent, ONLY, 1 + int(rng.random() * 1_000)))
        arrival = Arrival(now_ms + delay_ms, topic, event, fraud_kind, intent, copy, 0)
        if copy:
            again_ms = arrival.arrival_ms + 1 + int(rng.random() * 20_000)
            self._later(arrival._replace(arrival_ms=again_ms, copy=SECOND_OF_TWO))
        if delay_ms:
            self._later(arrival)
            return None
        return arrival

    def schedule_labels(self, arrival: Arrival) -> None:
        """Schedule the labels of an event that arrives now."""
        message = arrival.message
        if arrival.copy == SECOND_OF_TWO or arrival.damage or isinstance(message, Label):
            return
        if arrival.fraud_kind:
            self._label(arrival, "fraud", 1.0, arrival.fraud_kind)
        if self._options.intent_labels:
            self._label(arrival, "intent", float(INTENTS.index(arrival.intent)), arrival.intent)

    def _label(self, arrival: Arrival, task: str, value: float, kind: str) -> None:
        known_ms = arrival.arrival_ms + int(spread(self._label_rng, self._options.label_delay_ms, 2.0))
        label = Label(
            event_id=arrival.message.event_id,
            user=arrival.message.user,
            label_time_ms=known_ms,
            task=task,  # type: ignore[arg-type]  # only called with the two tasks above
            value=value,
            kind=kind,
        )
        self._later(Arrival(known_ms, "labels", label, arrival.fraud_kind, arrival.intent, ONLY, 0))

    def _later(self, arrival: Arrival) -> None:
        self._sequence += 1  # keeps the heap from comparing messages, and equal times in their order
        heapq.heappush(self._waiting, (arrival.arrival_ms, self._sequence, arrival))


def arrivals_from_actions(
    actions: Iterator[SimulatedAction], options: SimulatorOptions, stop: Callable[[], bool]
) -> Iterator[Arrival]:
    """Yield arrivals until the options' end, or until `stop` returns True before a source record; then the remaining labels.

    The actions ascend in time and may be endless.
    """
    disturbance = _Disturbance(options)
    limit = options.events if options.events is not None else -1
    end_ms = options.start_ms + options.duration_ms if options.duration_ms is not None else None
    count = 0
    for arrival in _in_order(actions, disturbance, end_ms):
        if arrival.topic != "labels":
            if count == limit or stop():
                break
            count += 1
            disturbance.schedule_labels(arrival)
        yield arrival
    yield from disturbance.rest_of_labels()


def _in_order(actions: Iterator[SimulatedAction], disturbance: _Disturbance, end_ms: int | None) -> Iterator[Arrival]:
    for action in actions:
        if end_ms is not None and action.time_ms >= end_ms:
            yield from disturbance.due(end_ms)
            return
        yield from disturbance.due(action.time_ms)
        arrival = disturbance.disturb(action)
        if arrival is not None:
            yield arrival
