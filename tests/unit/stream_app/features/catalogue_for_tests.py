"""A catalogue with every aggregation on every kind of entity that can have it, over windows of every sort.

Declared by rotation, so that over all entities each aggregation meets each window and several measures. Numbers (words, cells,
priors, defaults) are small, so that sketches, full cells and defaults are met by a few events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, get_args

from stream_app.events import KINDS as EVENT_KINDS
from stream_app.features.declarations import EVENT, Aggregation, Catalogue, EntityKind, Feature, Measure, Window

_T = TypeVar("_T")

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
GAP: Final = 30 * MINUTE

KINDS: Final = (
    EntityKind("user", "m", shared=False, ttl_ms=90 * DAY, sequence=True, session_gap_ms=GAP),
    EntityKind("session", "m", shared=False, ttl_ms=90 * DAY, session_gap_ms=10 * MINUTE),
    EntityKind("device", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("ip", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("network", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("instrument", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("address", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("item", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("category", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("query", "m", shared=True, ttl_ms=90 * DAY),
    EntityKind("user_category", "m", shared=False, ttl_ms=90 * DAY),
)

WINDOWS: Final = (
    Window("1m", MINUTE, 10 * SECOND),
    Window("10m", 10 * MINUTE, MINUTE, spare_tiles=0),
    Window("1h", HOUR, 5 * MINUTE),
    Window("1d", DAY, HOUR, spare_tiles=3),
    Window("7d", 7 * DAY, 12 * HOUR),
    Window("30d", 30 * DAY, DAY, spare_tiles=33),  # 64 slots: the most there can be
)

_ORDERS: Final = ("order",)
_CLICKS: Final = ("view", "click", "cart", "favourite")
MEASURES: Final = (
    Measure("events", "one"),
    Measure("searches", "one", ("search",)),
    Measure("clicks", "one", _CLICKS),
    Measure("carts", "one", ("cart",)),
    Measure("orders", "one", _ORDERS),
    Measure("spend", "amount", _ORDERS),
    Measure("price", "price"),
    Measure("click_price", "price", _CLICKS),
    Measure("dwell", "dwell"),
    Measure("position", "position", ("click",)),
    Measure("quantity", "quantity"),
    Measure("lines", "lines"),
    Measure("shown", "shown"),
    Measure("query_length", "query_length"),
    Measure("night", "night"),
    Measure("weekend", "weekend", _ORDERS),
    Measure("foreign", "foreign"),
    *(Measure(f, f) for f in ("hour", "weekday", "scene", "platform", "user", "session", "device", "ip")),
    *(Measure(f, f) for f in ("network", "instrument", "address", "item", "category", "query")),
    Measure("bought", "item", _ORDERS),
)

# What a mean or deviation is over: a measure, and the count of the events that can have it.
_PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("spend", "orders"), ("price", "events"), ("dwell", "clicks"), ("click_price", "clicks"), ("quantity", "orders"),
    ("shown", "searches"), ("query_length", "searches"), ("position", "clicks"), ("lines", "orders"), ("night", "events"),
)  # fmt: skip

# Which events can have a field, and which an entity: a measure of searches is always 0 for an instrument.
_SOME: Final = {
    **{key: {*_ORDERS} for key in ("amount", "quantity", "lines", "foreign", "instrument", "address")},
    **{key: {*_CLICKS, *_ORDERS} for key in ("price", "item", "category", "user_category")},
    **{key: {*_CLICKS} for key in ("dwell", "position")},
    **{key: {"search"} for key in ("shown", "query_length", "query")},
}
_TWO_VALUED: Final = ("one", "night", "weekend", "foreign")


def _measures_of(entity: str) -> list[Measure]:
    """Measures that can be other than 0 and other than always the same for the entity."""
    events = _SOME.get(entity, {*EVENT_KINDS})
    return [
        m for m in MEASURES if m.field != entity and {*(m.kinds or EVENT_KINDS)} & _SOME.get(m.field, {*EVENT_KINDS}) & events
    ]


_WORDS: Final = {"1m": 1, "10m": 2, "1h": 1, "1d": 3, "7d": 16, "30d": 2}  # one size a window: features share their sets
_CELLS: Final = {"hour": 24, "weekday": 7, "category": 2, "item": 3, "scene": 4}
MUCH: Final = 1e15


def feature(name: str, entity: str, how: Aggregation, **words: Any) -> Feature:
    """A feature of that name; its prose is a letter, its bound beyond every value."""
    words = {"meaning": "m", "reason": "r", "unit": "u", "high": MUCH, **words}
    return Feature(name=name, entity=entity, aggregation=how, **words)


class _Rotation:
    """Every aggregation goes around every list by itself, so that all of one meet, sooner or later, all of the other."""

    def __init__(self) -> None:
        self.turns: Counter[tuple[str, str]] = Counter()
        self.made = 0

    def next(self, how: str, what: str, of: Sequence[_T]) -> _T:
        self.turns[how, what] += 1
        return of[(self.turns[how, what] + get_args(Aggregation).index(how)) % len(of)]

    def feature(self, entity: str, how: Aggregation, **words: Any) -> Feature:
        self.made += 1
        words.setdefault("default", -float(self.made))  # each its own, where the definition leaves it free
        return feature(f"{entity}_{how}_{self.made}", entity, how, low=-MUCH, **words)

    def windowed(self, entity: str, how: Aggregation, **words: Any) -> Feature:
        return self.feature(entity, how, window=self.next(how, "window", WINDOWS).name, **words)

    def of_number(self, entity: str, how: Aggregation, **words: Any) -> Feature:
        return self.windowed(entity, how, measure=self.any_of(entity, how, lambda m: m.is_number), **words)

    def of_size(self, entity: str, how: Aggregation, **words: Any) -> Feature:
        measure = self.any_of(entity, how, lambda m: m.is_number and m.field not in _TWO_VALUED)
        return self.feature(entity, how, measure=measure, **words)

    def any_of(self, entity: str, how: Aggregation, accept: Callable[[Measure], bool]) -> str:
        return self.next(how, "measure", [m.name for m in _measures_of(entity) if accept(m)])

    def code(self, entity: str, how: Aggregation) -> str:
        return self.any_of(entity, how, lambda m: not m.is_number)

    def of_pair(self, entity: str, how: Aggregation, **words: Any) -> Feature:
        names = {m.name for m in _measures_of(entity)}
        pairs = [pair for pair in _PAIRS if names.issuperset(pair) and (how not in ("std", "zscore") or pair[0] != "night")]
        measure, per = self.next(how, "pair", pairs)
        return self.windowed(entity, how, measure=measure, per=per, **words)

    def all_of_one(self, entity: str) -> Iterator[Feature]:
        """Each aggregation that any kind of entity can have, once."""
        yield self.of_number(entity, "count")
        yield self.of_number(entity, "sum")
        yield self.of_size(entity, "min", window=self.next("min", "window", WINDOWS).name)
        yield self.of_size(entity, "max", window=self.next("max", "window", WINDOWS).name)
        yield self.of_number(entity, "trend", base=self.next("trend", "base", WINDOWS[1:]).name)
        yield self.of_number(entity, "decayed", half_life_ms=self.next("decayed", "life", (7_000, MINUTE, HOUR, 3 * DAY)))
        yield self.of_pair(entity, "mean")
        yield self.of_pair(entity, "std")
        yield self.of_pair(entity, "zscore")
        yield self.of_pair(entity, "rate", default=0.25, prior=(1.0, 4.0))
        yield self.of_pair(entity, "ratio")
        yield self.windowed(entity, "gap_mean", measure=self.any_of(entity, "gap_mean", lambda m: m.field == "one"))
        window = self.next("distinct", "window", WINDOWS).name
        yield self.feature(entity, "distinct", measure=self.code(entity, "distinct"), window=window, words=_WORDS[window])
        yield self.feature(entity, "recency")
        yield self.feature(entity, "recency", measure=self.code(entity, "recency"))
        yield self.feature(entity, "age")
        yield self.of_size(entity, "last")
        yield self.feature(entity, "changed", measure=self.code(entity, "changed"))
        measure = self.any_of(entity, "share", lambda m: m.name in _CELLS)
        yield self.feature(entity, "share", measure=measure, cells=_CELLS[measure], prior=(1.0, 3.0))
        yield self.feature(entity, "top_share", measure=measure, cells=_CELLS[measure], top=_CELLS[measure] // 2)
        yield self.feature(entity, "rank", measure=measure, cells=_CELLS[measure])

    def of_order(self, kind: EntityKind) -> Iterator[Feature]:
        """What needs to know in which order events came."""
        if kind.session_gap_ms:
            yield self.feature(kind.name, "session_sum", measure="spend")
            yield self.feature(kind.name, "session_sum", measure="events")
            yield self.feature(kind.name, "session_rate", measure="carts", per="clicks", prior=(1.0, 20.0))
            yield self.feature(kind.name, "session_length")
        if kind.sequence:
            yield self.feature(kind.name, "gap_std")
            yield self.feature(kind.name, "gap_min")

    def all(self) -> Iterator[Feature]:
        for kind in KINDS:
            for _ in range(2 if kind.sequence else 1):
                yield from self.all_of_one(kind.name)
            yield from self.of_order(kind)
        for measure in MEASURES:
            if measure.is_number:
                yield self.feature(EVENT, "own", measure=measure.name)


def _clipped(features: list[Feature]) -> Iterator[Feature]:
    """Some of them with narrow bounds, so that clipping shows on both sides."""
    for number, f in enumerate(features):
        yield replace(f, low=min(1.0, f.default), high=max(2.0, f.default)) if number % 11 == 10 else f


EVERYTHING: Final = Catalogue(KINDS, WINDOWS, MEASURES, tuple(_clipped(list(_Rotation().all()))))
assert {f.aggregation for f in EVERYTHING.features} == set(get_args(Aggregation))


def catalogue_of(*features: Feature, kinds: tuple[EntityKind, ...] = KINDS) -> Catalogue:
    """The same kinds, windows and measures with other features."""
    return Catalogue(kinds, WINDOWS, MEASURES, features)
