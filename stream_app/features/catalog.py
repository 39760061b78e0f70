"""The shipped catalogue: every feature of the vector, in the order of the tensor.

This file is the single source of names, order, windows, state layout, tensors and docs/features.md. Appending a feature changes
the catalogue's hash, so it needs a model that was trained with it. What each word means: stream_app/features/declare.py.

Sources named below:
    FDH: Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud Detection - Practical
        Handbook" (2022), chapter 3, Baseline feature transformation: counts and mean amounts of a customer, and of a terminal,
        over 1, 7 and 30 days.
    velocity: velocity checks of card networks and payment providers: counts per card, device and address in minutes to a day.
    session: e-commerce intent literature and the RecSys 2015 challenge (buy or not from a click session): recent action counts.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.declare import EVENT, Catalogue, EntityKind, Feature, Measure, Window

__all__ = ["CATALOGUE"]

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR

_LONGEST_S: Final = 30 * 86_400.0  # recency is clipped here: the longest window; beyond it the past is forgotten anyway
_MANY: Final = 1e6  # a count that no entity reaches by honest means; keeps a flood from dwarfing every other input
_MUCH: Final = 1e9  # money, units of the currency: the bound of one event's amount (stream_app/events.py)
_TIMES: Final = 1_000.0  # a ratio beyond it says nothing more

KINDS: Final = (
    # TTLs outlive the longest window of the kind (its length, two tiles, and slack), so that expiry changes no windowed feature.
    EntityKind("user", "who acts", shared=False, ttl_ms=90 * _DAY, sequence=True),
    EntityKind("device", "the device the event came from", shared=True, ttl_ms=14 * _DAY),
    EntityKind("ip", "the network address the event came from", shared=True, ttl_ms=7 * _DAY),
)

WINDOWS: Final = (
    Window("10m", 10 * _MINUTE, _MINUTE),
    Window("1h", _HOUR, 5 * _MINUTE),
    Window("1d", _DAY, _HOUR),
    Window("7d", 7 * _DAY, 12 * _HOUR),
    Window("30d", 30 * _DAY, 2 * _DAY),
)

MEASURES: Final = (
    Measure("events", "one"),
    Measure("searches", "one", ("search",)),
    Measure("views", "one", ("view",)),
    Measure("clicks", "one", ("click",)),
    Measure("browses", "one", ("view", "click")),
    Measure("carts", "one", ("cart",)),
    Measure("favourites", "one", ("favourite",)),
    Measure("orders", "one", ("order",)),
    Measure("spend", "amount", ("order",)),
    Measure("price", "price"),
    Measure("category", "category"),
    Measure("user", "user"),
    Measure("device", "device"),
    Measure("instrument", "instrument", ("order",)),
)


def _count(entity: str, measure: str, window: str, reason: str) -> Feature:
    meaning = f"{measure} of the {entity} in the last {window}"
    return Feature(
        f"{entity}_{measure}_{window}", meaning, reason, entity, "count", "count", _MANY, measure=measure, window=window
    )


def _spend(entity: str, window: str, reason: str) -> Feature:
    meaning = f"amount ordered by the {entity} in the last {window}"
    name = f"{entity}_spend_{window}"
    return Feature(name, meaning, reason, entity, "sum", "currency", _MUCH, measure="spend", window=window)


def _distinct(entity: str, of: str, plural: str, window: str, words: int, reason: str) -> Feature:
    meaning = f"different {plural} seen with the {entity} in the last {window}"
    name = f"{entity}_distinct_{plural}_{window}"
    return Feature(name, meaning, reason, entity, "distinct", "count", _MANY, measure=of, window=window, words=words)


def _against(entity: str, window: str, reason: str) -> Feature:
    meaning = f"this order's amount over the mean order of the {entity} in the last {window}; 0 if no order, 1 if none before"
    name = f"{entity}_amount_vs_mean_{window}"
    return Feature(
        name, meaning, reason, entity, "ratio", "ratio", _TIMES, default=1.0, measure="spend", per="orders", window=window
    )


def _recency(entity: str) -> Feature:
    meaning = f"time since the newest event of the {entity}; {_LONGEST_S:.0f} if there is none"
    reason = "velocity: bursts and returns after a long absence are the two ends of it"
    return Feature(f"{entity}_seconds_since_last", meaning, reason, entity, "recency", "seconds", _LONGEST_S, default=_LONGEST_S)


_USER: Final = (
    _count("user", "events", "10m", "velocity: bots and account takeovers act faster than people"),
    _count("user", "events", "1h", "session: how active this visit is"),
    _count("user", "events", "1d", "session: how active today is"),
    _count("user", "searches", "1h", "session: searching means looking, not yet choosing"),
    _count("user", "views", "1h", "session: views of this visit"),
    _count("user", "clicks", "1h", "session: clicks of this visit; bot clicking shows here"),
    _count("user", "carts", "1d", "session: a filled cart is the strongest sign of buying"),
    _count("user", "favourites", "1d", "session: saved for later"),
    _count("user", "orders", "1h", "velocity: card testing places many orders in an hour"),
    _count("user", "orders", "1d", "FDH: customer's number of transactions, 1 day"),
    _count("user", "orders", "7d", "FDH: customer's number of transactions, 7 days"),
    _spend("user", "1h", "velocity: money moved before anyone can react"),
    _spend("user", "1d", "FDH: customer's amount, 1 day"),
    _spend("user", "7d", "FDH: customer's amount, 7 days"),
    _spend("user", "30d", "FDH: customer's amount, 30 days"),
    Feature(
        "user_order_mean_30d", "mean order amount of the user in the last 30d; 0 if none", "FDH: customer's mean amount, 30 days",
        "user", "mean", "currency", _MUCH, measure="spend", per="orders", window="30d",
    ),
    _against("user", "30d", "FDH: frauds are recognised by amounts unusual for the customer"),
    Feature(
        "user_cart_rate_1d", "(carts + 1) / (views + 20) of the user in the last 1d; 0.05 without a past",
        "session: how decided the user is; the prior is a usual shop's 5 %",
        "user", "rate", "ratio", 1.0, default=0.05, measure="carts", per="views", window="1d", prior=(1.0, 20.0),
    ),
    Feature(
        "user_order_rate_7d", "(orders + 1) / (views and clicks + 50) of the user in the last 7d; 0.02 without a past",
        "session: conversion of this user; the prior is a usual shop's 2 %; near 1 means orders without browsing (card testing)",
        "user", "rate", "ratio", 1.0, default=0.02, measure="orders", per="browses", window="7d", prior=(1.0, 50.0),
    ),
    _recency("user"),
    Feature(
        "user_age_seconds", "time since the first event of the user that is still known; 0 if there is none",
        "velocity: new accounts carry most of the fraud", "user", "age", "seconds", 3650 * 86_400.0,
    ),
    _distinct("user", "device", "devices", "7d", 2, "velocity: account takeover comes from a new device"),
    _distinct("user", "instrument", "instruments", "7d", 2, "velocity: card testing tries many instruments"),
    _distinct("user", "category", "categories", "1d", 2, "session: wide browsing against a goal"),
)  # fmt: skip

_DEVICE: Final = (
    _count("device", "events", "10m", "velocity: a device farm or a bot"),
    _count("device", "orders", "1d", "FDH: terminal's number of transactions, 1 day, for a device"),
    _spend("device", "1d", "velocity: money through one device"),
    _distinct("device", "user", "users", "1d", 4, "velocity: a device farm serves many accounts"),
    _distinct("device", "user", "users", "7d", 4, "velocity: the same, for a slow farm"),
    _recency("device"),
    _against("device", "7d", "FDH: amounts unusual for the terminal, for a device"),
)

_IP: Final = (
    _count("ip", "events", "10m", "velocity: scripted traffic from one address"),
    _count("ip", "orders", "1h", "velocity: orders from one address"),
    _distinct("ip", "user", "users", "1d", 4, "velocity: many accounts behind one address; a mobile gateway is the honest case"),
    _distinct("ip", "instrument", "instruments", "1d", 4, "velocity: card testing behind one address"),
)

_OWN: Final = (
    Feature("amount", "amount of this order; 0 if the event is none", "FDH: the raw amount", EVENT, "own", "currency", _MUCH,
            measure="spend"),
    Feature("price", "price of the clicked item, or of an order's first line", "session: dear items are looked at longer",
            EVENT, "own", "currency", _MUCH, measure="price"),
)  # fmt: skip

CATALOGUE: Final = Catalogue(kinds=KINDS, windows=WINDOWS, measures=MEASURES, features=(*_USER, *_DEVICE, *_IP, *_OWN))
