"""Features of the event itself: no past is needed."""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import MAX_MONEY, own

OWN_FEATURES: Final = (
    own("amount", meaning="amount of this order; 0 if the event is none", unit="currency", high=MAX_MONEY,
        reason="FDH: the raw amount"),
    own("price", meaning="price of the clicked item, or of an order's first line", unit="currency", high=MAX_MONEY,
        reason="RecSys 2015: dear items are looked at longer"),
    own("night", meaning="1 from 00:00 to 06:59 UTC", unit="flag", high=1.0, reason="FDH: transaction at night"),
    own("weekend", meaning="1 on Saturday and Sunday UTC", unit="flag", high=1.0, reason="FDH: transaction on a weekend"),
    own("foreign", meaning="different countries in this order (billing, shipping, ip) less one; 0 if it is none", unit="count",
        high=2.0, reason="velocity: the card's country against the address's"),
    own("lines", meaning="lines of this order; 0 if the event is none", unit="count", high=200.0,
        reason="RecSys 2015: size of the basket"),
    own("quantity", meaning="pieces in this order; 0 if the event is none", unit="count", high=1e6,
        reason="OWASP: OAT-012; what can be sold again is bought by the dozen"),
    own("dwell", meaning="time on the page of this view or click", unit="seconds", high=86_400.0,
        reason="Yi 2014: time on a page is interest"),
    own("position", meaning="place in the list of the item of this view or click", unit="places", high=100_000.0,
        reason="Joachims 2005: clicks depend on the position"),
    own("shown", meaning="items shown for this search; 0 if the event is none", unit="count", high=200.0,
        reason="Broder 2002: a broad query or a narrow one"),
    own("query_length", meaning="characters of the normalised query; 0 if the event is no search", unit="characters", high=512.0,
        reason="Broder 2002: long queries know what they look for"),
)  # fmt: skip
