"""Labelled events of simulated shops, in order of arrival.

Fraud labels come from the messages on `labels`, joined by event id, as in a real shop: a chargeback names a fraudulent event and
the time when it became known; an event without chargeback is honest once the longest delay has passed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.evaluation.session_labels import SessionLabel, session_labels, step_of
from stream_app.events import SOURCE_TOPICS, Click, Event, Label, Order, Search
from stream_app.simulator.arrivals import SECOND_OF_TWO
from stream_app.simulator.shop import arrivals
from training.data.simulated_shops import SimulatedShop
from training.data.sources.events import NEVER_MS

_LONGEST_DELAY: Final = 2  # a label takes at most twice the typical delay (SimulatorOptions.label_delay_ms)
_BOT: Final = "bot_clicking"
# Pause that ends a session. The simulator's people read an item for at most 144 s (twice that in 4 min).
_SESSION_OVER_MS: Final = 4 * 60_000
_TOPICS: Final = dict(zip((Search, Click, Order), SOURCE_TOPICS, strict=True))


@dataclass(frozen=True)
class SimulatedVisits:
    """N labelled events of one shop in order of arrival, without the last minutes, whose sessions may continue.

    Attributes:
        events: the events.
        arrival_ms: (N,) int64, ascending; later than the event's time for those that came late or out of order.
        labels: labels from the rest of the session.
        fraud_known_ms: (N,) int64, when an event became known as fraud; NEVER_MS if never.
        maturity_ms: age at which an event without a complaint counts as honest.
    """

    events: list[Event]
    arrival_ms: NDArray[np.int64]
    labels: list[SessionLabel]
    fraud_known_ms: NDArray[np.int64]
    maturity_ms: int


def simulate_visits(shop: SimulatedShop, item_numbers: dict[str, int]) -> SimulatedVisits:
    """Run one simulation and label its observed events; `item_numbers`: item id -> number in the item table."""
    events: list[Event] = []
    times_ms: list[int] = []
    frauds: dict[str, Label] = {}
    for arrival in arrivals(shop.options):
        message = arrival.message
        if isinstance(message, Label):
            if message.task == "fraud" and message.value > 0:
                frauds[message.event_id] = message
        elif not arrival.damage and arrival.copy != SECOND_OF_TWO and _TOPICS[type(message)] in shop.topics:
            events.append(message)
            times_ms.append(arrival.arrival_ms)
    arrival_ms = np.array(times_ms, np.int64)
    known_ms = [frauds[e.event_id].label_time_ms if e.event_id in frauds else NEVER_MS for e in events]
    bots = {event_id for event_id, label in frauds.items() if label.kind == _BOT}
    usable = int(np.searchsorted(arrival_ms, arrival_ms.max(initial=0) - _SESSION_OVER_MS))
    return SimulatedVisits(
        events=[_observed(event, shop) for event in events[:usable]],
        arrival_ms=arrival_ms[:usable],
        labels=_label_sessions(events, usable, bots, item_numbers)[:usable],
        fraud_known_ms=np.array(known_ms[:usable], np.int64),
        maturity_ms=_LONGEST_DELAY * shop.options.label_delay_ms,
    )


def _observed(event: Event, shop: SimulatedShop) -> Event:
    changes = {name: default for name, default in _defaults(type(event)).items() if name in shop.hidden}
    if shop.tills:
        changes["device"] = f"till-{crc32(event.event_id.encode()) % shop.tills}"
    return msgspec.structs.replace(event, **changes) if changes else event


@cache
def _defaults(kind: type[Event]) -> dict[str, Any]:
    """Return the default of each field of a kind of event; cached, because msgspec takes 0.1 ms."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def _label_sessions(events: list[Event], usable: int, bots: set[str], item_numbers: dict[str, int]) -> list[SessionLabel]:
    """Label the sessions whose last event is among the first `usable` events; the others may continue."""
    sessions: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        sessions[event.user, event.session].append(place)
    labels = [SessionLabel()] * len(events)
    for places in sessions.values():
        if places[-1] >= usable:
            continue
        places.sort(key=lambda place: events[place].event_time_ms)  # in order of action, not of arrival
        steps = [step_of(events[place], item_numbers) for place in places]
        session = session_labels(steps, bot=events[places[0]].event_id in bots)
        for place, label in zip(places, session, strict=True):
            labels[place] = label
    return labels
