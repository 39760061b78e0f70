"""One visit to the shop, written down event by event: the only place where the simulator makes events.

A visit has a cursor in event time that moves with every step. An interaction is reported when it ends, so its time already
includes its dwell. Honest sessions and fraud rings use the same writer: they differ only in their actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stream_app.events import Action, Click, Intent, Order, OrderLine, Platform, Scene, Search
from stream_app.simulator.catalogue import Category, Item
from stream_app.simulator.shoppers import Shopper, home_currency


class SimulatedAction(NamedTuple):
    """One event and the truth about it. `fraud_kind` is empty for honest events; `intent` is that of its session."""

    time_ms: int
    topic: str
    event: Search | Click | Order
    fraud_kind: str
    intent: Intent


@dataclass(slots=True)
class VisitNumbers:
    """Hands out event and session ids, each once in a simulation."""

    prefix: str
    events: int = 0
    sessions: int = 0

    def event_id(self) -> str:
        """Return the next event id."""
        self.events += 1
        return f"{self.prefix}e{self.events}"

    def session_id(self) -> str:
        """Return the next session id."""
        self.sessions += 1
        return f"{self.prefix}s{self.sessions}"


@dataclass(frozen=True, slots=True)
class Payment:
    """How and where an order is paid and sent."""

    instrument: str
    address: str
    billing_country: str
    shipping_country: str
    ip_country: str


@dataclass(slots=True, kw_only=True)
class Visit:
    """A session being written: `now_ms` is its cursor, `actions` are its events so far, ascending in time."""

    numbers: VisitNumbers
    shopper: Shopper
    now_ms: int
    device: str
    ip: str
    platform: Platform
    intent: Intent
    fraud_kind: str = ""
    session: str = ""
    actions: list[SimulatedAction] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draw the session's id."""
        self.session = self.session or self.numbers.session_id()

    def __iter__(self) -> Iterator[SimulatedAction]:
        """Iterate over its events so far."""
        return iter(self.actions)

    def pause(self, gap_ms: float) -> None:
        """Move the cursor on by `gap_ms` (at least 1 ms)."""
        self.now_ms += max(1, int(gap_ms))

    def search(self, query: str, items: Sequence[str]) -> None:
        """Write a search that shows items, at the cursor."""
        self._write("searches", Search(**self._common(), scene="search", query=query, items_shown=list(items)))

    def act(self, action: Action, item: Item, scene: Scene, *, position: int = 0, dwell_ms: float = 0.0) -> None:
        """Write one interaction; the cursor first moves on by its dwell."""
        dwell = int(dwell_ms)
        self.now_ms += dwell
        event = Click(
            **self._common(),
            scene=scene,
            action=action,
            item=item.id,
            category=item.category,
            price=item.price,
            position=position,
            dwell_ms=dwell,
        )
        self._write("clicks", event)

    def order(self, lines: Sequence[tuple[Item, int]], payment: Payment, *, fee: float = 0.0) -> None:
        """Write an order of (item, quantity) lines at the cursor; its amount is their sum plus `fee`."""
        amount = round(sum(item.price * quantity for item, quantity in lines) + fee, 2)
        event = Order(
            **self._common(),
            scene="checkout",
            lines=[
                OrderLine(item=item.id, category=item.category, quantity=quantity, unit_price=item.price)
                for item, quantity in lines
            ],
            amount=amount,
            currency=home_currency(self.shopper.country),
            payment_instrument=payment.instrument,
            shipping_address=payment.address,
            billing_country=payment.billing_country,
            shipping_country=payment.shipping_country,
            ip_country=payment.ip_country,
        )
        self._write("orders", event)

    def browse_page(self, category: Category, page: int, query: str) -> tuple[Item, ...]:
        """Write a search that shows one of the category's pages; return the items shown, best first."""
        self.search(query, category.page_ids[page])
        return category.pages[page]

    def _common(self) -> dict[str, Any]:
        """Return the fields that every event has, at the cursor."""
        return {
            "event_id": self.numbers.event_id(),
            "user": self.shopper.id,
            "event_time_ms": self.now_ms,
            "session": self.session,
            "device": self.device,
            "ip": self.ip,
            "platform": self.platform,
        }

    def _write(self, topic: str, event: Search | Click | Order) -> None:
        self.actions.append(SimulatedAction(self.now_ms, topic, event, self.fraud_kind, self.intent))
