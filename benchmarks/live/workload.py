"""The events of the benchmarks: seeded, encoded beforehand, with the repetition of a real shop.

50,000 users and 20,000 items, both by Zipf's law with exponent 1 (the busiest user has 8.8 % of the events), 85 %
clicks, 10 % searches, 5 % orders. Values are about 250 bytes. Event times rise by a fixed step; what the events say
otherwise does not matter to the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.events import Action, Click, Event, Order, OrderLine, Search

USERS = 50_000
ITEMS = 20_000
_DEVICES = 30_000  # some are shared by several users, as households do
_CATEGORIES = 400
_SHARES = (0.85, 0.10, 0.05)  # clicks, searches, orders
_ACTIONS: Final[tuple[Action, ...]] = ("view", "click", "cart", "favourite")
_ACTION_SHARES = (0.80, 0.10, 0.06, 0.04)

Record = tuple[str, bytes, bytes]  # topic without prefix, key, value


@dataclass(frozen=True, slots=True)
class Workload:
    """A stream of events.

    Attributes:
        start_ms: Event time of the first event, epoch milliseconds.
        step_ms: Event time between two events; may be a fraction.
        seed: Same seed, same events.
    """

    start_ms: int
    step_ms: float
    seed: int = 1

    def records(self, count: int) -> Iterator[Record]:
        """Yield `count` encoded events in order of their time."""
        rng = np.random.default_rng(self.seed)
        users, items = _zipf(rng, USERS, count), _zipf(rng, ITEMS, count)
        kinds = rng.choice(3, count, p=_SHARES)
        actions = rng.choice(4, count, p=_ACTION_SHARES)
        prices = np.round(rng.lognormal(3.0, 1.0, count), 2)
        encode = msgspec.json.Encoder().encode
        rows = zip(users.tolist(), items.tolist(), kinds.tolist(), actions.tolist(), prices.tolist(), strict=True)
        for i, (user, item, kind, action, price) in enumerate(rows):
            head = _head(f"b{self.seed}-{i}", user, self.start_ms + int(i * self.step_ms))
            topic, event = _event(kind, head, item, _ACTIONS[action], price)
            yield topic, head["user"].encode(), encode(event)


class _Head(TypedDict):
    event_id: str
    user: str
    event_time_ms: int
    session: str
    device: str
    ip: str
    platform: Literal["android"]


def _head(event_id: str, user: int, event_time_ms: int) -> _Head:
    return {
        "event_id": event_id,
        "user": f"bench-{user}",
        "event_time_ms": event_time_ms,
        "session": f"bench-{user}-s",
        "device": f"device-{user * 7 % _DEVICES}",
        "ip": f"10.{user % 200}.{user // 200 % 250}.7",
        "platform": "android",
    }


def _event(kind: int, head: _Head, item: int, action: Action, price: float) -> tuple[str, Event]:
    category = f"category-{item % _CATEGORIES}"
    if kind == 0:
        click = Click(**head, action=action, item=f"item-{item}", category=category, price=price, position=item % 40)
        return "clicks", click
    if kind == 1:
        shown = [f"item-{(item + k) % ITEMS}" for k in range(8)]
        return "searches", Search(**head, query=category, items_shown=shown)
    line = OrderLine(item=f"item-{item}", category=category, unit_price=price)
    return "orders", Order(**head, lines=[line], amount=price, currency="EUR", payment_instrument=f"card-{head['user']}")


def _zipf(rng: np.random.Generator, size: int, count: int) -> NDArray[np.int64]:
    """Draw `count` ranks 0..size-1 with probability proportional to 1 / (rank + 1)."""
    edges = np.cumsum(1.0 / np.arange(1, size + 1))
    ranks = np.searchsorted(edges, rng.random(count) * edges[-1])
    # Ranks are scattered over names by a fixed permutation, so that neighbours in rank are not neighbours in hash.
    return np.asarray(np.random.default_rng(0).permutation(size)[ranks], dtype=np.int64)
