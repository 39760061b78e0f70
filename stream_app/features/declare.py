"""The words a catalogue is written in: entity kinds, windows, measures, features.

A catalogue is data, checked once when it is built; nothing here computes. What it means is stated once, here:

- A *measure* is an integer that an event has: 1 for counts, cents for money, a hash for what is counted distinctly, 0 for "not
  this event".
- A *window* of length L at time t covers `floor((t - L) / tile) * tile <= event time < t` ("sawtooth", as in Chronon: the head
  is exact, the tail is rounded down to a tile's edge). Nothing of [t - L, t) is missed; at most one tile too much is covered.
  Where an event comes out of order, the tile that holds t may also hold events after t.
- A *feature* is one number read for one event from the past of one of its entities. An event never sees itself, except where
  the feature is the event's own value (`own`) or compares it with the past (`ratio`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stream_app.errors import ContractError
from stream_app.events import KINDS

__all__ = ["EVENT", "Aggregation", "Catalogue", "EntityKind", "Feature", "Field", "IdField", "Measure", "Window"]

EVENT: Final = "event"  # the entity of features that need no past: the event itself

Aggregation = Literal["count", "sum", "mean", "rate", "ratio", "distinct", "recency", "age", "own"]
IdField = Literal["user", "device", "ip", "session", "instrument", "address"]
Field = Literal["one", "amount", "price", "category", "user", "device", "ip", "session", "instrument", "address"]

_MONEY: Final = frozenset({"amount", "price"})
_SUMMABLE: Final = _MONEY | {"one"}
_WINDOWED: Final = frozenset({"count", "sum", "mean", "rate", "ratio", "distinct"})
_PER: Final = frozenset({"mean", "rate", "ratio"})


@dataclass(frozen=True, slots=True)
class EntityKind:
    """What history hangs on.

    `name` says which identifier of the event it is, one of IdField. A `shared` kind is written by several partition groups, each
    into its own replica; they are merged when read. `sequence` keeps the last interactions; only a kind that is not shared can
    have one, because a sequence is in order of arrival and has no merge. The state of an entity without events expires after
    `ttl_ms`.
    """

    name: str
    meaning: str
    shared: bool
    ttl_ms: int
    sequence: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A length of event time, kept in tiles.

    `spare_tiles` are kept beyond it, so that an event that comes as many tiles out of order still reads a whole window.
    """

    name: str
    length_ms: int
    tile_ms: int
    spare_tiles: int = 1

    @property
    def tiles(self) -> int:
        """Whole tiles in the window; a read covers one more, the head's."""
        return self.length_ms // self.tile_ms

    @property
    def slots(self) -> int:
        """Tiles kept: an event of tile k is in the state iff `k > newest_ms // tile_ms - slots`."""
        return self.tiles + 1 + self.spare_tiles


@dataclass(frozen=True, slots=True)
class Measure:
    """An integer of an event: of `field`, for events of `kinds` (empty = all), else 0.

    `amount` and `price` are in cents (rounded half to even from the event's float). Identifier fields are the first 8 bytes of
    the keyed digest (big-endian, shifted right once), `category` is 1 + crc32 of its text: both only to be counted distinctly.
    """

    name: str
    field: Field
    kinds: tuple[str, ...] = ()

    @property
    def is_money(self) -> bool:
        """Whether it is in cents; features of it are shown in units of the currency."""
        return self.field in _MONEY


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of the feature vector.

    What `aggregation` gives over `window` of `entity`'s past, where events have v of `measure` and n of `per`:

    - count, sum: the sum of v. mean: the sum of v / the sum of n. rate: (sum of v + prior[0]) / (sum of n + prior[1]).
    - ratio: the event's own v / the mean of the past; `default` if there is no such mean, 0 if the event has no v.
    - distinct: how many different v, by linear counting over 64 * `words` bits.
    - recency, age: seconds since the entity's newest and first event; 0 if that is after this event. own: the event's v.

    `default` is the value where the entity has no past (or the event has no such entity). Values are clipped to [low, high].
    """

    name: str
    meaning: str
    reason: str
    entity: str
    aggregation: Aggregation
    unit: str
    high: float
    low: float = 0.0
    default: float = 0.0
    measure: str = ""
    per: str = ""
    window: str = ""
    prior: tuple[float, float] = (0.0, 0.0)
    words: int = 0

    @property
    def windowed(self) -> bool:
        """Whether it reads tiles."""
        return self.aggregation in _WINDOWED


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that defines the feature vector: order of `features` is order of the tensor.

    The first kind is the one lateness is judged by (the user).

    Raises:
        ContractError: the catalogue contradicts itself; the message lists every problem.
    """

    kinds: tuple[EntityKind, ...]
    windows: tuple[Window, ...]
    measures: tuple[Measure, ...]
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        problems = [*self._problems_of_parts(), *(p for f in self.features for p in self._problems_of_feature(f))]
        if problems:
            raise ContractError("the feature catalogue contradicts itself; fix it: " + "; ".join(problems))

    def window(self, name: str) -> Window:
        """The window of that name."""
        return next(w for w in self.windows if w.name == name)

    def measure(self, name: str) -> Measure:
        """The measure of that name."""
        return next(m for m in self.measures if m.name == name)

    def _problems_of_parts(self) -> Iterator[str]:
        for what, names in (
            ("entity kind", [k.name for k in self.kinds]),
            ("window", [w.name for w in self.windows]),
            ("measure", [m.name for m in self.measures]),
            ("feature", [f.name for f in self.features]),
        ):
            yield from (
                f"{what} {name!r} is declared {names.count(name)} times" for name in {n for n in names if names.count(n) > 1}
            )
        if not self.kinds or self.kinds[0].shared:
            yield "the first entity kind must exist and not be shared: lateness is judged by it"
        bitmaps = {(f.entity, f.measure, f.window, f.words) for f in self.features if f.aggregation == "distinct"}
        if len(bitmaps) != len({bitmap[:3] for bitmap in bitmaps}):
            yield "two distinct counts of one measure, entity and window differ in words; they share one bitmap"
        for kind in self.kinds:
            if kind.name not in get_args(IdField):
                yield f"entity kind {kind.name!r} is none of {', '.join(get_args(IdField))}"
            if kind.sequence and kind is not self.kinds[0]:
                yield f"entity kind {kind.name!r} has a sequence; only the first one can"
        for window in self.windows:
            if window.tile_ms <= 0 or window.spare_tiles < 0 or window.length_ms <= 0 or window.length_ms % window.tile_ms:
                yield f"window {window.name!r}: {window.length_ms} ms is no multiple of its tile of {window.tile_ms} ms"
        for measure in self.measures:
            if measure.field not in get_args(Field):
                yield f"measure {measure.name!r} has unknown field {measure.field!r}"
            yield from (f"measure {measure.name!r} has unknown event kind {k!r}" for k in measure.kinds if k not in KINDS)

    def _problems_of_feature(self, feature: Feature) -> Iterator[str]:
        def known(what: str, name: str, names: list[str], needed: bool) -> Iterator[str]:
            if needed and name not in names:
                yield f"feature {feature.name!r} names unknown {what} {name!r}"
            if not needed and name:
                yield f"feature {feature.name!r} ({feature.aggregation}) takes no {what}, but has {name!r}"

        entities = [EVENT] if feature.aggregation == "own" else [k.name for k in self.kinds]
        measures = [m.name for m in self.measures]
        yield from known("entity", feature.entity, entities, True)
        yield from known("window", feature.window, [w.name for w in self.windows], feature.windowed)
        yield from known("measure", feature.measure, measures, feature.windowed or feature.aggregation == "own")
        yield from known("denominator", feature.per, measures, feature.aggregation in _PER)
        if not feature.low <= feature.default <= feature.high:
            yield f"feature {feature.name!r}: default {feature.default} is outside [{feature.low}, {feature.high}]"
        up, down = feature.prior
        if feature.aggregation == "rate" and (down <= 0 or feature.default != up / down):
            yield f"feature {feature.name!r}: prior {up} / {down} must have a denominator above 0 and give {feature.default}"
        by_name = {m.name: m.field for m in self.measures}
        summed = [m for m in (feature.measure, feature.per) if m and feature.aggregation != "distinct"]
        yield from (
            f"feature {feature.name!r} adds up the hashes of measure {m!r}; only {', '.join(sorted(_SUMMABLE))} can be"
            for m in summed
            if by_name.get(m, "one") not in _SUMMABLE
        )
        if (feature.aggregation == "distinct") != (1 <= feature.words <= 16):
            yield f"feature {feature.name!r}: distinct needs 1 to 16 words of bitmap, other aggregations 0, not {feature.words}"
