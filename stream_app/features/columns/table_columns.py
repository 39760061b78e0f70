"""Event tables to the columns of the fold, without an object per event.

Every number equals the one that ColumnReader.read returns for the decoded event. A text is interpreted once per distinct value;
each event looks the result up in an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.contract import ITEM_BUCKETS, QUERY_CODES
from stream_app.errors import InputFileError
from stream_app.events import KINDS, PLATFORMS, SCENES, SOURCE_TOPICS
from stream_app.features.columns.event_columns import COMPOSITE, ColumnReader, EventColumns
from stream_app.features.columns.event_fields import FIELD_ROWS, EventFields, cents
from stream_app.features.columns.keys import EntityKeys, counted_numbers
from stream_app.features.columns.text import REDUCED, query_of, text_hashes
from stream_app.privacy import Pseudonymizer

# Names in EventTableColumns.coded and .numbers.
CODED: Final = (
    "user", "session", "device", "ip", "scene", "platform", "action", "item", "category", "query", "line_item", "line_category",
    "payment_instrument", "shipping_address", "billing_country", "shipping_country", "ip_country",
)  # fmt: skip
NUMERIC: Final = ("price", "position", "dwell_ms", "shown", "amount", "line_price", "lines", "quantity")

# Columns of an identifier's texts, where they do not have its name.
_COLUMNS: Final = {
    "network": ("ip",), "item": ("item", "line_item"), "category": ("category", "line_category"),
    "instrument": ("payment_instrument",), "address": ("shipping_address",),
}  # fmt: skip
_COUNTRIES: Final = ("billing_country", "shipping_country", "ip_country")
_CLICKS, _ORDERS = map(SOURCE_TOPICS.index, ("clicks", "orders"))
_WORDS: Final = 2  # of a digest


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

    def part(self, first: int, last: int) -> Texts:
        """Return the texts [first, last), as a view."""
        start = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return Texts(self.data[start : int(ends[-1]) if len(ends) else start], ends - start)

    def listed(self) -> list[str]:
        """Return them as strings."""
        return [text.decode() for text in self.encoded()]

    def encoded(self) -> list[bytes]:
        """Return them as UTF-8."""
        data = self.data.tobytes()
        return [data[start:end] for start, end in pairwise([0, *self.ends.tolist()])]


class Coded(NamedTuple):
    """B texts with few distinct values: codes (B,) int32 into `texts`, -1 for none."""

    codes: NDArray[np.int32]
    texts: Texts


@dataclass(frozen=True, slots=True)
class EventTableColumns:
    """B valid events in the columns of a table.

    Attributes:
        time_ms: (B,) int64.
        topics: (B,) int64, numbers of events.SOURCE_TOPICS.
        event_ids: B.
        coded: By the names of CODED; no text where the event's type lacks the field. `line_` is an order's first line.
        numbers: By the names of NUMERIC, (B,) each, 0 where the event's type lacks the field; `quantity` is of all lines.
    """

    time_ms: NDArray[np.int64]
    topics: NDArray[np.int64]
    event_ids: Texts
    coded: Mapping[str, Coded]
    numbers: Mapping[str, NDArray[np.float64] | NDArray[np.int64]]

    def part(self, first: int, last: int) -> EventTableColumns:
        """Return the events [first, last), as a view."""
        return EventTableColumns(
            self.time_ms[first:last],
            self.topics[first:last],
            self.event_ids.part(first, last),
            {name: Coded(codes[first:last], texts) for name, (codes, texts) in self.coded.items()},
            {name: numbers[first:last] for name, numbers in self.numbers.items()},
        )


class TableReader:
    """Reads parts of one table; the constructor interprets all distinct texts.

    Args:
        reader: The catalogue's reader.
        table: B events of partition group 0.
        identity: Digests the identifiers.

    Raises:
        InputFileError: A text is not in its vocabulary.
    """

    def __init__(self, reader: ColumnReader, table: EventTableColumns, identity: Pseudonymizer) -> None:
        self._reader, self._table = reader, table
        coded = table.coded
        queries = [query_of(text) for text in coded["query"].texts.listed()]
        self._lengths = _padded(np.array([len(query.text) for query in queries], np.int64))
        self._queries = _padded(np.array([query.codes for query in queries], np.int32).reshape(-1, QUERY_CODES))
        self._kinds = _vocabulary("action", coded["action"], KINDS)
        self._scenes = _vocabulary("scene", coded["scene"], SCENES)
        self._platforms = _vocabulary("platform", coded["platform"], PLATFORMS)
        countries: dict[str, int] = {"": 0}
        self._countries = {
            name: _numbered(coded[name], lambda text: countries.setdefault(text, len(countries))) for name in _COUNTRIES
        }
        self._categories = {name: _padded(1 + _checksums(coded[name].texts)) for name in _COLUMNS["category"]}
        self._items = {name: _padded(_buckets(coded[name].texts)) for name in _COLUMNS["item"]}
        self._digests = {
            (field, column): _padded(_digests(field, coded[column].texts, identity))
            for field in reader.id_fields
            for column in _COLUMNS.get(field, (field,))
        }

    def read(self, first: int, last: int) -> EventColumns:
        """Read the events [first, last)."""
        table = self._table.part(first, last)
        batch = EventFields(table.time_ms)
        batch.kind[:] = np.where(table.topics == _ORDERS, KINDS.index("order"), KINDS.index("search"))
        clicks = np.flatnonzero(table.topics == _CLICKS)
        batch.kind[clicks] = self._kinds[table.coded["action"].codes + 1][clicks]
        self._put_numbers(batch, table)
        words = {field: self._words(table, field) for field in self._reader.id_fields}
        for field in self._reader.counted:
            batch.put(field, slice(None), counted_numbers(words[field]))
        keys = {kind: EntityKeys(_key_words(kind, words)) for kind in self._reader.kinds}
        event = text_hashes(*table.event_ids, table.topics)
        return self._reader.columns(batch, np.zeros(last - first, np.int32), event, keys)

    def _put_numbers(self, batch: EventFields, table: EventTableColumns) -> None:
        coded, numbers, everywhere = table.coded, table.numbers, slice(None)
        batch.put("scene", everywhere, 1 + self._scenes[coded["scene"].codes + 1])
        batch.put("platform", everywhere, 1 + self._platforms[coded["platform"].codes + 1])
        batch.put("shown", everywhere, numbers["shown"])
        batch.put("price", everywhere, cents(numbers["price"]) + cents(numbers["line_price"]))
        batch.put("position", everywhere, numbers["position"])
        batch.put("dwell", everywhere, numbers["dwell_ms"])
        batch.put("amount", everywhere, cents(numbers["amount"]))
        batch.put("quantity", everywhere, numbers["quantity"])
        batch.put("lines", everywhere, numbers["lines"])
        batch.put("foreign", everywhere, _foreign(*(self._countries[name][coded[name].codes + 1] for name in _COUNTRIES)))
        batch.put("query_length", everywhere, self._lengths[coded["query"].codes + 1])
        batch.query[:] = self._queries[coded["query"].codes + 1]
        for name, categories in self._categories.items():
            batch.numbers[FIELD_ROWS["category"]] += categories[coded[name].codes + 1]
        for name, items in self._items.items():
            batch.items += items[coded[name].codes + 1]

    def _words(self, table: EventTableColumns, field: str) -> NDArray[np.uint64]:
        """Return the digests of one identifier (B, 2); at most one of its columns has a text."""
        words = np.zeros((len(table.time_ms), _WORDS), np.uint64)
        for column in _COLUMNS.get(field, (field,)):
            words |= self._digests[field, column][table.coded[column].codes + 1]
        return words


def _padded(values: NDArray[Any]) -> NDArray[Any]:
    """Put a zero before `values` (U, ...): the result for code -1, no text, when indexed by code + 1."""
    padded: NDArray[Any] = np.zeros((len(values) + 1, *values.shape[1:]), values.dtype)
    padded[1:] = values
    return padded


def _numbered(column: Coded, number: Callable[[str], int]) -> NDArray[np.int64]:
    return _padded(np.array([number(text) for text in column.texts.listed()], np.int64))


def _vocabulary(name: str, column: Coded, known: Sequence[str]) -> NDArray[np.int64]:
    unknown = sorted(set(column.texts.listed()) - set(known))
    if unknown:
        raise InputFileError(
            f"the table's column {name} holds {unknown[0]!r}, this version knows {', '.join(known)}: another version wrote the "
            "table. Sort the log again with this one"
        )
    return _numbered(column, known.index)


def _checksums(texts: Texts) -> NDArray[np.int64]:
    """Return the CRC-32 of each text (N,), -1 for an empty one."""
    return np.array([crc32(text) if text else -1 for text in texts.encoded()], np.int64)


def _buckets(texts: Texts) -> NDArray[np.int64]:
    sums = _checksums(texts)
    return np.where(sums < 0, 0, 1 + sums % (ITEM_BUCKETS - 1))


def _digests(field: str, texts: Texts, identity: Pseudonymizer) -> NDArray[np.uint64]:
    reduce = REDUCED.get(field)
    if reduce is not None:
        texts = Texts.of(reduce(text) if text else "" for text in texts.listed())
    return np.frombuffer(b"".join(identity.digests(field, texts.encoded())), np.uint64).reshape(-1, _WORDS)


def _foreign(billing: NDArray[np.int64], shipping: NDArray[np.int64], ip: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of different known countries (billing, shipping, ip) of an order, less one, at least 0."""
    known = (billing > 0).astype(np.int64)
    known += (shipping > 0) & (shipping != billing)
    known += (ip > 0) & (ip != billing) & (ip != shipping)
    return np.maximum(0, known - 1)


def _key_words(kind: str, words: Mapping[str, NDArray[np.uint64]]) -> NDArray[np.uint64]:
    second = COMPOSITE.get(kind)
    if second is None:
        return words[kind]
    joined = np.concatenate((words["user"], words[second][:, :1]), axis=1)
    joined[~words[second].any(axis=1)] = 0
    return joined
