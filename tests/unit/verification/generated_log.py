"""A made-up log of events that uses every field, for tests of the oracle."""

from __future__ import annotations

import random
from typing import Any

from stream_app.events import ACTIONS, PLATFORMS, SCENES, Click, Event, Order, OrderLine, Search

__all__ = ["DAY_MS", "generated_log"]

DAY_MS = 86_400_000
QUERIES = ("red shoes", "Red  SHOES", "\uff32ed shoes size 42", "红色 鞋子", "x", "a-b c_d", " ")
COUNTRIES = ("billing_country", "shipping_country", "ip_country")
VISITED = ((), ("DE",), ("DE", "FR"), ("DE", "FR", "NL"), ("DE", "", "DE"))


def generated_log(count: int, seed: int) -> list[Event]:
    """Events of few users over 40 days, every field used, out of order by up to half a day; one in 20 is sent twice."""
    rng = random.Random(seed)
    events: list[Event] = []
    for i in range(count):
        if events and rng.random() < 0.05:
            events.append(rng.choice(events[-8:]))
            continue
        kind = rng.choice(["search", *ACTIONS, "order"])
        user = rng.randrange(6)
        time_ms = 20_000 * DAY_MS + i * 40 * DAY_MS // count + rng.randrange(DAY_MS // 2)
        head: dict[str, Any] = {
            "user": f"u{user}",
            "event_time_ms": time_ms,
            "event_id": f"e{i}",
            "session": rng.choice(["", f"s{i // 20}-{user}"]),
            "device": rng.choice(["", "d1", "d2"]),
            "ip": rng.choice(["", "10.0.0.1", "10.0.0.200", "10.0.1.1", "2001:db8::1", "2001:db8:1::1", "::ffff:10.0.0.7"]),
            "scene": rng.choice(SCENES),
            "platform": rng.choice(PLATFORMS),
        }
        if kind == "search":
            items_shown = [f"i{n}" for n in range(rng.randrange(9))]
            events.append(Search(**head, query=rng.choice(QUERIES), items_shown=items_shown))
            continue
        item = f"i{rng.randrange(9)}"
        category = rng.choice(["", *(f"c{n}" for n in range(40))])
        price = rng.randrange(9_999_999) / 100
        if kind != "order":
            part: dict[str, Any] = {"action": kind, "position": rng.randrange(40), "dwell_ms": rng.randrange(90_000)}
            events.append(Click(**head, **part, item=item, category=category, price=price))
            continue
        first = OrderLine(item=item, category=category, unit_price=price, quantity=1 + rng.randrange(5))
        countries: dict[str, Any] = dict(zip(COUNTRIES, rng.choice(VISITED), strict=False))
        events.append(
            Order(
                **head,
                **countries,
                lines=[first, *[OrderLine(item="more", unit_price=1.0)] * rng.randrange(3)],
                amount=rng.randrange(30_000_000) / 100,
                currency="EUR",
                payment_instrument=rng.choice(["", "p1", "p2"]),
                shipping_address=rng.choice(["", "a1", "a2"]),
            )
        )
    return events
