"""Entity kinds, windows and measures of the shipped catalogue."""

from __future__ import annotations

from typing import Final

from stream_app.features.declarations import EntityKind, Measure, Window

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

KINDS: Final = (
    # TTLs outlive the longest window of the kind (its length and two tiles: the Catalogue checks it) with slack, so that expiry
    # changes no windowed feature.
    # GA: 30 minutes of silence end a session.
    EntityKind("user", "who acts", shared=False, ttl_ms=90 * DAY, sequence=True, session_gap_ms=30 * MINUTE),
    # A client's session id outlives pauses; half a day without it means that the id has been used again.
    EntityKind("session", "the client's own session id, with its user", shared=False, ttl_ms=DAY, session_gap_ms=12 * HOUR),
    EntityKind("device", "the device (terminal) the event came from", shared=True, ttl_ms=45 * DAY),
    EntityKind("ip", "the network address the event came from", shared=True, ttl_ms=7 * DAY),
    EntityKind("network", "the address's network: /24 of IPv4, /48 of IPv6", shared=True, ttl_ms=2 * DAY),
    EntityKind("instrument", "the payment instrument of an order", shared=True, ttl_ms=45 * DAY),
    EntityKind("address", "the shipping address of an order", shared=True, ttl_ms=45 * DAY),
    EntityKind("item", "the item looked at, or an order's first", shared=True, ttl_ms=14 * DAY),
    EntityKind("category", "the category of that item", shared=True, ttl_ms=14 * DAY),
    EntityKind("query", "the normalised search query", shared=True, ttl_ms=14 * DAY),
    EntityKind("user_category", "the user together with the category", shared=False, ttl_ms=45 * DAY),
)

WINDOWS: Final = (
    # An event may be 5 minutes ahead of the truth (features.future_skew_ms): those after it, which come with the true time, must
    # still read whole windows. From an hour up one tile is that long.
    Window("1m", MINUTE, 10_000, spare_tiles=30),
    Window("10m", 10 * MINUTE, MINUTE, spare_tiles=5),
    Window("1h", HOUR, 5 * MINUTE),
    Window("1d", DAY, HOUR),
    Window("7d", 7 * DAY, 12 * HOUR),
    Window("30d", 30 * DAY, 2 * DAY),
)

MEASURES: Final = (
    # Counts.
    Measure("events", "one"),
    Measure("searches", "one", ("search",)),
    Measure("views", "one", ("view",)),
    Measure("clicks", "one", ("click",)),
    Measure("browses", "one", ("view", "click")),
    Measure("carts", "one", ("cart",)),
    Measure("favourites", "one", ("favourite",)),
    Measure("orders", "one", ("order",)),
    # Amounts, times and places.
    Measure("spend", "amount", ("order",)),
    Measure("price", "price"),
    Measure("browse_price", "price", ("view", "click")),
    Measure("dwell", "dwell", ("view", "click")),
    Measure("position", "position", ("view", "click")),
    Measure("quantity", "quantity", ("order",)),
    Measure("lines", "lines", ("order",)),
    Measure("shown", "shown", ("search",)),
    Measure("query_length", "query_length", ("search",)),
    Measure("foreign", "foreign", ("order",)),
    Measure("night", "night"),
    Measure("weekend", "weekend"),
    Measure("night_orders", "night", ("order",)),
    # Codes and hashes: what is counted distinctly, compared, or filed in a histogram.
    Measure("hour", "hour"),
    Measure("weekday", "weekday"),
    Measure("scene", "scene"),
    Measure("user", "user"),
    Measure("device", "device"),
    Measure("ip", "ip"),
    Measure("network", "network"),
    Measure("instrument", "instrument", ("order",)),
    Measure("address", "address", ("order",)),
    Measure("item", "item"),
    Measure("category", "category"),
    Measure("query", "query", ("search",)),
)
