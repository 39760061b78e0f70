"""What the state must hold after a set of events, by brute force from the documented sentences alone.

Shares no code with the engine, the importer or the store: this file says again, in the plainest way, what
docs/features.md says, so that a disagreement shows a mistake in one of the two. It is slow, keeps every event, and
knows no increments.

For each entity (a user; a device or an address, one replica for each partition group that saw it):

- `newest_ms` and `first_ms`: the greatest and the least event time;
- for each measure and window: the sum over the events of each tile (a tile is [k * tile, (k + 1) * tile) in epoch ms),
  for the tiles that are kept: those with k > floor(newest / tile) - slots, where slots = window / tile + 2;
- for each distinct count and window: the bits that the tile's values set in a bitmap of 64 * words bits, value v
  setting bit v modulo the bitmap's size; values are hashes above 0;
- for a user: the last 32 interactions in order of arrival.

Measures are integers: 1 an event for counts, cents for money. All of it is a function of the set of events, whatever
their order, but for the sequence: order of arrival is fixed within one topic and free between two, so a sequence is
right if its entries of each topic are that topic's last ones, in order (`sequence_fault`).
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from typing import Final, NamedTuple

__all__ = [
    "KEPT",
    "KIND_CODES",
    "Entity",
    "Entry",
    "RawEvent",
    "State",
    "cents",
    "entity_key",
    "expected_states",
    "identifier_hash",
    "sequence_fault",
]

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
SEQUENCE: Final = 32
_ITEM_BUCKETS, _CATEGORY_BUCKETS = 16_384, 2_048
KIND_CODES: Final = {"search": 1, "view": 2, "click": 3, "cart": 4, "favourite": 5, "order": 6}  # 0 is no event


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One row of a raw file, as the project should understand it. Money is in units of its currency."""

    topic: str
    user: str
    kind: str
    time_ms: int
    device: str = ""
    ip: str = ""
    item: str = ""
    category: str = ""
    price: float = 0.0
    amount: float = 0.0
    instrument: str = ""


class Window(NamedTuple):
    """A window and its tiles."""

    name: str
    length_ms: int
    tile_ms: int

    @property
    def slots(self) -> int:
        """Tiles kept: the window's, one for the head that is not full, one for events out of order."""
        return self.length_ms // self.tile_ms + 2


class Kept(NamedTuple):
    """What is kept in the tiles of one window of one kind of entity: sums, and bitmaps by their words of 64 bits."""

    window: Window
    sums: tuple[str, ...]
    bitmaps: dict[str, int]


_10M, _1H = Window("10m", 10 * _MINUTE, _MINUTE), Window("1h", _HOUR, 5 * _MINUTE)
_1D, _7D = Window("1d", _DAY, _HOUR), Window("7d", 7 * _DAY, 12 * _HOUR)
_30D = Window("30d", 30 * _DAY, 2 * _DAY)

KEPT: Final[Mapping[str, tuple[Kept, ...]]] = {
    "user": (
        Kept(_10M, ("events",), {}),
        Kept(_1H, ("events", "searches", "views", "clicks", "orders", "spend"), {}),
        Kept(_1D, ("events", "views", "carts", "favourites", "orders", "spend"), {"category": 2}),
        Kept(_7D, ("browses", "orders", "spend"), {"device": 2, "instrument": 2}),
        Kept(_30D, ("orders", "spend"), {}),
    ),
    "device": (
        Kept(_10M, ("events",), {}),
        Kept(_1D, ("orders", "spend"), {"user": 4}),
        Kept(_7D, ("orders", "spend"), {"user": 4}),
    ),
    "ip": (
        Kept(_10M, ("events",), {}),
        Kept(_1H, ("orders",), {}),
        Kept(_1D, (), {"user": 4, "instrument": 4}),
    ),
}

_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "searches": ("search",),
    "views": ("view",),
    "clicks": ("click",),
    "browses": ("view", "click"),
    "carts": ("cart",),
    "favourites": ("favourite",),
    "orders": ("order",),
}

Entity = tuple[int, str, str]  # partition group, kind, key in hex
Entry = tuple[int, int, int, int]  # time_ms, item bucket, category bucket, kind code; what a sequence holds
Ring = dict[int, int]  # start of a tile in epoch ms -> its sum, or its bitmap as one integer


@dataclass(slots=True)
class State:
    """State of one entity. `rings` by "measure/window"; tiles without events are left out, and so are rings without tiles.

    `arrivals` are a user's interactions by topic, in order (empty for other kinds); `sequence` is what a store holds.
    """

    newest_ms: int
    first_ms: int
    rings: dict[str, Ring] = field(default_factory=dict)
    arrivals: dict[str, list[Entry]] = field(default_factory=dict)
    sequence: list[Entry] = field(default_factory=list)


def identifier_hash(domain: str, identifier: str, key: str) -> bytes:
    """Return the 16 bytes that stand for an identifier: BLAKE2b under `key`, personalised with what it names."""
    return blake2b(identifier.encode(), digest_size=16, key=key.encode(), person=domain.encode()).digest()


def entity_key(domain: str, identifier: str, key: str) -> str:
    """Return the last part of a state key, in hex."""
    return identifier_hash(domain, identifier, key).hex()


def cents(amount: float) -> int:
    """Return money in whole cents, the double's exact value rounded half to even."""
    return round(Fraction(amount) * 100)


def expected_states(events: Iterable[RawEvent], group_of: Mapping[str, int], id_key: str) -> dict[Entity, State]:
    """Return what every entity must hold.

    Args:
        events: In the order of their topic's records, for the events of one user in one topic.
        group_of: User -> its partition.
        id_key: The secret under which identifiers are hashed.

    Raises:
        KeyError: A user has no partition: none of its events came to the broker.
    """
    hashed = _Hashes(id_key)
    of_entity: dict[Entity, list[RawEvent]] = defaultdict(list)
    for event in events:
        group = group_of[event.user]
        for kind, identifier in (("user", event.user), ("device", event.device), ("ip", event.ip)):
            if identifier:
                of_entity[group, kind, hashed(kind, identifier).hex()].append(event)
    return {entity: _state(entity[1], seen, hashed) for entity, seen in of_entity.items()}


def sequence_fault(arrivals: Mapping[str, Sequence[Entry]], found: Sequence[Entry]) -> str:
    """Return what is wrong with a stored sequence, "" if nothing.

    It must have min(32, all) entries, and those of each topic must be that topic's last ones, in order.
    """
    total = sum(len(entries) for entries in arrivals.values())
    if len(found) != min(SEQUENCE, total):
        return f"{len(found)} entries, not {min(SEQUENCE, total)}"
    topic_of = {1: "searches", 6: "orders"}
    by_topic: dict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        by_topic[topic_of.get(entry[3], "clicks")].append(entry)
    for topic, entries in by_topic.items():
        last = list(arrivals.get(topic, ()))[-len(entries) :]
        if entries != last:
            return f"the last {len(entries)} of {topic} are {entries}, not {last}"
    return ""


class _Hashes:
    """Hashes of identifiers, each computed once."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._known: dict[tuple[str, str], bytes] = {}

    def __call__(self, domain: str, identifier: str) -> bytes:
        known = self._known.get((domain, identifier))
        if known is None:
            known = self._known[domain, identifier] = identifier_hash(domain, identifier, self._key)
        return known

    def value(self, domain: str, identifier: str) -> int:
        """Return the identifier as a measure: first 8 bytes, big-endian, without the last bit; 0 if there is none."""
        return int.from_bytes(self(domain, identifier)[:8], "big") >> 1 if identifier else 0


def _state(kind: str, events: Sequence[RawEvent], hashed: _Hashes) -> State:
    times = [event.time_ms for event in events]
    state = State(max(times), min(times))
    for kept in KEPT[kind]:
        tile_ms = kept.window.tile_ms
        oldest = state.newest_ms // tile_ms - kept.window.slots
        inside = [event for event in events if event.time_ms // tile_ms > oldest]
        rings = {name: _sums(name, inside, tile_ms) for name in kept.sums}
        rings |= {name: _bitmaps(name, inside, tile_ms, hashed, words) for name, words in kept.bitmaps.items()}
        state.rings |= {f"{name}/{kept.window.name}": ring for name, ring in rings.items() if ring}
    if kind == "user":
        for event in events:
            state.arrivals.setdefault(event.topic, []).append(_entry(event))
    return state


def _sums(name: str, events: Iterable[RawEvent], tile_ms: int) -> Ring:
    ring: Ring = {}
    for event in events:
        value = _measure(name, event)
        if value:
            start_ms = event.time_ms // tile_ms * tile_ms
            ring[start_ms] = ring.get(start_ms, 0) + value
    return ring


def _bitmaps(name: str, events: Iterable[RawEvent], tile_ms: int, hashed: _Hashes, words: int) -> Ring:
    ring: Ring = {}
    for event in events:
        bit = _bit(name, event, hashed, words)
        if bit:
            start_ms = event.time_ms // tile_ms * tile_ms
            ring[start_ms] = ring.get(start_ms, 0) | bit
    return ring


def _measure(name: str, event: RawEvent) -> int:
    if name == "events":
        return 1
    if name == "spend":
        return cents(event.amount) if event.kind == "order" else 0
    return int(event.kind in _OF_KIND[name])


def _bit(name: str, event: RawEvent, hashed: _Hashes, words: int) -> int:
    if name == "category":
        value = 1 + zlib.crc32(event.category.encode()) if event.category else 0
    elif name == "instrument":
        value = hashed.value("instrument", event.instrument) if event.kind == "order" else 0
    else:
        value = hashed.value(name, event.user if name == "user" else event.device)
    return 1 << value % (64 * words) if value else 0


def _entry(event: RawEvent) -> Entry:
    return (
        event.time_ms,
        _bucket(event.item, _ITEM_BUCKETS),
        _bucket(event.category, _CATEGORY_BUCKETS),
        KIND_CODES[event.kind],
    )


def _bucket(text: str, buckets: int) -> int:
    return 1 + zlib.crc32(text.encode()) % (buckets - 1) if text else 0
