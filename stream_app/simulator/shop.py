"""The simulator's front: sessions and rings joined into one stream in time, and that stream as records.

The same options give the same bytes, in the same order. Nothing here reads a clock or does I/O; a live run stamps the wall
clock's times on with `LiveStamp`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from stream_app.events import Click, Label, Order, Search
from stream_app.simulator.arrivals import FIRST_OF_TWO, SECOND_OF_TWO, Arrival, arrivals_from_actions
from stream_app.simulator.catalogue import ItemCatalogue
from stream_app.simulator.damage import damaged
from stream_app.simulator.draws import seeded
from stream_app.simulator.fraud import MEAN_RING_EVENTS, Rings
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.rhythm import arrival_times
from stream_app.simulator.sessions import MEAN_EVENTS, Sessions
from stream_app.simulator.shoppers import Population
from stream_app.simulator.visit import SimulatedAction, VisitNumbers

_RING_WARM_UP_MS: Final = 1_800_000  # most rings last no longer

_encode: Final = msgspec.json.Encoder().encode


class SimulatedRecord(NamedTuple):
    """One record for a topic, as bytes. `time_ms` is when it arrives, not when its event happened."""

    topic: str
    key: bytes
    value: bytes
    time_ms: int


class SimulatedEvent(NamedTuple):
    """One good event with the truth about it: for training and for tests. `fraud_kind` is empty for honest ones."""

    topic: str
    event: Search | Click | Order
    arrival_ms: int
    fraud_kind: str
    intent: str


def simulate(options: SimulatorOptions) -> Iterator[SimulatedRecord]:
    """Yield source records and labels in order of arrival; keys are user ids."""
    for arrival in arrivals(options):
        yield record_from_arrival(arrival)


def simulated_events(options: SimulatorOptions) -> Iterator[SimulatedEvent]:
    """Yield the good events of the same stream with their truth, in order of arrival; second copies are left out."""
    for arrival in arrivals(options):
        if arrival.topic != "labels" and not arrival.damage and arrival.copy != SECOND_OF_TWO:
            event: Search | Click | Order = arrival.message  # type: ignore[assignment]  # not a label: see the topic
            yield SimulatedEvent(arrival.topic, event, arrival.arrival_ms, arrival.fraud_kind, arrival.intent)


def arrivals(options: SimulatorOptions, stop: Callable[[], bool] = lambda: False) -> Iterator[Arrival]:
    """Yield what `simulate` encodes: typed messages with truth and damage; see `arrivals_from_actions`."""
    return arrivals_from_actions(_actions(options), options, stop)


def record_from_arrival(arrival: Arrival) -> SimulatedRecord:
    """Return the bytes of one arrival."""
    message = arrival.message
    value = _encode(message)
    if arrival.damage:
        value = damaged(value, arrival.damage)
    return SimulatedRecord(arrival.topic, message.user.encode(), value, arrival.arrival_ms)


class LiveStamp:
    """Moves arrivals from simulated time to the wall clock's, each keeping its own lateness; copies stay byte-identical."""

    def __init__(self) -> None:
        self._repeated: dict[str, Search | Click | Order | Label] = {}

    def stamp(self, arrival: Arrival, now_ms: int) -> Arrival:
        """Return the arrival as it is at `now_ms`."""
        message = arrival.message
        if arrival.copy == SECOND_OF_TWO:
            message = self._repeated.pop(message.event_id, message)
        else:
            message = _shifted(message, now_ms - arrival.arrival_ms, now_ms)
        if arrival.copy == FIRST_OF_TWO:
            self._repeated[message.event_id] = message
        return arrival._replace(message=message, arrival_ms=now_ms)


def _shifted(message: Search | Click | Order | Label, shift_ms: int, now_ms: int) -> Search | Click | Order | Label:
    if hasattr(message, "label_time_ms"):
        # Labels left at the end arrive at once, so each is known at its arrival.
        return msgspec.structs.replace(message, label_time_ms=now_ms)
    return msgspec.structs.replace(message, event_time_ms=message.event_time_ms + shift_ms)


def _actions(options: SimulatorOptions) -> Iterator[SimulatedAction]:
    """Yield events from the start on, ascending in time, without end."""
    catalogue = ItemCatalogue(options.seed if options.shop_seed is None else options.shop_seed, options.items)
    population = Population(options.seed, options.users, len(catalogue.categories))
    numbers = VisitNumbers(options.prefix)
    sessions = Sessions(options.seed, catalogue, population, numbers)
    rings = Rings(options.seed, catalogue, population, numbers)
    per_ms = options.events_per_s / 1_000
    begin_ms = options.start_ms - options.warm_up_ms
    # Rings last longer than sessions and are few: they start earlier still.
    ring_begin_ms = begin_ms - (_RING_WARM_UP_MS if options.warm_up_ms else 0)
    session_times = arrival_times(
        seeded(options.seed, "session times"),
        per_ms * (1 - options.fraud_share) / MEAN_EVENTS,
        begin_ms,
        rhythm=options.rhythm,
    )
    ring_times = _ring_times(options, ring_begin_ms)
    next_session, next_ring = next(session_times), next(ring_times)
    waiting: list[tuple[int, int, SimulatedAction]] = []
    sequence = 0
    while True:
        now_ms = min(next_session, next_ring)
        while waiting and waiting[0][0] <= now_ms:
            action = heapq.heappop(waiting)[2]
            if action.time_ms >= options.start_ms:
                yield action
        if next_session <= next_ring:
            new, next_session = sessions.next_session(now_ms).actions, next(session_times)
        else:
            new, next_ring = rings.next_ring(now_ms), next(ring_times)
        for action in new:
            sequence += 1  # equal times stay in the order of writing, and events are never compared
            heapq.heappush(waiting, (action.time_ms, sequence, action))


def _ring_times(options: SimulatorOptions, begin_ms: int) -> Iterator[int]:
    if not options.fraud_share:
        yield 1 << 62  # never
    # Rings follow no rhythm of the day.
    per_ms = options.events_per_s / 1_000 * options.fraud_share / MEAN_RING_EVENTS
    yield from arrival_times(seeded(options.seed, "ring times"), per_ms, begin_ms, rhythm=False)
