"""Features of one user: what they do, pay and look at, their visit, their client's session, and their past with a category."""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import (
    MAX_AGE_S,
    MAX_COUNT,
    MAX_MONEY,
    MAX_RATIO,
    age,
    amount_vs_mean,
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

_COUNTS: Final = (
    count("user", "events", window="1m", reason="OWASP: OAT-003; a script's clicks come faster than any hand"),
    count("user", "events", window="10m", reason="velocity: bots and account takeovers act faster than people"),
    count("user", "events", window="1h", reason="RecSys 2015: how active this visit is"),
    count("user", "events", window="1d", reason="RecSys 2015: how active today is"),
    count("user", "events", window="30d", reason="RFM: frequency of any contact"),
    count("user", "searches", window="1h", reason="RecSys 2015: searching means looking, not yet choosing"),
    count("user", "views", window="1h", reason="Sakar 2019: product pages seen in this visit"),
    count("user", "clicks", window="1h", reason="RecSys 2015: clicks of this visit; bot clicking shows here"),
    count("user", "carts", window="1d", reason="RecSys 2015: a filled cart is the strongest sign of buying"),
    count("user", "favourites", window="1d", reason="DIN: saved for later is interest without a purchase"),
    count("user", "orders", window="10m", reason="OWASP: OAT-001; carding places orders seconds apart"),
    count("user", "orders", window="1h", reason="velocity: card testing places many orders in an hour"),
    count("user", "orders", window="1d", reason="FDH: customer's number of transactions, 1 day"),
    count("user", "orders", window="7d", reason="FDH: customer's number of transactions, 7 days"),
    count("user", "orders", window="30d", reason="FDH: customer's number of transactions, 30 days"),
)  # fmt: skip

_MONEY: Final = (
    spend("user", window="1h", reason="velocity: money moved before anyone can react"),
    spend("user", window="1d", reason="FDH: customer's amount, 1 day"),
    spend("user", window="7d", reason="FDH: customer's amount, 7 days"),
    spend("user", window="30d", reason="FDH: customer's amount, 30 days; RFM: monetary value"),
    mean("user", label="order", measure="spend", per="orders", window="1d", reason="FDH: customer's mean amount, 1 day"),
    mean("user", label="order", measure="spend", per="orders", window="7d", reason="FDH: customer's mean amount, 7 days"),
    mean("user", label="order", measure="spend", per="orders", window="30d", reason="FDH: customer's mean amount, 30 days"),
    Feature(
        name="user_order_std_30d", meaning="standard deviation of the user's order amounts in the last 30d; 0 below two",
        entity="user", aggregation="std", measure="spend", per="orders", window="30d", unit="currency", high=MAX_MONEY,
        reason="Whitrow 2009: how even the customer's amounts are",
    ),
    Feature(
        name="user_order_max_30d", meaning="largest order amount of the user in the last 30d; 0 if none", entity="user",
        aggregation="max", measure="spend", window="30d", unit="currency", high=MAX_MONEY,
        reason="Whitrow 2009: above the largest known amount is outside the customer's habit",
    ),
    Feature(
        name="user_order_min_1d", meaning="smallest order amount above 0 of the user in the last 1d; 0 if none", entity="user",
        aggregation="min", measure="spend", window="1d", unit="currency", high=MAX_MONEY,
        reason="OWASP: OAT-001; a stolen card is tried with a tiny amount before it is used",
    ),
    Feature(
        name="user_last_amount", meaning="amount of the user's newest order; 0 if none", entity="user", aggregation="last",
        measure="spend", unit="currency", high=MAX_MONEY, reason="IEEE-CIS: each transaction beside the one before it",
    ),
    amount_vs_mean("user", window="30d", reason="FDH: frauds are recognised by amounts unusual for the customer"),
    zscore("user", window="30d",
           reason="FDH: a stolen card's amounts are several times the customer's usual, in the customer's own measure"),
    trend("user", "spend", window="1d", base="30d", reason="Whitrow 2009: spending faster than in the customer's own month"),
)  # fmt: skip

_RATES: Final = (
    rate("user", label="cart", measure="carts", per="views", window="1d", prior=(1.0, 20.0),
         reason="Richardson 2007: how decided the user is; the prior is a usual shop's 5 %"),
    rate("user", label="order", measure="orders", per="browses", window="7d", prior=(1.0, 50.0),
         reason="Richardson 2007: conversion of this user; the prior is a usual shop's 2 %; near 1 means orders without "
         "browsing (card testing)"),
    rate("user", label="checkout", measure="orders", per="carts", window="7d", prior=(1.0, 4.0),
         reason="RecSys 2015: whether this user's carts become orders; the prior is one cart in four"),
    rate("user", label="night_order", measure="night_orders", per="orders", window="30d", prior=(1.0, 10.0),
         reason="FDH: transactions at night; Bahnsen 2016: whether night is usual for this customer"),
)  # fmt: skip

_TIMES_BETWEEN: Final = (
    recency("user", reason="velocity: bursts and returns after a long absence are the two ends of it; RFM: recency"),
    recency("user", singular="order", measure="orders",
            reason="IEEE-CIS: days since the previous transaction (D); RFM: recency of a purchase"),
    recency("user", singular="cart", measure="carts", reason="RecSys 2015: a cart just filled is about to be bought"),
    age("user", reason="velocity: new accounts carry most of the fraud"),
    Feature(
        name="user_gap_mean_1h",
        meaning=f"mean time between events of the user in the last 1h; {MAX_AGE_S:.0f} below two of them", entity="user",
        aggregation="gap_mean", measure="events", window="1h", unit="seconds", high=MAX_AGE_S, default=MAX_AGE_S,
        reason="Goh 2008: the pace of this visit",
    ),
    Feature(
        name="user_order_gap_mean_1d",
        meaning=f"mean time between orders of the user in the last 1d; {MAX_AGE_S:.0f} below two of them", entity="user",
        aggregation="gap_mean", measure="orders", window="1d", unit="seconds", high=MAX_AGE_S, default=MAX_AGE_S,
        reason="OWASP: OAT-001; carding goes from order to order at a beat",
    ),
    Feature(
        name="user_gap_std",
        meaning=f"standard deviation of the seconds between the user's last interactions; {MAX_AGE_S:.0f} below three",
        entity="user", aggregation="gap_std", unit="seconds", high=MAX_AGE_S, default=MAX_AGE_S,
        reason="Goh 2008: a machine's clicks are regular, a person's are not",
    ),
    Feature(
        name="user_gap_min", meaning=f"shortest time between the user's last interactions; {MAX_AGE_S:.0f} below two",
        entity="user", aggregation="gap_min", unit="seconds", high=MAX_AGE_S, default=MAX_AGE_S,
        reason="OWASP: OAT-003; no person acts twice in a few milliseconds",
    ),
    trend("user", "events", window="1h", base="7d", reason="Kleinberg 2002: a visit more intense than this user's week"),
    Feature(
        name="user_activity_decayed_1d", meaning="events of the user in the last 1d, each halved every 2 hours of its age",
        entity="user", aggregation="decayed", measure="events", window="1d", half_life_ms=2 * HOUR, unit="count", high=MAX_COUNT,
        reason="Ding 2005: activity that fades instead of falling off a window's edge",
    ),
)  # fmt: skip

_COMPANY: Final = (
    distinct("user", plural="devices", measure="device", window="7d", words=2,
             reason="velocity: account takeover comes from a new device"),
    distinct("user", plural="instruments", measure="instrument", window="7d", words=2,
             reason="velocity: card testing tries many instruments"),
    distinct("user", plural="addresses", measure="address", window="7d", words=2,
             reason="IEEE-CIS: how many addresses go with the customer (C)"),
    distinct("user", plural="ips", measure="ip", window="7d", words=2,
             reason="OWASP: OAT-008; a stolen account is used from many places"),
    distinct("user", plural="categories", measure="category", window="1d", words=2,
             reason="RecSys 2015: wide browsing against a goal"),
    distinct("user", plural="items", measure="item", window="1h", words=4, reason="RecSys 2015: different items of this visit"),
    distinct("user", plural="queries", measure="query", window="1h", words=2,
             reason="Broder 2002: asking again in other words is a search that has not ended"),
    changed("user", "device", reason="OWASP: OAT-008; account takeover: this event comes from another device than the last"),
    changed("user", "network", reason="velocity: the account moves between networks"),
    changed("user", "instrument", reason="velocity: the next card, where card testing goes from card to card"),
    changed("user", "address", reason="IEEE-CIS: addresses that do not match (M); takeover ships to a new one"),
)  # fmt: skip

_PROFILE: Final = (
    Feature(
        name="user_taste_share",
        meaning="share of the user's events in this event's category (32 cells by hash); 0 without one", entity="user",
        aggregation="share", measure="category", cells=32, prior=(1.0, 32.0), unit="ratio", high=1.0,
        reason="DIN: how near the thing at hand is to what the user has cared for",
    ),
    Feature(
        name="user_taste_rank",
        meaning="place of this event's category among the user's (32 cells by hash), 1 is the top; 0 if new", entity="user",
        aggregation="rank", measure="category", cells=32, unit="place", high=32.0,
        reason="YouTube 2016: earlier contacts with the same source",
    ),
    Feature(
        name="user_taste_top3_share",
        meaning="share of the user's events in their three top categories (32 cells by hash); 0 without any", entity="user",
        aggregation="top_share", measure="category", cells=32, top=3, unit="ratio", high=1.0,
        reason="RecSys 2015: a narrow taste against wandering",
    ),
    Feature(
        name="user_hour_share", meaning="share of the user's events in this hour of the day (UTC), smoothed", entity="user",
        aggregation="share", measure="hour", cells=24, prior=(1.0, 24.0), unit="ratio", high=1.0,
        reason="Bahnsen 2016: a transaction at an hour unusual for the customer",
    ),
    Feature(
        name="user_weekday_share", meaning="share of the user's events on this day of the week (UTC), smoothed", entity="user",
        aggregation="share", measure="weekday", cells=7, prior=(1.0, 7.0), unit="ratio", high=1.0,
        reason="Bahnsen 2016: a transaction on a day unusual for the customer",
    ),
    Feature(
        name="user_scene_share", meaning="share of the user's events in this event's scene (16 cells), smoothed", entity="user",
        aggregation="share", measure="scene", cells=16, prior=(1.0, 16.0), unit="ratio", high=1.0,
        reason="Sakar 2019: kinds of pages of a visit; service pages tell a return, account pages a takeover",
    ),
    mean("user", label="dwell", measure="dwell", per="browses", window="1h", unit="seconds",
         reason="Yi 2014: time on a page is interest; a machine's is short and even"),
    mean("user", label="position", measure="position", per="browses", window="1h", unit="places",
         reason="Joachims 2005: how far down the lists this visit looks"),
    mean("user", label="browse_price", measure="browse_price", per="browses", window="7d",
         reason="RecSys 2015: the price level this user looks at"),
    Feature(
        name="user_browse_price_vs_mean_7d",
        meaning="price of the item looked at over the user's mean of the last 7d; 0 if the event shows no price, 1 if none "
        "before", entity="user", aggregation="ratio", measure="browse_price", per="browses", window="7d", unit="ratio",
        high=MAX_RATIO, default=1.0, reason="RecSys 2015: whether the price suits the user",
    ),
)  # fmt: skip

_VISIT: Final = (  # of the user's current session: no event for 30 minutes ends it
    *(
        Feature(
            name=f"user_visit_{measure}",
            meaning=f"{measure} of the user since the last pause of 30 min; 0 at a visit's first event", entity="user",
            aggregation="session_sum", measure=measure, unit="count", high=MAX_COUNT, reason=reason,
        )
        for measure, reason in (
            ("events", "GA: depth of the session"),
            ("searches", "Sakar 2019: what kinds of pages the session has seen"),
            ("views", "Sakar 2019: product pages of the session"),
            ("carts", "RecSys 2015: the session's own carts"),
        )
    ),
    Feature(
        name="user_visit_cart_rate",
        meaning="(carts + 1) / (views + 20) since the user's last pause of 30 min; 0.05 at a visit's first event",
        entity="user", aggregation="session_rate", measure="carts", per="views", prior=(1.0, 20.0), unit="ratio", high=1.0,
        default=0.05, reason="Richardson 2007: how decided this visit is",
    ),
    Feature(
        name="user_visit_seconds",
        meaning="how long the user's visit has lasted, pauses of 30 min end it; 0 at its first event", entity="user",
        aggregation="session_length", unit="seconds", high=86_400.0,
        reason="Sakar 2019: duration of the session; GA: where it ends",
    ),
)  # fmt: skip

USER_FEATURES: Final = (*_COUNTS, *_MONEY, *_RATES, *_TIMES_BETWEEN, *_COMPANY, *_PROFILE, *_VISIT)

SESSION_FEATURES: Final = (
    Feature(
        name="session_events", meaning="events under the client's session id; 0 if this is its first", entity="session",
        aggregation="session_sum", measure="events", unit="count", high=MAX_COUNT,
        reason="GA: depth, by the client's own session",
    ),
    Feature(
        name="session_orders", meaning="orders under the client's session id", entity="session", aggregation="session_sum",
        measure="orders", unit="count", high=MAX_COUNT, reason="RecSys 2015: after the purchase a session is another one",
    ),
    Feature(
        name="session_order_rate",
        meaning="(orders + 1) / (views + 50) under the client's session id; 0.02 if this is its first event", entity="session",
        aggregation="session_rate", measure="orders", per="views", prior=(1.0, 50.0), unit="ratio", high=1.0, default=0.02,
        reason="Sakar 2019: product pages without a purchase",
    ),
    Feature(
        name="session_seconds", meaning="how long the client's session id has been in use; 0 at its first event",
        entity="session", aggregation="session_length", unit="seconds", high=7 * 86_400.0,
        reason="Sakar 2019: duration of the session",
    ),
)  # fmt: skip

USER_CATEGORY_FEATURES: Final = (
    count("user_category", "events", window="7d", reason="YouTube 2016: how many earlier contacts with the same source"),
    count("user_category", "carts", window="7d", reason="DIN: carts in this very category"),
    recency("user_category", reason="YouTube 2016: time since the last contact with the same source, its strongest feature"),
    count("user_category", "orders", window="30d", reason="RFM: frequency, within the category"),
    Feature(
        name="user_category_interest_30d",
        meaning="events of the user and category in the last 30d, each halved every 4 days of its age", entity="user_category",
        aggregation="decayed", measure="events", window="30d", half_life_ms=4 * DAY, unit="count", high=MAX_COUNT,
        reason="Ding 2005: interest fades; DIN: within the category at hand",
    ),
)  # fmt: skip
