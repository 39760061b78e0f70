"""Features of shared entities: device, network address, payment instrument, shipping address, item.

Each event pays for every window of every entity it touches, so these keep few of them.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import (
    MAX_RATIO,
    age,
    amount_vs_mean,
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

_DEVICE: Final = (
    count("device", "events", window="10m", reason="velocity: a device farm or a bot"),
    count("device", "orders", window="1d", reason="FDH: terminal's number of transactions, 1 day, for a device"),
    count("device", "orders", window="7d", reason="FDH: terminal's number of transactions, 7 days, for a device"),
    count("device", "orders", window="30d", reason="FDH: terminal's number of transactions, 30 days, for a device"),
    spend("device", window="1d", reason="velocity: money through one device"),
    mean("device", label="order", measure="spend", per="orders", window="1d",
         reason="FDH: terminal's mean amount, 1 day: a compromised terminal's rises"),
    mean("device", label="order", measure="spend", per="orders", window="7d", reason="FDH: terminal's mean amount, 7 days"),
    mean("device", label="order", measure="spend", per="orders", window="30d",
         reason="FDH: terminal's mean amount, 30 days: it stays compromised for 28"),
    amount_vs_mean("device", window="7d", reason="FDH: amounts unusual for the terminal, for a device"),
    zscore("device", window="30d", reason="FDH: amounts unusual for the terminal, in its own measure"),
    trend("device", "orders", window="1d", base="30d", reason="Kleinberg 2002: a device that has become busy"),
    distinct("device", plural="users", measure="user", window="1d", words=4,
             reason="OWASP: OAT-019; a device farm serves many accounts"),
    distinct("device", plural="users", measure="user", window="7d", words=4, reason="OWASP: OAT-019; the same, for a slow farm"),
    distinct("device", plural="instruments", measure="instrument", window="1d", words=4,
             reason="OWASP: OAT-001; few devices try many cards"),
    recency("device", reason="velocity: bursts and returns after a long absence are the two ends of it"),
    age("device", reason="IEEE-CIS: days since the device was first seen (D); a new one is the takeover's"),
)  # fmt: skip

_IP: Final = (
    count("ip", "events", window="10m", reason="velocity: scripted traffic from one address"),
    count("ip", "orders", window="1h", reason="velocity: orders from one address"),
    distinct("ip", plural="users", measure="user", window="1d", words=4,
             reason="velocity: many accounts behind one address; a mobile gateway is the honest case"),
    distinct("ip", plural="instruments", measure="instrument", window="1d", words=4,
             reason="OWASP: OAT-001; card testing behind one address"),
    age("ip", reason="velocity: an address nobody has come from before"),
)  # fmt: skip

_NETWORK: Final = (
    count("network", "events", window="10m", reason="velocity: traffic that changes its address inside one network"),
    count("network", "orders", window="1h", reason="velocity: orders from one network"),
    distinct("network", plural="users", measure="user", window="1h", words=4,
             reason="OWASP: OAT-019; accounts spread over the addresses of one network"),
)  # fmt: skip

_INSTRUMENT: Final = (
    count("instrument", "orders", window="1h", reason="velocity: charges per card, hourly"),
    count("instrument", "orders", window="1d", reason="velocity: charges per card, daily"),
    spend("instrument", window="1d", reason="velocity: money on one card, whoever holds it"),
    amount_vs_mean("instrument", window="30d", reason="FDH: amounts unusual for the card"),
    distinct("instrument", plural="users", measure="user", window="30d", words=2,
             reason="IEEE-CIS: how many customers go with the card (C)"),
    distinct("instrument", plural="addresses", measure="address", window="30d", words=2,
             reason="IEEE-CIS: how many addresses are found with the payment card (C)"),
    recency("instrument", reason="IEEE-CIS: days since the card's previous transaction (D)"),
    age("instrument", reason="IEEE-CIS: days since the card's first transaction (D)"),
)  # fmt: skip

_ADDRESS: Final = (
    count("address", "orders", window="1d", reason="OWASP: OAT-012; goods bought with many cards are cashed out at one place"),
    distinct("address", plural="users", measure="user", window="7d", words=4,
             reason="OWASP: OAT-019; the farm's accounts send to one address"),
    distinct("address", plural="instruments", measure="instrument", window="7d", words=4,
             reason="IEEE-CIS: how many cards go with the address (C)"),
    age("address", reason="velocity: a first order to an address is where takeovers ship to"),
)  # fmt: skip

_ITEM: Final = (
    count("item", "browses", window="1h", reason="YouTube 2016: what is looked at now is worth showing now"),
    trend("item", "browses", window="1h", base="7d", reason="Kleinberg 2002: rises above its own usual rate"),
    rate("item", label="cart", measure="carts", per="browses", window="7d", prior=(1.0, 20.0),
         reason="Richardson 2007: how often a look becomes a cart"),
    rate("item", label="order", measure="orders", per="browses", window="7d", prior=(1.0, 50.0),
         reason="Richardson 2007: how often a look becomes an order"),
    age("item", reason="YouTube 2016: age of the example, since fresh things are preferred"),
)  # fmt: skip

_CATEGORY: Final = (
    count("category", "browses", window="1h", reason="YouTube 2016: popularity of the category now"),
    trend("category", "browses", window="1h", base="7d", reason="Kleinberg 2002: a campaign or a season begins"),
    rate("category", label="cart", measure="carts", per="browses", window="7d", prior=(1.0, 20.0),
         reason="Richardson 2007: a prior for its items, which are rare"),
    Feature(
        name="category_browse_price_vs_mean_7d",
        meaning="price of the item looked at over the category's mean of the last 7d; 0 if the event shows no price, 1 if "
        "none before", entity="category", aggregation="ratio", measure="browse_price", per="browses", window="7d", unit="ratio",
        high=MAX_RATIO, default=1.0, reason="RecSys 2015: dear or cheap for its kind",
    ),
)  # fmt: skip

_QUERY: Final = (
    count("query", "searches", window="1h", reason="Broder 2002: how usual the query is"),
    trend("query", "searches", window="1h", base="7d", reason="Kleinberg 2002: what everybody has begun to ask for"),
    distinct("query", plural="users", measure="user", window="1h", words=2,
             reason="OWASP: OAT-003; a query asked by many is a fashion, by one a script"),
    Feature(
        name="query_shown_mean_7d", meaning="mean number of items shown for the query in the last 7d; 0 if none",
        entity="query", aggregation="mean", measure="shown", per="searches", window="7d", unit="count", high=200.0,
        reason="Broder 2002: a broad query or a narrow one",
    ),
)  # fmt: skip

SHARED_FEATURES: Final = (*_DEVICE, *_IP, *_NETWORK, *_INSTRUMENT, *_ADDRESS, *_ITEM, *_CATEGORY, *_QUERY)
