"""Features of the event itself: no past is needed."""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.feature_builders import MUCH, own

__all__ = ["OWN_FEATURES"]

OWN_FEATURES: Final = (
    own("amount", "amount of this order; 0 if the event is none", "currency", MUCH, "FDH: the raw amount"),
    own("price", "price of the clicked item, or of an order's first line", "currency", MUCH,
        "RecSys 2015: dear items are looked at longer"),
    own("night", "1 from 00:00 to 06:59 UTC", "flag", 1.0, "FDH: transaction at night"),
    own("weekend", "1 on Saturday and Sunday UTC", "flag", 1.0, "FDH: transaction on a weekend"),
    own("foreign", "different countries in this order (billing, shipping, ip) less one; 0 if it is none", "count", 2.0,
        "velocity: the card's country against the address's"),
    own("lines", "lines of this order; 0 if the event is none", "count", 200.0, "RecSys 2015: size of the basket"),
    own("quantity", "pieces in this order; 0 if the event is none", "count", 1e6,
        "OWASP: OAT-012; what can be sold again is bought by the dozen"),
    own("dwell", "time on the page of this view or click", "seconds", 86_400.0, "Yi 2014: time on a page is interest"),
    own("position", "place in the list of the item of this view or click", "places", 100_000.0,
        "Joachims 2005: clicks depend on the position"),
    own("shown", "items shown for this search; 0 if the event is none", "count", 200.0,
        "Broder 2002: a broad query or a narrow one"),
    own("query_length", "characters of the normalised query; 0 if the event is no search", "characters", 512.0,
        "Broder 2002: long queries know what they look for"),
)  # fmt: skip
