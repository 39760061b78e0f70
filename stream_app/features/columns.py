"""Events become columns: one array per property, so that nothing after this touches an event in Python.

Used for live batches, replay and the training export alike; the vocabulary codes and the hash buckets are those of
stream_app.events and model.contract. Identifiers leave this file only as keyed digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.contract import CATEGORY_BUCKETS, CONTEXT_COLUMNS, ITEM_BUCKETS
from stream_app.codec.identity import DIGEST_BYTES, Identity
from stream_app.events import KINDS, PLATFORMS, SCENES, Click, Event, Order
from stream_app.features.declare import Catalogue

__all__ = ["ColumnReader", "EntityRows", "EventColumns", "category_bucket", "entity_rows", "item_bucket"]

_HOUR_MS: Final = 3_600_000
_ATTRIBUTES: Final[dict[str, str]] = {
    "user": "user",
    "device": "device",
    "ip": "ip",
    "session": "session",
    "instrument": "payment_instrument",
    "address": "shipping_address",
}
_ORDER_ONLY: Final = frozenset({"instrument", "address"})
_UNKNOWN: Final = bytes(DIGEST_BYTES)

_KIND_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
_SCENE_CODES: Final = {scene: code for code, scene in enumerate(SCENES)}
_PLATFORM_CODES: Final = {platform: code for code, platform in enumerate(PLATFORMS)}
_SEARCH, _ORDER = _KIND_CODES["search"], _KIND_CODES["order"]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """A batch of B events as arrays, in the order of the batch.

    time_ms (B,) int64; kind, group (B,) int32; values (B, M) int64 in order of the catalogue's measures; context (B, 4) int32 and
    ids (B, 3) int32 (item bucket, category bucket, kind + 1) as in model.contract; keys: per entity kind B digests of 16 bytes,
    b"" where the event has no such entity.
    """

    time_ms: NDArray[np.int64]
    kind: NDArray[np.int32]
    group: NDArray[np.int32]
    values: NDArray[np.int64]
    context: NDArray[np.int32]
    ids: NDArray[np.int32]
    keys: dict[str, list[bytes]]

    def __len__(self) -> int:
        return len(self.time_ms)


@dataclass(frozen=True, slots=True)
class EntityRows:
    """Which state a batch needs of one kind: N different (group, key) pairs in order of appearance.

    groups (N,) int32; keys: N digests; row (B,) int32, the event's pair, -1 where it has no such entity.
    """

    groups: NDArray[np.int32]
    keys: list[bytes]
    row: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.keys)


def item_bucket(item: str) -> int:
    """The item's code for the model: 1..16383, 0 for the empty id (model.contract.ITEM_BUCKETS)."""
    return 1 + crc32(item.encode()) % (ITEM_BUCKETS - 1) if item else 0


def category_bucket(category: str) -> int:
    """The category's code for the model: 1..2047, 0 for the empty category (model.contract.CATEGORY_BUCKETS)."""
    return 1 + crc32(category.encode()) % (CATEGORY_BUCKETS - 1) if category else 0


def entity_rows(groups: NDArray[np.int32], keys: Sequence[bytes]) -> EntityRows:
    """Number the different (group, key) pairs in order of appearance."""
    known: dict[tuple[int, bytes], int] = {}
    number = known.setdefault
    rows = [number(pair, len(known)) if pair[1] else -1 for pair in zip(groups.tolist(), keys, strict=True)]
    return EntityRows(
        groups=np.array([group for group, _ in known], np.int32),
        keys=[key for _, key in known],
        row=np.array(rows, np.int32),
    )


class ColumnReader:
    """Reads events into columns for one catalogue: which identifiers and measures are needed is settled once."""

    __slots__ = ("_id_fields", "_kinds", "_masks", "_measures")

    def __init__(self, catalogue: Catalogue) -> None:
        self._kinds = tuple(kind.name for kind in catalogue.kinds)
        self._measures = catalogue.measures
        counted = [m.field for m in catalogue.measures if m.field in _ATTRIBUTES]
        self._id_fields: tuple[str, ...] = tuple(dict.fromkeys([*self._kinds, *counted]))
        # (M, kinds): 1 where a measure takes events of the kind.
        self._masks = np.array(
            [[int(not m.kinds or kind in m.kinds) for kind in KINDS] for m in catalogue.measures], np.int64
        ).reshape(len(catalogue.measures), len(KINDS))

    def read(self, events: Sequence[Event], groups: Sequence[int], identity: Identity) -> EventColumns:
        """Read B events; `groups` are their partition groups."""
        table = np.array([_scalars(event) for event in events], np.int64).reshape(len(events), 8)
        time_ms, kind = np.ascontiguousarray(table[:, 0]), table[:, 1].astype(np.int32)
        keys = {field: _digests(events, field, identity) for field in self._id_fields}
        context = np.empty((len(events), len(CONTEXT_COLUMNS)), np.int32)
        context[:, :3] = table[:, 1:4]
        context[:, 3] = time_ms // _HOUR_MS % 24
        ids = np.empty((len(events), 3), np.int32)
        ids[:, 0] = table[:, 6]
        ids[:, 1] = np.where(table[:, 7] > 0, (table[:, 7] - 1) % (CATEGORY_BUCKETS - 1) + 1, 0)
        ids[:, 2] = kind + 1
        return EventColumns(
            time_ms=time_ms,
            kind=kind,
            group=np.array(groups, np.int32),
            values=self._values(table, keys),
            context=context,
            ids=ids,
            keys={kind_name: keys[kind_name] for kind_name in self._kinds},
        )

    def _values(self, table: NDArray[np.int64], keys: dict[str, list[bytes]]) -> NDArray[np.int64]:
        values = np.empty((len(table), len(self._measures)), np.int64)
        fields: dict[str, NDArray[np.int64] | int] = {
            "one": 1, "amount": table[:, 4], "price": table[:, 5], "category": table[:, 7],
        }  # fmt: skip
        for m, measure in enumerate(self._measures):
            if measure.field not in fields:
                fields[measure.field] = _numbers(keys[measure.field])
            values[:, m] = fields[measure.field]
        return values * self._masks.T[table[:, 1]]


def _scalars(event: Event) -> tuple[int, int, int, int, int, int, int, int]:
    # time, kind, scene, platform, amount and price in cents, item bucket, 1 + crc32 of the category
    scene, platform = _SCENE_CODES[event.scene], _PLATFORM_CODES[event.platform]
    if type(event) is Click:
        category = 1 + crc32(event.category.encode()) if event.category else 0
        kind, price = _KIND_CODES[event.action], round(event.price * 100)
        return event.event_time_ms, kind, scene, platform, 0, price, item_bucket(event.item), category
    if type(event) is Order:
        line = event.lines[0]  # stands for the order in the sequence: the model sees one item an event
        category = 1 + crc32(line.category.encode()) if line.category else 0
        amount, price = round(event.amount * 100), round(line.unit_price * 100)
        return event.event_time_ms, _ORDER, scene, platform, amount, price, item_bucket(line.item), category
    return event.event_time_ms, _SEARCH, scene, platform, 0, 0, 0, 0


def _digests(events: Sequence[Event], field: str, identity: Identity) -> list[bytes]:
    digest, name = identity.hasher(field), _ATTRIBUTES[field]
    if field in _ORDER_ONLY:
        return [digest(getattr(event, name, "")) for event in events]
    return [digest(identifier) for identifier in map(attrgetter(name), events)]


def _numbers(digests: list[bytes]) -> NDArray[np.int64]:
    """The first 8 bytes of each digest, big-endian, shifted right once; 0 for none."""
    first = np.frombuffer(b"".join([digest or _UNKNOWN for digest in digests]), ">u8").reshape(-1, 2)[:, 0]
    return (first >> np.uint64(1)).astype(np.int64)
