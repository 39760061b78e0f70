"""Features of one user: what they do, pay and look at, their visit, their client's session, and their past with a category."""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import (
    LONGEST_S,
    MANY,
    MUCH,
    TIMES,
    against,
    age,
    changed,
    count,
    distinct,
    mean,
    rate,
    recency,
    spend,
    trend,
    zscore,
)
from stream_app.features.catalog.windows import DAY, HOUR
from stream_app.features.declarations import Feature

__all__ = ["SESSION_FEATURES", "USER_CATEGORY_FEATURES", "USER_FEATURES"]

_COUNTS: Final = (
    count("user", "events", "1m", "OWASP: OAT-003; a script's clicks come faster than any hand"),
    count("user", "events", "10m", "velocity: bots and account takeovers act faster than people"),
    count("user", "events", "1h", "RecSys 2015: how active this visit is"),
    count("user", "events", "1d", "RecSys 2015: how active today is"),
    count("user", "events", "30d", "RFM: frequency of any contact"),
    count("user", "searches", "1h", "RecSys 2015: searching means looking, not yet choosing"),
    count("user", "views", "1h", "Sakar 2019: product pages seen in this visit"),
    count("user", "clicks", "1h", "RecSys 2015: clicks of this visit; bot clicking shows here"),
    count("user", "carts", "1d", "RecSys 2015: a filled cart is the strongest sign of buying"),
    count("user", "favourites", "1d", "DIN: saved for later is interest without a purchase"),
    count("user", "orders", "10m", "OWASP: OAT-001; carding places orders seconds apart"),
    count("user", "orders", "1h", "velocity: card testing places many orders in an hour"),
    count("user", "orders", "1d", "FDH: customer's number of transactions, 1 day"),
    count("user", "orders", "7d", "FDH: customer's number of transactions, 7 days"),
    count("user", "orders", "30d", "FDH: customer's number of transactions, 30 days"),
)

_MONEY: Final = (
    spend("user", "1h", "velocity: money moved before anyone can react"),
    spend("user", "1d", "FDH: customer's amount, 1 day"),
    spend("user", "7d", "FDH: customer's amount, 7 days"),
    spend("user", "30d", "FDH: customer's amount, 30 days; RFM: monetary value"),
    mean("user", "order", "spend", "orders", "1d", "FDH: customer's mean amount, 1 day"),
    mean("user", "order", "spend", "orders", "7d", "FDH: customer's mean amount, 7 days"),
    mean("user", "order", "spend", "orders", "30d", "FDH: customer's mean amount, 30 days"),
    Feature(
        "user_order_std_30d", "standard deviation of the user's order amounts in the last 30d; 0 below two",
        "Whitrow 2009: how even the customer's amounts are", "user", "std", "currency", MUCH,
        measure="spend", per="orders", window="30d",
    ),
    Feature(
        "user_order_max_30d", "largest order amount of the user in the last 30d; 0 if none",
        "Whitrow 2009: above the largest known amount is outside the customer's habit", "user", "max", "currency", MUCH,
        measure="spend", window="30d",
    ),
    Feature(
        "user_order_min_1d", "smallest order amount above 0 of the user in the last 1d; 0 if none",
        "OWASP: OAT-001; a stolen card is tried with a tiny amount before it is used", "user", "min", "currency", MUCH,
        measure="spend", window="1d",
    ),
    Feature(
        "user_last_amount", "amount of the user's newest order; 0 if none", "IEEE-CIS: each transaction beside the one before it",
        "user", "last", "currency", MUCH, measure="spend",
    ),
    against("user", "30d", "FDH: frauds are recognised by amounts unusual for the customer"),
    zscore("user", "30d", "FDH: a stolen card's amounts are several times the customer's usual, in the customer's own measure"),
    trend("user", "spend", "1d", "30d", "Whitrow 2009: spending faster than in the customer's own month"),
)  # fmt: skip

_RATES: Final = (
    rate("user", "cart", "carts", "views", "1d", (1.0, 20.0),
         "Richardson 2007: how decided the user is; the prior is a usual shop's 5 %"),
    rate("user", "order", "orders", "browses", "7d", (1.0, 50.0),
         "Richardson 2007: conversion of this user; the prior is a usual shop's 2 %; near 1 means orders without browsing "
         "(card testing)"),
    rate("user", "checkout", "orders", "carts", "7d", (1.0, 4.0),
         "RecSys 2015: whether this user's carts become orders; the prior is one cart in four"),
    rate("user", "night_order", "night_orders", "orders", "30d", (1.0, 10.0),
         "FDH: transactions at night; Bahnsen 2016: whether night is usual for this customer"),
)  # fmt: skip

_TIMES_BETWEEN: Final = (
    recency("user", "velocity: bursts and returns after a long absence are the two ends of it; RFM: recency"),
    recency("user", "IEEE-CIS: days since the previous transaction (D); RFM: recency of a purchase", "orders", "order"),
    recency("user", "RecSys 2015: a cart just filled is about to be bought", "carts", "cart"),
    age("user", "velocity: new accounts carry most of the fraud"),
    Feature(
        "user_gap_mean_1h", f"mean time between events of the user in the last 1h; {LONGEST_S:.0f} below two of them",
        "Goh 2008: the pace of this visit", "user", "gap_mean", "seconds", LONGEST_S, default=LONGEST_S, measure="events",
        window="1h",
    ),
    Feature(
        "user_order_gap_mean_1d", f"mean time between orders of the user in the last 1d; {LONGEST_S:.0f} below two of them",
        "OWASP: OAT-001; carding goes from order to order at a beat", "user", "gap_mean", "seconds", LONGEST_S, default=LONGEST_S,
        measure="orders", window="1d",
    ),
    Feature(
        "user_gap_std", f"standard deviation of the seconds between the user's last interactions; {LONGEST_S:.0f} below three",
        "Goh 2008: a machine's clicks are regular, a person's are not", "user", "gap_std", "seconds", LONGEST_S,
        default=LONGEST_S,
    ),
    Feature(
        "user_gap_min", f"shortest time between the user's last interactions; {LONGEST_S:.0f} below two",
        "OWASP: OAT-003; no person acts twice in a few milliseconds", "user", "gap_min", "seconds", LONGEST_S, default=LONGEST_S,
    ),
    trend("user", "events", "1h", "7d", "Kleinberg 2002: a visit more intense than this user's week"),
    Feature(
        "user_activity_decayed_1d", "events of the user in the last 1d, each halved every 2 hours of its age",
        "Ding 2005: activity that fades instead of falling off a window's edge", "user", "decayed", "count", MANY,
        measure="events", window="1d", half_life_ms=2 * HOUR,
    ),
)  # fmt: skip

_COMPANY: Final = (
    distinct("user", "device", "devices", "7d", 2, "velocity: account takeover comes from a new device"),
    distinct("user", "instrument", "instruments", "7d", 2, "velocity: card testing tries many instruments"),
    distinct("user", "address", "addresses", "7d", 2, "IEEE-CIS: how many addresses go with the customer (C)"),
    distinct("user", "ip", "ips", "7d", 2, "OWASP: OAT-008; a stolen account is used from many places"),
    distinct("user", "category", "categories", "1d", 2, "RecSys 2015: wide browsing against a goal"),
    distinct("user", "item", "items", "1h", 4, "RecSys 2015: different items of this visit"),
    distinct("user", "query", "queries", "1h", 2, "Broder 2002: asking again in other words is a search that has not ended"),
    changed("user", "device", "OWASP: OAT-008; account takeover: this event comes from another device than the last"),
    changed("user", "network", "velocity: the account moves between networks"),
    changed("user", "instrument", "velocity: the next card, where card testing goes from card to card"),
    changed("user", "address", "IEEE-CIS: addresses that do not match (M); takeover ships to a new one"),
)

_PROFILE: Final = (
    Feature(
        "user_taste_share", "share of the user's events in this event's category (32 cells by hash); 0 without one",
        "DIN: how near the thing at hand is to what the user has cared for", "user", "share", "ratio", 1.0,
        measure="category", cells=32, prior=(1.0, 32.0),
    ),
    Feature(
        "user_taste_rank", "place of this event's category among the user's (32 cells by hash), 1 is the top; 0 if new",
        "YouTube 2016: earlier contacts with the same source", "user", "rank", "place", 32.0, measure="category", cells=32,
    ),
    Feature(
        "user_taste_top3_share", "share of the user's events in their three top categories (32 cells by hash); 0 without any",
        "RecSys 2015: a narrow taste against wandering", "user", "top_share", "ratio", 1.0, measure="category", cells=32, top=3,
    ),
    Feature(
        "user_hour_share", "share of the user's events in this hour of the day (UTC), smoothed",
        "Bahnsen 2016: a transaction at an hour unusual for the customer", "user", "share", "ratio", 1.0,
        measure="hour", cells=24, prior=(1.0, 24.0),
    ),
    Feature(
        "user_weekday_share", "share of the user's events on this day of the week (UTC), smoothed",
        "Bahnsen 2016: a transaction on a day unusual for the customer", "user", "share", "ratio", 1.0,
        measure="weekday", cells=7, prior=(1.0, 7.0),
    ),
    Feature(
        "user_scene_share", "share of the user's events in this event's scene (16 cells), smoothed",
        "Sakar 2019: kinds of pages of a visit; service pages tell a return, account pages a takeover", "user", "share", "ratio",
        1.0, measure="scene", cells=16, prior=(1.0, 16.0),
    ),
    mean("user", "dwell", "dwell", "browses", "1h", "Yi 2014: time on a page is interest; a machine's is short and even",
         unit="seconds"),
    mean("user", "position", "position", "browses", "1h", "Joachims 2005: how far down the lists this visit looks",
         unit="places"),
    mean("user", "browse_price", "browse_price", "browses", "7d", "RecSys 2015: the price level this user looks at"),
    Feature(
        "user_browse_price_vs_mean_7d",
        "price of the item looked at over the user's mean of the last 7d; 0 if the event shows no price, 1 if none before",
        "RecSys 2015: whether the price suits the user", "user", "ratio", "ratio", TIMES, default=1.0,
        measure="browse_price", per="browses", window="7d",
    ),
)  # fmt: skip

_VISIT: Final = (  # of the user's current session: no event for 30 minutes ends it
    *(
        Feature(
            f"user_visit_{measure}", f"{measure} of the user since the last pause of 30 min; 0 at a visit's first event", reason,
            "user", "session_sum", "count", MANY, measure=measure,
        )
        for measure, reason in (
            ("events", "GA: depth of the session"),
            ("searches", "Sakar 2019: what kinds of pages the session has seen"),
            ("views", "Sakar 2019: product pages of the session"),
            ("carts", "RecSys 2015: the session's own carts"),
        )
    ),
    Feature(
        "user_visit_cart_rate", "(carts + 1) / (views + 20) since the user's last pause of 30 min; 0.05 at a visit's first event",
        "Richardson 2007: how decided this visit is", "user", "session_rate", "ratio", 1.0, default=0.05, measure="carts",
        per="views", prior=(1.0, 20.0),
    ),
    Feature(
        "user_visit_seconds", "how long the user's visit has lasted, pauses of 30 min end it; 0 at its first event",
        "Sakar 2019: duration of the session; GA: where it ends", "user", "session_length", "seconds", 86_400.0,
    ),
)  # fmt: skip

USER_FEATURES: Final = (*_COUNTS, *_MONEY, *_RATES, *_TIMES_BETWEEN, *_COMPANY, *_PROFILE, *_VISIT)

SESSION_FEATURES: Final = (
    Feature("session_events", "events under the client's session id; 0 if this is its first",
            "GA: depth, by the client's own session", "session", "session_sum", "count", MANY, measure="events"),
    Feature("session_orders", "orders under the client's session id", "RecSys 2015: after the purchase a session is another one",
            "session", "session_sum", "count", MANY, measure="orders"),
    Feature("session_order_rate", "(orders + 1) / (views + 50) under the client's session id; 0.02 if this is its first event",
            "Sakar 2019: product pages without a purchase", "session", "session_rate", "ratio", 1.0, default=0.02,
            measure="orders", per="views", prior=(1.0, 50.0)),
    Feature("session_seconds", "how long the client's session id has been in use; 0 at its first event",
            "Sakar 2019: duration of the session", "session", "session_length", "seconds", 7 * 86_400.0),
)  # fmt: skip

USER_CATEGORY_FEATURES: Final = (
    count("user_category", "events", "7d", "YouTube 2016: how many earlier contacts with the same source"),
    count("user_category", "carts", "7d", "DIN: carts in this very category"),
    recency("user_category", "YouTube 2016: time since the last contact with the same source, its strongest feature"),
    count("user_category", "orders", "30d", "RFM: frequency, within the category"),
    Feature(
        "user_category_interest_30d", "events of the user and category in the last 30d, each halved every 4 days of its age",
        "Ding 2005: interest fades; DIN: within the category at hand", "user_category", "decayed", "count", MANY,
        measure="events", window="30d", half_life_ms=4 * DAY,
    ),
)  # fmt: skip
