"""The vocabulary of a catalogue: entity kinds, windows, measures, features.

A catalogue is data, checked once when it is built. This file defines what the data means; nothing here computes.

- A *measure* is an integer of an event: 1 for counts, cents for money, a hash for distinct counts, 0 where it does not apply.
- A *window* of length L at time t covers `floor((t - L) / tile) * tile <= event time < t` ("sawtooth", as in Chronon: the head
  is exact, the tail is rounded down to a tile's edge). The window covers all of [t - L, t), and at most one
  tile more. For an event out of order, the tile of t may also hold events after t; if the event is more than `spare_tiles` tiles
  behind its entity's newest, the window's oldest tiles are gone. Aggregations without a window cover the entity's whole past,
  until its state expires.
- A *feature* is one number, read for one event from the past of one of its entities. An event never sees itself, except that a
  feature may be its own value (`own`) or compare that with the past (`ratio`, `zscore`, `changed`, `share`, `rank`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stream_app.errors import ContractError
from stream_app.events import KINDS

EVENT: Final = "event"  # the entity of features without a past
MAX_SLOTS: Final = 64  # one word of bits marks the tiles that are not empty

Aggregation = Literal[
    "count", "sum", "mean", "min", "max", "std", "zscore", "rate", "ratio", "trend", "decayed", "gap_mean", "distinct",
    "recency", "age", "last", "changed", "share", "top_share", "rank",
    "session_sum", "session_rate", "session_length", "gap_std", "gap_min", "own",
]  # fmt: skip

IdField = Literal["user", "session", "device", "ip", "network", "instrument", "address", "item", "category", "query"]
# Kinds of entities: an identifier, or the user together with one, whose state belongs to the user's group alone.
ENTITIES: Final = (*get_args(IdField), "user_category")

Field = Literal[
    "one", "amount", "price", "dwell", "position", "quantity", "lines", "shown", "query_length", "night", "weekend", "foreign",
    "hour", "weekday", "scene", "platform",
    "user", "session", "device", "ip", "network", "instrument", "address", "item", "category", "query",
]  # fmt: skip

# Fields that can be added up, with the factor from the stored integer (cents, milliseconds) to the unit of the features.
SCALES: Final[dict[str, float]] = {
    "one": 1.0, "amount": 0.01, "price": 0.01, "dwell": 0.001, "position": 1.0, "quantity": 1.0, "lines": 1.0, "shown": 1.0,
    "query_length": 1.0, "night": 1.0, "weekend": 1.0, "foreign": 1.0,
}  # fmt: skip

_WINDOWED: Final = frozenset(
    {"count", "sum", "mean", "min", "max", "std", "zscore", "rate", "ratio", "trend", "decayed", "gap_mean", "distinct"}
)
_PER: Final = frozenset({"mean", "std", "zscore", "rate", "ratio", "session_rate"})
_PRIOR: Final = frozenset({"rate", "share", "session_rate"})
_CELLS: Final = frozenset({"share", "top_share", "rank"})
_SESSION: Final = frozenset({"session_sum", "session_rate", "session_length"})
_SEQUENCE: Final = frozenset({"gap_std", "gap_min"})
_NO_MEASURE: Final = frozenset({"age", "session_length", "gap_std", "gap_min"})
_ANY_MEASURE: Final = frozenset({"distinct", "changed", "recency", "share", "top_share", "rank"})
_MAX_WORDS: Final = 16
_MAX_CELLS: Final = 64


@dataclass(frozen=True, slots=True)
class EntityKind:
    """A kind of entity: users, devices, items.

    `name` is one of ENTITIES. A `shared` kind is written by several partition groups, each into its own replica; a read merges
    them. `sequence` stores the last interactions and queries; only the first kind can, because a sequence is in order of arrival
    and has no merge. `session_gap_ms`: silence in event time after which a new session begins (0: no sessions); only a kind that
    is not shared can have sessions. The state of an entity without events expires after `ttl_ms`, which exceeds the longest
    window of the kind (its length and two tiles) and its session gap.
    """

    name: str
    meaning: str
    shared: bool
    ttl_ms: int
    sequence: bool = False
    session_gap_ms: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A length of event time, divided into tiles.

    The state has `spare_tiles` more tiles than the window, so that an event that many tiles behind its entity's newest still
    reads a whole window and is counted by later events. An event further behind reads a window without its oldest tiles; an event
    `slots` tiles behind is not counted.
    """

    name: str
    length_ms: int
    tile_ms: int
    spare_tiles: int = 1

    @property
    def tiles(self) -> int:
        """Whole tiles in the window; a read also covers the newest, partial one."""
        return self.length_ms // self.tile_ms

    @property
    def slots(self) -> int:
        """Tiles in the state: an event of tile k is in it iff `k > newest_ms // tile_ms - slots`."""
        return self.tiles + 1 + self.spare_tiles


@dataclass(frozen=True, slots=True)
class Measure:
    """An integer of an event: of `field`, for events of `kinds` (empty = all), else 0.

    - Numbers (SCALES): `one` is 1; `amount` (orders) and `price` (clicks; an order's first line) are in cents, rounded half to
      even from the event's float; `dwell` in ms and `position` (clicks); `quantity` and `lines` of an order (the quantities' sum,
      how many lines); `shown` (searches: items shown); `query_length` (searches: characters of the normalised query); `night`
      is 1 from 00:00 to 06:59 UTC, `weekend` on Saturday and Sunday UTC; `foreign` (orders) how many different countries it names
      (billing, shipping, ip; unknown ones apart) less one, at least 0.
    - Codes: `hour` 1..24 and `weekday` 1..7 (from Monday) of the event time in UTC; `scene` and `platform` 1 + their code.
    - Hashes: identifiers are the first 8 bytes of the keyed digest (big-endian, shifted right once); `category` is 1 + crc32 of
      its text. `query` is the normalised query; `ip` the address in its canonical spelling (an IPv4 one written as IPv6 is that
      IPv4 one), `network` its /24 (IPv4) or /48 (IPv6), both 0 for a text that is not an address. An order's `item`, `category`
      and `price` are its first line's.
    """

    name: str
    field: Field
    kinds: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """Factor from the integer to the unit of features (currency, seconds); 1 for codes and hashes."""
        return SCALES.get(self.field, 1.0)

    @property
    def is_number(self) -> bool:
        """Whether values can be added up."""
        return self.field in SCALES


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One number of the feature vector: an aggregation over the past of an entity.

    Below, v is an event's value of `measure`, in the unit of the measure (Measure.scale), and n its value of `per`. Over
    `window`:

    - count, sum: the sum of v. mean: sum of v / sum of n. rate: (sum of v + prior[0]) / (sum of n + prior[1]).
    - min, max: of v over events with v > 0.
    - std: sqrt(sum of v^2 / n - (sum of v / n)^2), n the sum of `per` (a count of the events with v), if that is at least 2. v
      counts as at most 10,000,000 (cents) here, each square is kept in units of 128 rounded down: off by at most 0.12 currency;
      a difference below 0 counts as 0.
      zscore: (the event's own v - mean) / std; `default` without own v, without a std, or with a std of 0.
    - ratio: the event's own v / the mean of the past; `default` if there is no such mean, 0 if the event has no v.
    - trend: (sum of v in `window` / its length) / (sum of v in `base` / its length); `default` if `base` has none.
    - decayed: the sum of v * w, w = round(4096 * 2^(-age / half_life)) / 4096, age = whole tiles between the event's and the
      reading's, in ms.
    - gap_mean: mean seconds between events with v > 0: (last - first) / (how many - 1); `default` below 2 of them.
    - distinct: the number of different v > 0. Exact while each tile (of a shared entity: the own group's, and the others' merged)
      has at most `words` and the window at most 32 of them; above it HyperLogLog with 16 * words - 1 registers of 4 bits:
      relative standard error 1.04 / sqrt(registers); rounded.

    Over the whole past:

    - recency: seconds since the newest event with v > 0 (without `measure`: the newest event); 0 if that is after this event.
      age: seconds since the first event. last: v of the newest event with v > 0 (of several at one time, the largest).
    - changed: 1 if the event's own v > 0 differs from `last`, else 0; `default` without own v or without a last one.
    - share: a histogram of v > 0 in `cells` cells, (v - 1) % cells; (count of the cell of the event's own v + prior[0]) / (all +
      prior[1]); `default` without own v. top_share: share of the `top` fullest cells; `default` for an empty histogram. rank: 1 +
      how many cells are fuller than that of the own v; 0 without own v or when its cell is empty.
    - session_sum: sum of v in the current session (EntityKind.session_gap_ms): sessions end when no event came for longer than
      the gap. session_rate: (v + prior[0]) / (n + prior[1]) in it. session_length: its seconds until this event. All are
      `default` when this event begins a new session. An event from before the current session's reach does not count in it.
    - gap_std, gap_min: population standard deviation and minimum of the seconds between neighbours of the last 32 interactions in
      order of arrival (absolute values); `default` below 3, 2 of them.
    - own: the event's v, whatever the past.

    `default` is the value where the entity has no past or the event has no such entity; exceptions are `own`, and a `ratio`
    without own v, which is 0. Values are clipped to [low, high]. n of `per` is the stored integer, without a unit.

    A search whose normalised query is empty counts as no query. An event with the topic, event id and event time of one of its
    user's last 32 events is a duplicate and changes nothing. An event that is both late and a duplicate is late.
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
    base: str = ""
    prior: tuple[float, float] = (0.0, 0.0)
    words: int = 0
    half_life_ms: int = 0
    cells: int = 0
    top: int = 0

    @property
    def windowed(self) -> bool:
        """Whether the feature reads tiles."""
        return self.aggregation in _WINDOWED


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The definition of the feature vector; the order of `features` is that of the tensor.

    Lateness is decided by the first kind (the user).

    Raises:
        ContractError: the catalogue contradicts itself; the message lists every contradiction.
    """

    kinds: tuple[EntityKind, ...]
    windows: tuple[Window, ...]
    measures: tuple[Measure, ...]
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        problems = [*self._problems_of_parts(), *(p for f in self.features for p in self._problems_of_feature(f))]
        if problems:
            raise ContractError("the feature catalogue contradicts itself; fix it: " + "; ".join(problems))

    def kind(self, name: str) -> EntityKind:
        """The entity kind of that name."""
        return next(k for k in self.kinds if k.name == name)

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
            yield "the first entity kind must exist and not be shared: it decides lateness"
        yield from self._problems_of_shared_state()
        yield from self._problems_of_kinds()
        yield from self._problems_of_windows()
        yield from self._problems_of_measures()
        yield from self._problems_of_expiry()

    def _problems_of_kinds(self) -> Iterator[str]:
        for kind in self.kinds:
            if kind.name not in ENTITIES:
                yield f"entity kind {kind.name!r} is none of {', '.join(ENTITIES)}"
            if kind.sequence and kind is not self.kinds[0]:
                yield f"entity kind {kind.name!r} has a sequence; only the first one can"
            if kind.session_gap_ms and kind.shared:
                yield f"entity kind {kind.name!r} is shared and has sessions; replicas cannot tell where one ends"
            if kind.shared and kind.name in ("session", "user_category"):
                yield f"entity kind {kind.name!r} belongs to one user; it cannot be shared"

    def _problems_of_expiry(self) -> Iterator[str]:
        # State that expires before its longest window has passed would cut that window short.
        reach = {w.name: w.length_ms + 2 * w.tile_ms for w in self.windows}
        for kind in self.kinds:
            read = [name for f in self.features if f.entity == kind.name for name in (f.window, f.base) if name in reach]
            needed = {f"window {name!r} (and two tiles)": reach[name] for name in read}
            if kind.session_gap_ms:
                needed["session gap"] = kind.session_gap_ms
            what = max(needed, key=needed.__getitem__, default="")
            if what and kind.ttl_ms < needed[what]:
                yield (
                    f"entity kind {kind.name!r} expires after {kind.ttl_ms} ms, but its {what} reaches back {needed[what]} ms; "
                    f"raise its ttl_ms to at least {needed[what]}, or use a shorter one"
                )

    def _problems_of_windows(self) -> Iterator[str]:
        spans = [(w.length_ms, w.tile_ms, w.spare_tiles) for w in self.windows]
        yield from (f"windows of {span} are declared twice; use one" for span in {s for s in spans if spans.count(s) > 1})
        for window in self.windows:
            if window.tile_ms <= 0 or window.spare_tiles < 0 or window.length_ms <= 0 or window.length_ms % window.tile_ms:
                yield f"window {window.name!r}: {window.length_ms} ms is no multiple of its tile of {window.tile_ms} ms"
            elif window.slots > MAX_SLOTS:
                yield f"window {window.name!r} needs {window.slots} tiles, at most {MAX_SLOTS} are kept; use longer tiles"

    def _problems_of_measures(self) -> Iterator[str]:
        meanings = [(m.field, frozenset(m.kinds)) for m in self.measures]
        for measure in self.measures:
            if meanings.count((measure.field, frozenset(measure.kinds))) > 1:
                yield f"measure {measure.name!r} means the same as another one; use that"
            if measure.field not in get_args(Field):
                yield f"measure {measure.name!r} has unknown field {measure.field!r}"
            yield from (f"measure {measure.name!r} has unknown event kind {k!r}" for k in measure.kinds if k not in KINDS)

    def _problems_of_shared_state(self) -> Iterator[str]:
        # Features of one entity share sketches and histograms, so they must agree on their sizes.
        sizes: dict[tuple[str, str, str, str], set[int]] = {}
        for f in self.features:
            if f.words:
                sizes.setdefault(("distinct counts", f.entity, f.measure, f.window), set()).add(f.words)
            if f.cells:
                sizes.setdefault(("histograms", f.entity, f.measure, ""), set()).add(f.cells)
        yield from (
            f"two {what} of {measure!r} of the {entity} differ in size: {sorted(declared)}; they share one state"
            for (what, entity, measure, _), declared in sizes.items()
            if len(declared) > 1
        )

    def _problems_of_feature(self, feature: Feature) -> Iterator[str]:
        def known(what: str, name: str, names: list[str], needed: bool | None) -> Iterator[str]:
            if (needed or (needed is None and name)) and name not in names:
                yield f"feature {feature.name!r} names unknown {what} {name!r}"
            if needed is False and name:
                yield f"feature {feature.name!r} ({feature.aggregation}) takes no {what}, but has {name!r}"

        how = feature.aggregation
        entities = [EVENT] if how == "own" else [k.name for k in self.kinds]
        measures, windows = [m.name for m in self.measures], [w.name for w in self.windows]
        yield from known("aggregation", how, list(get_args(Aggregation)), True)
        yield from known("entity", feature.entity, entities, True)
        yield from known("window", feature.window, windows, feature.windowed)
        yield from known("base window", feature.base, windows, how == "trend")
        yield from known("measure", feature.measure, measures, None if how == "recency" else how not in _NO_MEASURE)
        yield from known("denominator", feature.per, measures, how in _PER)
        yield from self._problems_of_numbers(feature)
        kinds = {k.name: k for k in self.kinds}
        kind = kinds.get(feature.entity)
        if how in _SESSION and kind and not kind.session_gap_ms:
            yield f"feature {feature.name!r} is of sessions, but {feature.entity} has no session_gap_ms"
        if how in _SEQUENCE and kind and not kind.sequence:
            yield f"feature {feature.name!r} reads the last interactions, but {feature.entity} keeps none"

    def _problems_of_numbers(self, feature: Feature) -> Iterator[str]:
        how = feature.aggregation
        if not feature.low <= feature.default <= feature.high:
            yield f"feature {feature.name!r}: default {feature.default} is outside [{feature.low}, {feature.high}]"
        up, down = feature.prior
        if how in _PRIOR and down <= 0:
            yield f"feature {feature.name!r}: prior {up} / {down} must have a denominator above 0"
        if how == "rate" and down > 0 and feature.default != up / down:
            yield f"feature {feature.name!r}: prior {up} / {down} must give the default {feature.default}"
        numbers = {m.name: m.is_number for m in self.measures}
        used = [feature.per] if how in _ANY_MEASURE else [feature.measure, feature.per]
        yield from (
            f"feature {feature.name!r} adds up measure {m!r}; only {', '.join(SCALES)} are numbers"
            for m in used
            if m and not numbers.get(m, True)
        )
        counted = {m.name for m in self.measures if m.field == "one"}
        for m in (feature.measure if how == "gap_mean" else "", feature.per if how in ("std", "zscore") else ""):
            if m and m not in counted:
                yield f"feature {feature.name!r} ({how}) needs a count of events where it has {m!r}"
        for what, size, most, needed in (
            ("words", feature.words, _MAX_WORDS, how == "distinct"),
            ("cells", feature.cells, _MAX_CELLS, how in _CELLS),
            ("top", feature.top, max(1, feature.cells), how == "top_share"),
        ):
            if needed != (1 <= size <= most):
                yield f"feature {feature.name!r} ({how}): {what} must be {f'1 to {most}' if needed else 0}, not {size}"
        if (how == "decayed") != (feature.half_life_ms > 0):
            yield f"feature {feature.name!r}: half_life_ms is for decayed sums, and must be above 0 there"
