"""The oracle's raw events as the engine's typed ones, for tests that hold the two side by side."""

from __future__ import annotations

import random
from typing import Any

from stream_app.events import ACTIONS, PLATFORMS, SCENES, Click, Event, Order, OrderLine, Search
from verification.oracle_values import RawEvent

__all__ = ["DAY_MS", "raw_events", "typed"]

DAY_MS = 86_400_000
QUERIES = ("red shoes", "Red  SHOES", "\uff32ed shoes size 42", "红色 鞋子", "x", "a-b c_d", " ")


def typed(raw: RawEvent) -> Event:
    """Say the same as the source topic's type says it."""
    head: dict[str, Any] = {
        "event_id": raw.event_id or "e",
        "user": raw.user,
        "event_time_ms": raw.time_ms,
        "session": raw.session,
        "device": raw.device,
        "ip": raw.ip,
        "scene": raw.scene,
        "platform": raw.platform,
    }
    if raw.kind == "search":
        return Search(**head, query=raw.query, items_shown=[f"i{n}" for n in range(raw.shown)])
    if raw.kind == "order":
        first = OrderLine(item=raw.item, category=raw.category, unit_price=raw.price, quantity=raw.quantity - (raw.lines - 1))
        more = [OrderLine(item="more", unit_price=1.0)] * (raw.lines - 1)
        countries: dict[str, Any] = dict(zip(("billing_country", "shipping_country", "ip_country"), raw.countries, strict=False))
        return Order(
            **head,
            **countries,
            lines=[first, *more],
            amount=raw.amount,
            currency="EUR",
            payment_instrument=raw.instrument,
            shipping_address=raw.address,
        )
    head |= {"position": raw.position, "dwell_ms": raw.dwell_ms}
    return Click(**head, action=raw.kind, item=raw.item, category=raw.category, price=raw.price)  # type: ignore[arg-type]


def raw_events(count: int, seed: int) -> list[RawEvent]:
    """Events of few users over 40 days, every field used, out of order by up to half a day; one in 20 is sent twice."""
    rng = random.Random(seed)
    events: list[RawEvent] = []
    for i in range(count):
        if events and rng.random() < 0.05:
            events.append(rng.choice(events[-8:]))
            continue
        kind = rng.choice(["search", *ACTIONS, "order"])
        user = rng.randrange(6)
        time_ms = 20_000 * DAY_MS + i * 40 * DAY_MS // count + rng.randrange(DAY_MS // 2)
        head: dict[str, Any] = {
            "user": f"u{user}",
            "time_ms": time_ms,
            "event_id": f"e{i}",
            "session": rng.choice(["", f"s{i // 20}-{user}"]),
            "device": rng.choice(["", "d1", "d2"]),
            "ip": rng.choice(["", "10.0.0.1", "10.0.0.200", "10.0.1.1", "2001:db8::1", "2001:db8:1::1", "::ffff:10.0.0.7"]),
            "scene": rng.choice(SCENES),
            "platform": rng.choice(PLATFORMS),
        }
        if kind == "search":
            events.append(RawEvent("searches", kind=kind, **head, query=rng.choice(QUERIES), shown=rng.randrange(9)))
            continue
        category = rng.choice(["", *(f"c{n}" for n in range(40))])
        head |= {"item": f"i{rng.randrange(9)}", "category": category, "price": rng.randrange(9_999_999) / 100}
        if kind != "order":
            events.append(RawEvent("clicks", kind=kind, **head, position=rng.randrange(40), dwell_ms=rng.randrange(90_000)))
            continue
        lines = rng.randrange(1, 4)
        events.append(
            RawEvent(
                "orders",
                kind=kind,
                **head,
                amount=rng.randrange(30_000_000) / 100,
                instrument=rng.choice(["", "p1", "p2"]),
                address=rng.choice(["", "a1", "a2"]),
                lines=lines,
                quantity=lines + rng.randrange(5),
                countries=rng.choice([(), ("DE",), ("DE", "FR"), ("DE", "FR", "NL"), ("DE", "", "DE")]),
            )
        )
    return events
