"""Features of what users share: where they come from, what they pay with, where it goes, and what they look at.

Each event pays for every window of every entity it touches, so these keep few of them.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import (
    TIMES,
    against,
    age,
    count,
    distinct,
    mean,
    rate,
    recency,
    spend,
    trend,
    zscore,
)
from stream_app.features.declarations import Feature

__all__ = ["SHARED_FEATURES"]

_DEVICE: Final = (
    count("device", "events", "10m", "velocity: a device farm or a bot"),
    count("device", "orders", "1d", "FDH: terminal's number of transactions, 1 day, for a device"),
    count("device", "orders", "7d", "FDH: terminal's number of transactions, 7 days, for a device"),
    count("device", "orders", "30d", "FDH: terminal's number of transactions, 30 days, for a device"),
    spend("device", "1d", "velocity: money through one device"),
    mean("device", "order", "spend", "orders", "1d", "FDH: terminal's mean amount, 1 day: a compromised terminal's rises"),
    mean("device", "order", "spend", "orders", "7d", "FDH: terminal's mean amount, 7 days"),
    mean("device", "order", "spend", "orders", "30d", "FDH: terminal's mean amount, 30 days: it stays compromised for 28"),
    against("device", "7d", "FDH: amounts unusual for the terminal, for a device"),
    zscore("device", "30d", "FDH: amounts unusual for the terminal, in its own measure"),
    trend("device", "orders", "1d", "30d", "Kleinberg 2002: a device that has become busy"),
    distinct("device", "user", "users", "1d", 4, "OWASP: OAT-019; a device farm serves many accounts"),
    distinct("device", "user", "users", "7d", 4, "OWASP: OAT-019; the same, for a slow farm"),
    distinct("device", "instrument", "instruments", "1d", 4, "OWASP: OAT-001; few devices try many cards"),
    recency("device", "velocity: bursts and returns after a long absence are the two ends of it"),
    age("device", "IEEE-CIS: days since the device was first seen (D); a new one is the takeover's"),
)

_IP: Final = (
    count("ip", "events", "10m", "velocity: scripted traffic from one address"),
    count("ip", "orders", "1h", "velocity: orders from one address"),
    distinct("ip", "user", "users", "1d", 4, "velocity: many accounts behind one address; a mobile gateway is the honest case"),
    distinct("ip", "instrument", "instruments", "1d", 4, "OWASP: OAT-001; card testing behind one address"),
    age("ip", "velocity: an address nobody has come from before"),
)

_NETWORK: Final = (
    count("network", "events", "10m", "velocity: traffic that changes its address inside one network"),
    count("network", "orders", "1h", "velocity: orders from one network"),
    distinct("network", "user", "users", "1h", 4, "OWASP: OAT-019; accounts spread over the addresses of one network"),
)

_INSTRUMENT: Final = (
    count("instrument", "orders", "1h", "velocity: charges per card, hourly"),
    count("instrument", "orders", "1d", "velocity: charges per card, daily"),
    spend("instrument", "1d", "velocity: money on one card, whoever holds it"),
    against("instrument", "30d", "FDH: amounts unusual for the card"),
    distinct("instrument", "user", "users", "30d", 2, "IEEE-CIS: how many customers go with the card (C)"),
    distinct("instrument", "address", "addresses", "30d", 2, "IEEE-CIS: how many addresses are found with the payment card (C)"),
    recency("instrument", "IEEE-CIS: days since the card's previous transaction (D)"),
    age("instrument", "IEEE-CIS: days since the card's first transaction (D)"),
)

_ADDRESS: Final = (
    count("address", "orders", "1d", "OWASP: OAT-012; goods bought with many cards are cashed out at one place"),
    distinct("address", "user", "users", "7d", 4, "OWASP: OAT-019; the farm's accounts send to one address"),
    distinct("address", "instrument", "instruments", "7d", 4, "IEEE-CIS: how many cards go with the address (C)"),
    age("address", "velocity: a first order to an address is where takeovers ship to"),
)

_ITEM: Final = (
    count("item", "browses", "1h", "YouTube 2016: what is looked at now is worth showing now"),
    trend("item", "browses", "1h", "7d", "Kleinberg 2002: rises above its own usual rate"),
    rate("item", "cart", "carts", "browses", "7d", (1.0, 20.0), "Richardson 2007: how often a look becomes a cart"),
    rate("item", "order", "orders", "browses", "7d", (1.0, 50.0), "Richardson 2007: how often a look becomes an order"),
    age("item", "YouTube 2016: age of the example, since fresh things are preferred"),
)  # fmt: skip

_CATEGORY: Final = (
    count("category", "browses", "1h", "YouTube 2016: popularity of the category now"),
    trend("category", "browses", "1h", "7d", "Kleinberg 2002: a campaign or a season begins"),
    rate("category", "cart", "carts", "browses", "7d", (1.0, 20.0), "Richardson 2007: a prior for its items, which are rare"),
    Feature(
        "category_browse_price_vs_mean_7d",
        "price of the item looked at over the category's mean of the last 7d; 0 if the event shows no price, 1 if none before",
        "RecSys 2015: dear or cheap for its kind", "category", "ratio", "ratio", TIMES, default=1.0,
        measure="browse_price", per="browses", window="7d",
    ),
)  # fmt: skip

_QUERY: Final = (
    count("query", "searches", "1h", "Broder 2002: how usual the query is"),
    trend("query", "searches", "1h", "7d", "Kleinberg 2002: what everybody has begun to ask for"),
    distinct("query", "user", "users", "1h", 2, "OWASP: OAT-003; a query asked by many is a fashion, by one a script"),
    Feature(
        "query_shown_mean_7d", "mean number of items shown for the query in the last 7d; 0 if none",
        "Broder 2002: a broad query or a narrow one", "query", "mean", "count", 200.0,
        measure="shown", per="searches", window="7d",
    ),
)  # fmt: skip

SHARED_FEATURES: Final = (*_DEVICE, *_IP, *_NETWORK, *_INSTRUMENT, *_ADDRESS, *_ITEM, *_CATEGORY, *_QUERY)
