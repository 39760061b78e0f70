"""The definition of a feature, straight from its sentences: raw events are kept and scanned again for every read.

Shares no code with the engine; it reads the same declared catalogue (declare.py says what the words mean), and nothing else of
the package. Slow on purpose.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from zlib import crc32

from stream_app.events import Click, Event, Order, Search
from stream_app.features.declare import Catalogue, Feature, Measure, Window

Entity = tuple[str, str]  # kind, identifier


@dataclass(frozen=True)
class Seen:
    """One event that was added to an entity, by which group, in which batch."""

    event: Event
    group: int
    batch: int


@dataclass
class Expected:
    """What the engine must say of one event."""

    late_by_ms: int = 0
    features: list[float] = field(default_factory=list)
    sequence: list[tuple[int, int, int, float]] = field(default_factory=list)


def identifier(event: Event, kind: str) -> str:
    names = {"instrument": "payment_instrument", "address": "shipping_address"}
    return str(getattr(event, names.get(kind, kind), ""))


def kind_of(event: Event) -> str:
    if isinstance(event, Search):
        return "search"
    return event.action if isinstance(event, Click) else "order"


def item_of(event: Event) -> tuple[str, str]:
    if isinstance(event, Click):
        return event.item, event.category
    if isinstance(event, Order):
        return event.lines[0].item, event.lines[0].category
    return "", ""


def hashed(text: str, domain: str, key: bytes) -> int:
    digest = blake2b(text.encode(), digest_size=16, key=key, person=domain.encode()).digest()
    return int.from_bytes(digest[:8], "big") // 2


def measured(event: Event, measure: Measure, key: bytes) -> int:
    if measure.kinds and kind_of(event) not in measure.kinds:
        return 0
    if measure.field == "one":
        return 1
    if measure.field == "amount":
        return round(event.amount * 100) if isinstance(event, Order) else 0
    if measure.field == "price":
        price = event.price if isinstance(event, Click) else event.lines[0].unit_price if isinstance(event, Order) else 0.0
        return round(price * 100)
    if measure.field == "category":
        category = item_of(event)[1]
        return 1 + crc32(category.encode()) if category else 0
    text = identifier(event, measure.field)
    return hashed(text, measure.field, key) if text else 0


class Oracle:
    """Applies events one after the other; `next_batch` makes other groups' events visible."""

    def __init__(self, catalogue: Catalogue, allowed_lateness_ms: int, key: bytes) -> None:
        self.catalogue, self.allowed, self.key = catalogue, allowed_lateness_ms, key
        self.past: dict[Entity, list[Seen]] = defaultdict(list)
        self.batch = 0

    def next_batch(self) -> None:
        self.batch += 1

    def apply(self, event: Event, group: int) -> Expected:
        judge = self.catalogue.kinds[0].name
        own_times = [s.event.event_time_ms for s in self.past[judge, identifier(event, judge)]]
        if own_times and event.event_time_ms < max(own_times) - self.allowed:
            return Expected(late_by_ms=max(own_times) - event.event_time_ms)
        expected = Expected(features=[self.value(f, event, group) for f in self.catalogue.features])
        expected.sequence = self.sequence(event)
        for kind in self.catalogue.kinds:
            name = identifier(event, kind.name)
            if name:
                self.past[kind.name, name].append(Seen(event, group, self.batch))
        return expected

    def visible(self, kind: str, name: str, group: int) -> list[Event]:
        seen = self.past[kind, name] if name else []
        return [s.event for s in seen if s.group == group or s.batch < self.batch]

    def in_window(self, events: list[Event], window: Window, t: int) -> list[Event]:
        if not events:
            return []
        tile = window.tile_ms
        kept_after = max(e.event_time_ms for e in events) // tile - window.slots
        start = (t - window.length_ms) // tile * tile
        end = (t // tile + 1) * tile  # the tile that holds t may hold later events
        return [e for e in events if start <= e.event_time_ms < end and e.event_time_ms // tile > kept_after]

    def value(self, feature: Feature, event: Event, group: int) -> float:
        own = measured(event, self.catalogue.measure(feature.measure), self.key) if feature.measure else 0
        if feature.aggregation == "own":
            value = own / self.unit(feature)
        else:
            events = self.visible(feature.entity, identifier(event, feature.entity), group)
            value = self.of_past(feature, events, event.event_time_ms, own)
        return min(max(value, feature.low), feature.high)

    def unit(self, feature: Feature) -> int:
        return 100 if self.catalogue.measure(feature.measure).field in {"amount", "price"} else 1

    def of_past(self, feature: Feature, events: list[Event], t: int, own: int) -> float:
        times = [e.event_time_ms for e in events]
        if feature.aggregation == "recency":
            return max(0, t - max(times)) / 1000 if times else feature.default
        if feature.aggregation == "age":
            return max(0, t - min(times)) / 1000 if times else feature.default
        inside = self.in_window(events, self.catalogue.window(feature.window), t)
        values = [measured(e, self.catalogue.measure(feature.measure), self.key) for e in inside]
        if feature.aggregation == "distinct":
            bits = 64 * feature.words
            return linear_count(len({v % bits for v in values if v}), bits)
        total = sum(values) / self.unit(feature)
        if feature.aggregation in {"count", "sum"}:
            return total
        many = sum(measured(e, self.catalogue.measure(feature.per), self.key) for e in inside)
        if feature.aggregation == "rate":
            return (total + feature.prior[0]) / (many + feature.prior[1])
        if feature.aggregation == "mean":
            return total / many if many else feature.default
        if own == 0:
            return 0.0
        return own / self.unit(feature) / (total / many) if total and many else feature.default

    def sequence(self, event: Event) -> list[tuple[int, int, int, float]]:
        kinds = ("search", "view", "click", "cart", "favourite", "order")
        shown = []
        judge = self.catalogue.kinds[0].name
        for seen in self.past[judge, identifier(event, judge)][-32:]:
            item, category = item_of(seen.event)
            gap = max(0, event.event_time_ms - seen.event.event_time_ms) / 1000
            item_code = 1 + crc32(item.encode()) % 16383 if item else 0
            category_code = 1 + crc32(category.encode()) % 2047 if category else 0
            shown.append((item_code, category_code, kinds.index(kind_of(seen.event)) + 1, gap))
        return shown

    def state(self, kind: str, name: str, group: int | None) -> dict[str, object]:
        """What the entity's state must be: of one group's replica, or of all of them merged (None)."""
        events = [s.event for s in self.past[kind, name] if group is None or s.group == group]
        times = [e.event_time_ms for e in events]
        tiles: dict[str, dict[int, int]] = {}
        distinct: dict[str, dict[int, list[int]]] = {}
        for feature in self.catalogue.features:
            if feature.entity != kind or not feature.window:
                continue
            window = self.catalogue.window(feature.window)
            kept = [e for e in events if e.event_time_ms // window.tile_ms > max(times) // window.tile_ms - window.slots]
            for name_of_measure in {feature.measure, feature.per} - {""}:
                measure = self.catalogue.measure(name_of_measure)
                label = f"{measure.name}/{window.name}"
                starts = [(e.event_time_ms // window.tile_ms * window.tile_ms, measured(e, measure, self.key)) for e in kept]
                if feature.aggregation == "distinct":
                    bits = {(start, value % (64 * feature.words)) for start, value in starts if value}
                    distinct[label] = {at: sorted(b for s, b in bits if s == at) for at, _ in bits}
                else:
                    sums: dict[int, int] = defaultdict(int)
                    for start, value in starts:
                        sums[start] += value
                    tiles[label] = {start: total for start, total in sums.items() if total}
        found: dict[str, object] = {"newest_ms": max(times, default=None), "first_ms": min(times, default=None)}
        return {**found, "tiles": tiles, "distinct": distinct}


def linear_count(on: int, bits: int) -> float:
    empty = max(1, bits - on)
    return float(round(-bits * math.log(empty / bits)))
