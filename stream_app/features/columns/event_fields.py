"""The numeric fields of a batch: integers for the measures, and the codes that the model reads."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.contract import CATEGORY_BUCKETS, CONTEXT_COLUMNS, PRICE_BUCKETS, QUERY_CODES, SEQUENCE_CODES
from stream_app.events import KINDS
from stream_app.features.declarations import Field

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_THURSDAY: Final = 3  # 1 January 1970, counted from Monday = 0
_NIGHT_UNTIL: Final = 7  # hours of UTC
_SATURDAY: Final = 6  # counted from Monday = 1
_FREE_BITS: Final = 4  # prices below 32 cents share the first bucket; each further bucket doubles
_SEARCH: Final = KINDS.index("search")

FIELD_ROWS: Final = {name: at for at, name in enumerate(get_args(Field))}  # rows of EventFields.numbers


class EventFields:
    """Numbers of B events; `put` fills them in.

    Attributes:
        time_ms: (B,) int64.
        kind: (B,) int32, codes of events.KINDS; a search by default.
        query: (B, 4) int32 as in EventColumns.
        items: (B,) int64, buckets.
        numbers: (fields, B) int64, rows as FIELD_ROWS; rows of digests are zeros.
    """

    def __init__(self, time_ms: NDArray[np.int64]) -> None:
        count = len(time_ms)
        self.time_ms = time_ms
        self.kind = np.full(count, _SEARCH, np.int32)
        self.query = np.zeros((count, QUERY_CODES), np.int32)
        self.items = np.zeros(count, np.int64)
        self.numbers = np.zeros((len(FIELD_ROWS), count), np.int64)
        self.put("one", slice(None), 1)
        hour = time_ms // _HOUR_MS % 24
        weekday = (time_ms // _DAY_MS + _THURSDAY) % 7 + 1
        self.put("hour", slice(None), hour + 1)
        self.put("weekday", slice(None), weekday)
        self.put("night", slice(None), hour < _NIGHT_UNTIL)
        self.put("weekend", slice(None), weekday >= _SATURDAY)

    def put(self, field: str, at: slice | NDArray[np.intp], values: ArrayLike) -> None:
        """Set one field of some events."""
        self.numbers[FIELD_ROWS[field], at] = values

    def context(self) -> NDArray[np.int32]:
        """Return (B, 4), as model.contract.CONTEXT_COLUMNS."""
        context = np.empty((len(self.kind), len(CONTEXT_COLUMNS)), np.int32)
        context[:, 0] = self.kind
        for column, field in enumerate(("scene", "platform", "hour"), start=1):
            context[:, column] = self.numbers[FIELD_ROWS[field]] - 1
        return context

    def ids(self) -> NDArray[np.int32]:
        """Return (B, 4), as model.contract.SEQUENCE_CODES."""
        ids = np.empty((len(self.kind), SEQUENCE_CODES), np.int32)
        category, price = self.numbers[FIELD_ROWS["category"]], self.numbers[FIELD_ROWS["price"]]
        ids[:, 0] = self.items
        ids[:, 1] = np.where(category > 0, (category - 1) % (CATEGORY_BUCKETS - 1) + 1, 0)
        ids[:, 2] = self.kind + 1
        bits = np.frexp(price.astype(np.float64))[1]  # the number of bits of an integer below 2^53
        ids[:, 3] = np.where(price > 0, np.clip(bits - _FREE_BITS, 1, PRICE_BUCKETS - 1), 0)
        return ids


def cents(money: ArrayLike) -> NDArray[np.int64]:
    """Return amounts of money (B,) in hundredths, (B,) int64; halves are rounded to even, as by Python's round."""
    return np.rint(np.asarray(money, np.float64) * 100).astype(np.int64)
