"""A log that is kept as a table becomes the columns of the fold, without an object for each event.

Every number is the one that ColumnReader.read makes of the decoded event; what a text means is worked out once for each
different text, and looked up in an array for each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.contract import ITEM_BUCKETS
from stream_app.codec.identity import Identity
from stream_app.events import KINDS, PLATFORMS, SCENES, SOURCE_TOPICS
from stream_app.features.columns import COMPOSITE, ColumnReader, EventColumns
from stream_app.features.digests import digest_words
from stream_app.features.keys import EntityKeys
from stream_app.features.numbers import FIELD_ROWS, Numbers, cents
from stream_app.features.text import REDUCED, checksums, query_of, text_hashes

__all__ = ["CODED", "NUMERIC", "Coded", "EventTable", "Texts", "read_table"]

# What EventTable.coded and .numbers hold.
CODED: Final = (
    "user", "session", "device", "ip", "scene", "platform", "action", "item", "category", "query", "line_item", "line_category",
    "payment_instrument", "shipping_address", "billing_country", "shipping_country", "ip_country",
)  # fmt: skip
NUMERIC: Final = ("price", "position", "dwell_ms", "shown", "amount", "line_price", "lines", "quantity")

# Where the texts of an identifier stand, if not in a column of its name.
_COLUMNS: Final = {
    "network": ("ip",), "item": ("item", "line_item"), "category": ("category", "line_category"),
    "instrument": ("payment_instrument",), "address": ("shipping_address",),
}  # fmt: skip
_SEARCHES, _CLICKS, _ORDERS = map(SOURCE_TOPICS.index, ("searches", "clicks", "orders"))
_WORDS: Final = 2  # of a digest
_COUNTED_SHIFT: Final = np.uint64(1)


class Texts(NamedTuple):
    """N texts: number i is the UTF-8 `data[ends[i - 1] : ends[i]]`; ends (N,) int64."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Join single texts."""
        encoded = [text.encode() for text in texts]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(np.array([len(e) for e in encoded], np.int64), dtype=np.int64)
        )

    def listed(self) -> list[str]:
        """Return them as strings."""
        data = self.data.tobytes()
        return [data[start:end].decode() for start, end in pairwise([0, *self.ends.tolist()])]


class Coded(NamedTuple):
    """B texts, of which few are different: codes (B,) int32 into `texts`, -1 for none."""

    codes: NDArray[np.int32]
    texts: Texts


@dataclass(frozen=True, slots=True)
class EventTable:
    """B valid events in the columns of a table.

    Attributes:
        time_ms: (B,) int64.
        topics: (B,) int64, numbers of events.SOURCE_TOPICS.
        event_ids: B.
        coded: By the names of CODED; no text where the event's type has no such field. `line_` is an order's first line.
        numbers: By the names of NUMERIC, (B,) each, 0 where the event's type has none: money, counts, `quantity` of all lines.
    """

    time_ms: NDArray[np.int64]
    topics: NDArray[np.int64]
    event_ids: Texts
    coded: Mapping[str, Coded]
    numbers: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]


def read_table(reader: ColumnReader, table: EventTable, identity: Identity) -> EventColumns:
    """Read B events of one partition group, 0."""
    batch = Numbers(table.time_ms)
    batch.kind[:] = np.where(table.topics == _ORDERS, KINDS.index("order"), KINDS.index("search"))
    clicks = np.flatnonzero(table.topics == _CLICKS)
    batch.kind[clicks] = _looked_up(table.coded["action"], KINDS.index)[clicks]
    _put_numbers(batch, table)
    words = {field: _digests(table, field, identity) for field in reader.id_fields}
    for field in reader.counted:
        batch.put(field, slice(None), (words[field][:, 0].byteswap() >> _COUNTED_SHIFT).astype(np.int64))
    event = text_hashes(*table.event_ids, table.topics)
    keys = {kind: EntityKeys(_key_words(kind, words)) for kind in reader.kinds}
    return reader.columns(batch, np.zeros(len(table.time_ms), np.int32), event, keys)


def _put_numbers(batch: Numbers, table: EventTable) -> None:
    coded, numbers, everywhere = table.coded, table.numbers, slice(None)
    batch.put("scene", everywhere, 1 + _looked_up(coded["scene"], SCENES.index))
    batch.put("platform", everywhere, 1 + _looked_up(coded["platform"], PLATFORMS.index))
    batch.put("shown", everywhere, numbers["shown"])
    batch.put("price", everywhere, cents(numbers["price"]) + cents(numbers["line_price"]))
    batch.put("position", everywhere, numbers["position"])
    batch.put("dwell", everywhere, numbers["dwell_ms"])
    batch.put("amount", everywhere, cents(numbers["amount"]))
    batch.put("quantity", everywhere, numbers["quantity"])
    batch.put("lines", everywhere, numbers["lines"])
    batch.put("foreign", everywhere, _foreign(table))
    queries = [query_of(text) for text in coded["query"].texts.listed()]
    lengths = np.array([len(query.text) for query in queries], np.int64)
    batch.put("query_length", everywhere, _taken(lengths, coded["query"].codes))
    batch.query[:] = _taken(
        np.array([query.codes for query in queries], np.int32).reshape(-1, batch.query.shape[1]), coded["query"].codes
    )
    for column in _COLUMNS["category"]:
        batch.numbers[FIELD_ROWS["category"]] += _taken(1 + checksums(*coded[column].texts), coded[column].codes)
    for column in _COLUMNS["item"]:
        sums = checksums(*coded[column].texts)
        batch.items += _taken(np.where(sums < 0, 0, 1 + sums % (ITEM_BUCKETS - 1)), coded[column].codes)


def _taken(values: NDArray[Any], codes: NDArray[np.int32]) -> NDArray[Any]:
    """Values (U, ...) by codes (B,); zeros for -1."""
    padded: NDArray[Any] = np.zeros((len(values) + 1, *values.shape[1:]), values.dtype)
    padded[1:] = values
    return padded[codes + 1]


def _looked_up(column: Coded, number: Callable[[str], int]) -> NDArray[np.int64]:
    return _taken(np.array([number(text) for text in column.texts.listed()], np.int64), column.codes)


def _foreign(table: EventTable) -> NDArray[np.int64]:
    """How many countries an order names, less one: those of billing, shipping and address that are known and differ."""
    numbers: dict[str, int] = {"": 0}
    billing, shipping, ip = (
        _looked_up(table.coded[name], lambda text: numbers.setdefault(text, len(numbers)))
        for name in ("billing_country", "shipping_country", "ip_country")
    )
    known = (billing > 0).astype(np.int64)
    known += (shipping > 0) & (shipping != billing)
    known += (ip > 0) & (ip != billing) & (ip != shipping)
    return np.maximum(0, known - 1)


def _digests(table: EventTable, field: str, identity: Identity) -> NDArray[np.uint64]:
    found = np.zeros((len(table.time_ms), _WORDS), np.uint64)
    reduce = REDUCED.get(field)
    for column in _COLUMNS.get(field, (field,)):
        codes, texts = table.coded[column]
        if reduce is not None:
            texts = Texts.of(reduce(text) if text else "" for text in texts.listed())
        found |= _taken(digest_words(identity, field, *texts), codes)
    return found


def _key_words(kind: str, words: Mapping[str, NDArray[np.uint64]]) -> NDArray[np.uint64]:
    second = COMPOSITE.get(kind)
    if second is None:
        return words[kind]
    joined = np.concatenate((words["user"], words[second][:, :1]), axis=1)
    joined[~words[second].any(axis=1)] = 0
    return joined
