"""A tenth of the features as they are kept in Redis by the book, to be measured beside Millrace's: one command a number.

Sliding windows are sorted sets of event ids by time (ZADD, ZREMRANGEBYSCORE, ZCOUNT), longer sums are hashes by hour or day
(HINCRBY, HMGET), distinct counts are sorted sets of identifiers by when they were last seen. All commands of a batch go in one
pipeline, reads before writes for each event, which is more than such code usually does for its speed. It has no fence: a crash
counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import redis

from stream_app.events import Click, Event, Order

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
_EXPIRE_S: Final = 31 * 86_400

FEATURES: Final = (
    "user_events_10m", "user_events_1h", "user_events_1d", "user_orders_1d", "user_orders_7d", "user_spend_1d", "user_spend_7d",
    "user_seconds_since_last", "user_distinct_devices_7d", "user_distinct_categories_1d",
    "device_events_10m", "device_distinct_users_7d", "item_events_1d", "category_events_1d",
)  # fmt: skip


def keep_and_read(client: redis.Redis, prefix: str, events: Sequence[Event]) -> list[Any]:
    """Read FEATURES for each event, then add it; return all replies."""
    pipe = client.pipeline(transaction=False)
    for event in events:
        _one(pipe, f"{prefix}:", event)
    replies: list[Any] = pipe.execute()
    return replies


def _one(pipe: Any, prefix: str, event: Event) -> None:  # noqa: ANN401  # redis-py's pipeline is untyped
    t, order = event.event_time_ms, event if isinstance(event, Order) else None
    user = f"{prefix}user:{event.user}"
    _sliding(pipe, f"{user}:events", event.event_id, t, (10 * _MINUTE, _HOUR, _DAY))
    _tiles(pipe, f"{user}:orders", "count", t, 1 if order else 0)
    _tiles(pipe, f"{user}:spend", "cents", t, round(order.amount * 100) if order else 0)
    pipe.set(f"{user}:last", t, get=True, ex=_EXPIRE_S)
    item, category = _item_of(event)
    if event.device:
        _sliding(pipe, f"{user}:devices", event.device, t, (7 * _DAY,))
        _sliding(pipe, f"{prefix}device:{event.device}:events", event.event_id, t, (10 * _MINUTE,))
        _sliding(pipe, f"{prefix}device:{event.device}:users", event.user, t, (7 * _DAY,))
    if category:
        _sliding(pipe, f"{user}:categories", category, t, (_DAY,))
        _hours(pipe, f"{prefix}category:{category}", t)
    if item:
        _hours(pipe, f"{prefix}item:{item}", t)


def _sliding(pipe: Any, key: str, member: str, t: int, lengths_ms: Sequence[int]) -> None:  # noqa: ANN401
    for length_ms in lengths_ms:
        pipe.zcount(key, t - length_ms, t)
    pipe.zadd(key, {member: t})
    pipe.zremrangebyscore(key, 0, t - max(lengths_ms))
    pipe.expire(key, _EXPIRE_S)


def _tiles(pipe: Any, key: str, field: str, t: int, value: int) -> None:  # noqa: ANN401
    """Read the sums of a day by hours and of a week by days, and add to both."""
    hour, day = t // _HOUR, t // _DAY
    pipe.hmget(key, [f"{field}:h{n}" for n in range(hour - 24, hour + 1)])
    pipe.hmget(key, [f"{field}:d{n}" for n in range(day - 7, day + 1)])
    if value:
        pipe.hincrby(key, f"{field}:h{hour}", value)
        pipe.hincrby(key, f"{field}:d{day}", value)
        pipe.expire(key, _EXPIRE_S)


def _hours(pipe: Any, key: str, t: int) -> None:  # noqa: ANN401
    hour = t // _HOUR
    pipe.hmget(key, [f"h{n}" for n in range(hour - 24, hour + 1)])
    pipe.hincrby(key, f"h{hour}", 1)
    pipe.expire(key, _EXPIRE_S)


def _item_of(event: Event) -> tuple[str, str]:
    if isinstance(event, Click):
        return event.item, event.category
    if isinstance(event, Order):
        return event.lines[0].item, event.lines[0].category
    return "", ""
