"""Events become columns, one array per property; later steps touch no event in Python.

Live batches, replay and the training export share this code; the vocabulary codes and hash buckets are those of stream_app.events
and model.contract. Identifiers leave this file only as keyed digests.

The work per event is look-ups by C functions (attrgetter, map over caches): 3 us an event (measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, get_args
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.contract import CATEGORY_BUCKETS, ITEM_BUCKETS
from stream_app.events import KINDS, PLATFORMS, SCENES, Click, Event, Order, Search
from stream_app.features.columns.event_fields import FIELD_ROWS, EventFields, cents
from stream_app.features.columns.keys import counted_numbers, words_of
from stream_app.features.columns.text import REDUCED, event_hashes, query_of
from stream_app.features.declarations import Catalogue, IdField
from stream_app.features.jit import allocating
from stream_app.privacy import Pseudonymizer

_HALF: Final = 8  # bytes of a digest that distinguish two sessions or categories of one user

_KIND_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
_SCENE_CODES: Final = {scene: code for code, scene in enumerate(SCENES)}
_PLATFORM_CODES: Final = {platform: code for code, platform in enumerate(PLATFORMS)}
_SEARCH, _ORDER = _KIND_CODES["search"], _KIND_CODES["order"]

# Types of events in order of events.SOURCE_TOPICS.
_TYPES: Final[dict[type[Event], int]] = {Search: 0, Click: 1, Order: 2}
_COMMON: Final = attrgetter("event_time_ms", "event_id", "user", "session", "device", "ip", "scene", "platform")
_OF_CLICK: Final = attrgetter("action", "item", "category", "price", "position", "dwell_ms")
_OF_ORDER: Final = attrgetter("lines", "amount", "payment_instrument", "shipping_address")
_COUNTRIES: Final = attrgetter("billing_country", "shipping_country", "ip_country")
_OF_LINE: Final = attrgetter("item", "category", "unit_price")
_OF_SEARCH: Final = attrgetter("query", "items_shown")

COMPOSITE: Final = {"session": "session", "user_category": "category"}  # kinds within one user: their identifier


@dataclass(frozen=True, slots=True)
class EventColumns:
    """A batch of B events as arrays, in the order of the batch.

    time_ms (B,) int64; kind, group (B,) int32; values (B, M) int64 in order of the catalogue's measures; context (B, 4) int32,
    ids (B, 4) int32 (item bucket, category bucket, kind + 1, price bucket) and query (B, 4) int32 (zeros unless a search) as in
    model.contract; event (B,) int64, hash of topic and event id, 1 to 2**48 - 1; keys: per entity kind B keys, b"" where the
    event has no such entity: digests of 16 bytes, or of 24 within one user (the user's, and 8 bytes of the other).
    """

    time_ms: NDArray[np.int64]
    kind: NDArray[np.int32]
    group: NDArray[np.int32]
    values: NDArray[np.int64]
    context: NDArray[np.int32]
    ids: NDArray[np.int32]
    query: NDArray[np.int32]
    event: NDArray[np.int64]
    keys: Mapping[str, Sequence[bytes]]

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True)
class EntityRows:
    """The entities of one kind in a batch: N different (group, key) pairs, groups ascending, in order of appearance in each.

    groups (N,) int32; keys: N keys; row (B,) int32, the number of the event's pair, -1 for no such entity.
    """

    groups: NDArray[np.int32]
    keys: list[bytes]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)


@lru_cache(maxsize=1 << 15)
def item_bucket(item: str) -> int:
    """Return the item's code for the model: 1..16383, 0 for the empty id (model.contract.ITEM_BUCKETS)."""
    return 1 + crc32(item.encode()) % (ITEM_BUCKETS - 1) if item else 0


@lru_cache(maxsize=1 << 13)
def _category_number(category: str) -> int:
    return 1 + crc32(category.encode()) if category else 0


def category_bucket(category: str) -> int:
    """Return the category's code for the model: 1..2047, 0 for the empty category (model.contract.CATEGORY_BUCKETS)."""
    return 1 + (_category_number(category) - 1) % (CATEGORY_BUCKETS - 1) if category else 0


def rows_of_kinds(groups: NDArray[np.int32], keys: Mapping[str, Sequence[bytes]]) -> dict[str, EntityRows]:
    """Number the different (group, key) pairs of every kind; `groups` (B,) in any order, B keys for each kind."""
    order = np.argsort(groups, kind="stable")
    return {kind: _rows_of_kind(groups, order, of_kind) for kind, of_kind in keys.items()}


def _rows_of_kind(groups: NDArray[np.int32], order: NDArray[np.intp], keys: Sequence[bytes]) -> EntityRows:
    seen = dict.fromkeys(keys)
    seen.pop(b"", None)
    if not seen:  # frequent: no event of the batch has this kind
        return EntityRows(groups=np.zeros(0, np.int32), keys=[], row=np.full(len(keys), -1, np.int32))
    different = list(seen)
    number = dict(zip(seen, range(len(seen)), strict=True))
    number[b""] = -1
    of_event = np.fromiter(map(number.__getitem__, keys), np.int32, len(keys))
    row, chosen, of_group = _number_pairs(groups, order, of_event, len(different))
    return EntityRows(groups=of_group, keys=[different[key] for key in chosen.tolist()], row=row)


@allocating
def _number_pairs(
    groups: NDArray[np.int32], order: NDArray[np.intp], keys: NDArray[np.int32], different: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Number the pairs of groups (B,) and keys (B,), -1 = none, taking the events in `order`, which is by group.

    Returns:
        Each event's pair (B,), and of the N pairs the keys and the groups, (N,).
    """
    row = np.full(len(order), -1, np.int32)
    chosen, of_group = np.empty(len(order), np.int32), np.empty(len(order), np.int32)
    newest = np.full(different, -1, np.int32)  # the pair that each key was last seen in
    count = 0
    for e in order:
        key = keys[e]
        if key < 0:
            continue
        pair = newest[key]
        if pair < 0 or of_group[pair] != groups[e]:
            pair = newest[key] = count
            chosen[pair], of_group[pair] = key, groups[e]
            count += 1
        row[e] = pair
    return row, chosen[:count].copy(), of_group[:count].copy()


class ColumnReader:
    """Reads events into columns for one catalogue.

    Attributes:
        kinds: Names of the catalogue's entity kinds.
        counted: Identifiers that are measures: their digests become numbers.
        id_fields: Identifiers to digest.
    """

    __slots__ = ("_field_rows", "_masks", "counted", "id_fields", "kinds")

    def __init__(self, catalogue: Catalogue) -> None:
        self.kinds = tuple(kind.name for kind in catalogue.kinds)
        ids = get_args(IdField)
        self.counted = tuple(dict.fromkeys(m.field for m in catalogue.measures if m.field in ids and m.field != "category"))
        needed = [COMPOSITE.get(kind, kind) for kind in self.kinds]
        users = ["user"] if any(kind in COMPOSITE for kind in self.kinds) else []
        self.id_fields = tuple(dict.fromkeys([*users, *needed, *self.counted]))
        self._field_rows = np.array([FIELD_ROWS[m.field] for m in catalogue.measures], np.intp)
        # (kinds, M): 1 where a measure takes events of the kind.
        self._masks = np.array(
            [[int(not m.kinds or kind in m.kinds) for m in catalogue.measures] for kind in KINDS], np.int64
        ).reshape(len(KINDS), len(catalogue.measures))

    def read(self, events: Sequence[Event], groups: Sequence[int], identity: Pseudonymizer) -> EventColumns:
        """Read B events; `groups` are their partition groups."""
        batch = _Batch(events)
        numbers = batch.numbers
        digests = {field: list(map(identity.hasher(field, REDUCED.get(field)), batch.texts[field])) for field in self.id_fields}
        for field in self.counted:
            numbers[FIELD_ROWS[field]] = counted_numbers(words_of(digests[field]))
        keys = {kind: _keys(kind, digests) for kind in self.kinds}
        return self.columns(batch, np.array(groups, np.int32), batch.event, keys)

    def columns(
        self, batch: EventFields, groups: NDArray[np.int32], event: NDArray[np.int64], keys: Mapping[str, Sequence[bytes]]
    ) -> EventColumns:
        """Assemble the columns of B events; arguments as in EventColumns."""
        values = batch.numbers[self._field_rows].T * self._masks[batch.kind]
        return EventColumns(
            time_ms=batch.time_ms,
            kind=batch.kind,
            group=groups,
            values=np.ascontiguousarray(values),
            context=batch.context(),
            ids=batch.ids(),
            query=batch.query,
            event=event,
            keys=keys,
        )


class _Batch(EventFields):
    """The fields of B events, read type by type.

    Attributes:
        texts: per identifier B texts, "" for none.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        count = len(events)
        times, event_ids, users, sessions, devices, ips, scenes, platforms = _transposed(map(_COMMON, events), 8)
        super().__init__(np.array(times, np.int64))
        types = np.fromiter(map(_TYPES.__getitem__, map(type, events)), np.int64, count)
        self.event = event_hashes(event_ids, types)
        self.texts: dict[str, Sequence[str]] = {
            "user": users, "session": sessions, "device": devices, "ip": ips, "network": ips,
            "item": [""] * count, "category": [""] * count, "query": [""] * count,
            "instrument": [""] * count, "address": [""] * count,
        }  # fmt: skip
        self.put("scene", slice(None), 1 + np.fromiter(map(_SCENE_CODES.__getitem__, scenes), np.int64, count))
        self.put("platform", slice(None), 1 + np.fromiter(map(_PLATFORM_CODES.__getitem__, platforms), np.int64, count))
        for code, read in enumerate((self._read_searches, self._read_clicks, self._read_orders)):
            at = np.flatnonzero(types == code)
            if len(at):
                places = at.tolist()
                read(at, places, [events[place] for place in places])

    def _read_searches(self, at: NDArray[np.intp], places: list[int], events: Sequence[Event]) -> None:
        texts, shown = _transposed(map(_OF_SEARCH, events), 2)
        queries, codes = _transposed(map(query_of, texts), 2)
        self.put("shown", at, list(map(len, shown)))
        self.put("query_length", at, list(map(len, queries)))
        self.query[at] = codes
        self._put_texts("query", places, queries)

    def _read_clicks(self, at: NDArray[np.intp], places: list[int], events: Sequence[Event]) -> None:
        actions, items, categories, prices, positions, dwells = _transposed(map(_OF_CLICK, events), 6)
        self.kind[at] = list(map(_KIND_CODES.__getitem__, actions))
        self.put("price", at, cents(prices))
        self.put("position", at, positions)
        self.put("dwell", at, dwells)
        self._put_items(at, places, items, categories)

    def _read_orders(self, at: NDArray[np.intp], places: list[int], events: Sequence[Event]) -> None:
        orders_lines, amounts, instruments, addresses = _transposed(map(_OF_ORDER, events), 4)
        # The first line stands for the order in the sequence: the model sees one item an event.
        items, categories, prices = _transposed([_OF_LINE(lines[0]) for lines in orders_lines], 3)
        self.kind[at] = _ORDER
        self.put("amount", at, cents(amounts))
        self.put("price", at, cents(prices))
        self.put("quantity", at, [sum([line.quantity for line in lines]) for lines in orders_lines])
        self.put("lines", at, list(map(len, orders_lines)))
        self.put("foreign", at, [max(0, len({*countries} - {""}) - 1) for countries in map(_COUNTRIES, events)])
        self._put_items(at, places, items, categories)
        self._put_texts("instrument", places, instruments)
        self._put_texts("address", places, addresses)

    def _put_items(self, at: NDArray[np.intp], places: list[int], items: Sequence[str], categories: Sequence[str]) -> None:
        self.items[at] = list(map(item_bucket, items))
        self.put("category", at, list(map(_category_number, categories)))
        self._put_texts("item", places, items)
        self._put_texts("category", places, categories)

    def _put_texts(self, field: str, places: list[int], texts: Sequence[str]) -> None:
        column = self.texts[field]
        assert isinstance(column, list)
        for place, text in zip(places, texts, strict=True):
            column[place] = text


def _transposed(rows: Iterable[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) or [()] * width


def _keys(kind: str, digests: Mapping[str, list[bytes]]) -> list[bytes]:
    second = COMPOSITE.get(kind)
    if second is None:
        return digests[kind]
    return [user + other[:_HALF] if other else b"" for user, other in zip(digests["user"], digests[second], strict=True)]
