"""The oracle's raw events as the engine's typed ones, for tests that hold the two side by side."""

from __future__ import annotations

from benchmarks.oracle import RawEvent
from stream_app.events import Action, Click, Event, Order, OrderLine, Search

__all__ = ["typed"]


def typed(raw: RawEvent) -> Event:
    head = {"event_id": "e", "user": raw.user, "event_time_ms": raw.time_ms, "device": raw.device, "ip": raw.ip}
    if raw.kind == "search":
        return Search(**head, query="q")  # type: ignore[arg-type]
    if raw.kind == "order":
        lines = [OrderLine(item=raw.item, category=raw.category, unit_price=raw.price)]
        return Order(**head, lines=lines, amount=raw.amount, currency="EUR", payment_instrument=raw.instrument)  # type: ignore[arg-type]
    action: Action = raw.kind  # type: ignore[assignment]
    return Click(**head, action=action, item=raw.item, category=raw.category, price=raw.price)  # type: ignore[arg-type]
