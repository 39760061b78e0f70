"""Made-up events, their records and the real pipeline without a model, for tests of the scoring path."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from stream_app import wiring
from stream_app.clock import Clock
from stream_app.config import FeaturesSettings, ModelSettings, Settings
from stream_app.events import ACTIONS, Click, Event, Order, OrderLine, Search
from stream_app.features.engine import FeatureEngine
from stream_app.metrics import Metrics
from stream_app.pipeline import Pipeline
from stream_app.store.port import Store

__all__ = [
    "BASE_MS",
    "SETTINGS",
    "Record",
    "TickingClock",
    "make_events",
    "record_of",
    "scoring_engine",
    "scoring_pipeline",
    "topic_of",
    "with_own_things",
]

# Five minutes before a time where tiles of every window begin (1 min to 2 days): events around it cross all their edges.
BASE_MS = 10_000 * 172_800_000 - 300_000


@dataclass(frozen=True, slots=True)
class Record:
    """A source record as a consumer hands it over."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = field(default=())


class TickingClock:
    """Tells another time at every look, so that an answer decided twice differs."""

    def __init__(self) -> None:
        self._now_ms = 2_000_000_000_000

    def now_ms(self) -> int:
        self._now_ms += 1
        return self._now_ms


SETTINGS = Settings(model=ModelSettings(engine="none"), features=FeaturesSettings())


@cache
def scoring_engine() -> FeatureEngine:
    """The shipped catalogue's engine, compiled once a process."""
    return wiring.build_engine(SETTINGS)


def scoring_pipeline(store: Store, clock: Clock | None = None, settings: Settings = SETTINGS, **changes: Any) -> Pipeline:
    """The worker's own pipeline over `store`; shut its `model_thread` down. `changes`: parts to put in place of others."""
    metrics = Metrics(CollectorRegistry())
    built = wiring.build_pipeline(settings, scoring_engine(), store, clock or TickingClock(), metrics)
    return replace(built, **changes)


def topic_of(event: Event) -> str:
    """The source topic that carries the event."""
    return {Search: "searches", Click: "clicks", Order: "orders"}[type(event)]


def record_of(event: Event, partition: int, offset: int, **changes: Any) -> Record:
    """The record that carries the event."""
    made = Record(topic_of(event), partition, offset, event.event_time_ms + 5, event.user.encode(), msgspec.json.encode(event))
    return replace(made, **changes)


def make_events(
    count: int, *, users: Sequence[str], devices: Sequence[str], seed: int = 1, span_ms: int = 600_000
) -> list[Event]:
    """Draw `count` events of all three kinds over [BASE_MS, BASE_MS + span_ms), roughly in order of time."""
    draw = random.Random(seed)
    events: list[Event] = []
    for number in range(count):
        who: dict[str, Any] = {
            "event_id": f"e-{seed}-{number}",
            "user": draw.choice(users),
            "session": f"s-{number // 20}",
            "device": draw.choice(devices),
            "ip": f"203.0.113.{draw.randrange(4)}",
            "event_time_ms": BASE_MS + number * span_ms // count + draw.randrange(span_ms // count + 1),
        }
        events.append(draw.choice([_search, _click, _order])(draw, who))
    return events


def with_own_things(event: Event) -> Event:
    """The event with a device, items, ... that no other user has, and without an address: nothing is shared between groups."""
    user = event.user
    own: dict[str, Any] = {"device": f"of-{user}", "ip": ""}
    if isinstance(event, Search):
        own["query"] = f"{event.query} {user}"
    elif isinstance(event, Click):
        own |= {"item": f"{event.item}-{user}", "category": f"{event.category}-{user}"}
    elif isinstance(event, Order):
        own["lines"] = [
            msgspec.structs.replace(line, item=f"{line.item}-{user}", category=f"{line.category}-{user}") for line in event.lines
        ]
        own["payment_instrument"] = f"{event.payment_instrument}-{user}"
    return msgspec.structs.replace(event, **own)


def _search(draw: random.Random, who: Mapping[str, Any]) -> Event:
    return Search(**who, query=f"shoes {draw.randrange(5)}", items_shown=["i-1"])


def _click(draw: random.Random, who: Mapping[str, Any]) -> Event:
    action = draw.choice(ACTIONS)
    return Click(
        **who,
        action=action,  # type: ignore[arg-type]  # ACTIONS and its type are kept equal by a test
        item=f"i-{draw.randrange(9)}",
        category=f"c-{draw.randrange(3)}",
        price=draw.randrange(1, 9_999) / 100,
        dwell_ms=len(action) * 1_000,
    )


def _order(draw: random.Random, who: Mapping[str, Any]) -> Event:
    amount = draw.randrange(1, 99_999) / 100
    lines = [OrderLine(item=f"i-{draw.randrange(9)}", category="c-1", unit_price=amount)]
    card = f"card-{draw.randrange(3)}"
    return Order(**who, lines=lines, amount=amount, currency="EUR", payment_instrument=card, shipping_address=f"of-{who['user']}")
