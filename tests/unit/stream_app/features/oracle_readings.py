"""What every aggregation gives of a list of events, by scanning it: declare.py's sentences, one function each.

Sums are exact integers and results exact fractions until the last step, so that it is never the oracle that is off.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

from stream_app.features.declarations import Catalogue, Feature, Window
from tests.unit.stream_app.features.oracle_facts import Fact

UNION: Final = 32  # a window's distinct count is exact up to here
MOST: Final = 10_000_000  # v in deviations

Number = float | Fraction


def kept(events: Sequence[Fact], window: Window) -> list[Fact]:
    """Events whose tile the state still holds."""
    newest = max((e.time_ms for e in events), default=0) // window.tile_ms
    return [e for e in events if e.time_ms // window.tile_ms > newest - window.slots]


def inside(events: Sequence[Fact], window: Window, t: int) -> list[Fact]:
    """Events in the window as of t: from the tile of t - L on, to the end of t's own tile."""
    first, last = (t - window.length_ms) // window.tile_ms, t // window.tile_ms
    return [e for e in kept(events, window) if first <= e.time_ms // window.tile_ms <= last]


@dataclass
class Past:
    """What one event may know of one of its entities: its events in order of arrival.

    `group` is the reader's; None: all replicas merged into one. Each part, the own group's and the others', keeps its own tiles.
    """

    events: Sequence[Fact]
    t: int
    catalogue: Catalogue
    session_gap_ms: int = 0
    group: int | None = None
    _parts: dict[str, list[list[Fact]]] = field(default_factory=dict)

    def parts(self, window: str) -> list[list[Fact]]:
        if window not in self._parts:
            mine = [e for e in self.events if self.group is None or e.group == self.group]
            others = [e for e in self.events if self.group is not None and e.group != self.group]
            self._parts[window] = [inside(part, self.catalogue.window(window), self.t) for part in (mine, others)]
        return self._parts[window]

    def inside(self, window: str) -> list[Fact]:
        return [e for part in self.parts(window) for e in part]

    def total(self, measure: str, window: str) -> int:
        return sum(e.values[measure] for e in self.inside(window))

    def scale(self, measure: str) -> Fraction:
        return Fraction(str(self.catalogue.measure(measure).scale))


def reading(feature: Feature, past: Past, own: int) -> float:
    """The feature's value for an event at `past.t` that has `own` of the measure itself."""
    found = _AGGREGATIONS[feature.aggregation](feature, past, own)
    if not past.events and feature.aggregation not in ("ratio", "own"):
        found = None  # no past: the default, whatever sums of nothing are; a ratio without own v is 0 even then
    return min(max(float(feature.default if found is None else found), feature.low), feature.high)


def slack(feature: Feature, past: Past, value: float, own: int) -> float:
    """How far the engine's double arithmetic may be off `value`: 0 but for deviations, where nearly equal squares cancel."""
    how = feature.aggregation
    if how == "gap_std":
        return 2e-7 * abs(value) + 1e-12
    if how not in ("std", "zscore") or past.total(feature.per, feature.window) < 2:
        return 0.0
    values = [e.values[feature.measure] for e in past.inside(feature.window)]
    mean, variance = moments(values, past.total(feature.per, feature.window))
    error = float(mean * mean) * 2.0**-48
    if float(variance) <= error:  # all equal: exact, unless the squares do not fit a double's 53 bits
        return 0.0 if float(mean) < 2.0**20 else math.inf
    scale = float(past.scale(feature.measure))
    spread = math.sqrt(variance)
    return 2e-7 * abs(value) + (
        scale * error / spread if how == "std" else abs(float(min(own, MOST) - mean)) / spread * error / float(variance)
    )


# --- over a window ------------------------------------------------------------------------------------------------------------


def _sum(f: Feature, past: Past, _own: int) -> Number:
    return past.total(f.measure, f.window) * past.scale(f.measure)


def _mean(f: Feature, past: Past, _own: int) -> Number | None:
    many = past.total(f.per, f.window)
    return past.total(f.measure, f.window) * past.scale(f.measure) / many if many else None


def _rate(f: Feature, past: Past, _own: int) -> Number:
    up, down = map(Fraction, f.prior)
    return (past.total(f.measure, f.window) * past.scale(f.measure) + up) / (past.total(f.per, f.window) + down)


def _ratio(f: Feature, past: Past, own: int) -> Number | None:
    if not own:
        return 0.0
    mean = _mean(f, past, own)
    return own * past.scale(f.measure) / Fraction(mean) if mean else None


def _trend(f: Feature, past: Past, _own: int) -> Number | None:
    base = Fraction(past.total(f.measure, f.base), past.catalogue.window(f.base).length_ms)
    return Fraction(past.total(f.measure, f.window), past.catalogue.window(f.window).length_ms) / base if base else None


def _decayed(f: Feature, past: Past, _own: int) -> Number:
    tile = past.catalogue.window(f.window).tile_ms
    total = 0
    for e in past.inside(f.window):
        age_ms = (past.t // tile - e.time_ms // tile) * tile
        total += e.values[f.measure] * round(4096 * 2.0 ** (-age_ms / f.half_life_ms))
    return Fraction(total, 4096) * past.scale(f.measure)


def _extreme(choose: Callable[[list[int]], int]) -> Callable[[Feature, Past, int], Number | None]:
    def read(f: Feature, past: Past, _own: int) -> Number | None:
        values = [e.values[f.measure] for e in past.inside(f.window) if e.values[f.measure] > 0]
        return choose(values) * past.scale(f.measure) if values else None

    return read


def moments(values: Sequence[int], many: int) -> tuple[Fraction, Fraction]:
    """Mean and variance of values of at most MOST, each square rounded down to a multiple of 128."""
    clipped = [min(v, MOST) for v in values]
    mean = Fraction(sum(clipped), many)
    square = Fraction(sum(v * v // 128 * 128 for v in clipped), many)
    return mean, max(Fraction(0), square - mean * mean)


def _std(f: Feature, past: Past, _own: int) -> Number | None:
    many = past.total(f.per, f.window)
    if many < 2:
        return None
    return math.sqrt(moments([e.values[f.measure] for e in past.inside(f.window)], many)[1]) * float(past.scale(f.measure))


def _zscore(f: Feature, past: Past, own: int) -> Number | None:
    many = past.total(f.per, f.window)
    if not own or many < 2:
        return None
    mean, variance = moments([e.values[f.measure] for e in past.inside(f.window)], many)
    return float(min(own, MOST) - mean) / math.sqrt(variance) if variance else None


def _gap_mean(f: Feature, past: Past, _own: int) -> Number | None:
    times = [e.time_ms for e in past.inside(f.window) if e.values[f.measure] > 0]
    return Fraction(max(times) - min(times), 1000 * (len(times) - 1)) if len(times) > 1 else None


# --- distinct -----------------------------------------------------------------------------------------------------------------


def mixed(value: int) -> int:
    """splitmix64's finaliser (Steele, Lea, Flood, 2014)."""
    z = (value + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def registers(values: set[int], words: int) -> list[int]:
    """The HyperLogLog registers of a set."""
    found = [0] * (16 * words - 1)
    for value in values:
        z = mixed(value)
        low = z % 2**32
        zeros = len(f"{low:b}") - len(f"{low:b}".rstrip("0")) if low else 32
        place = (z >> 32) % len(found)
        found[place] = max(found[place], min(15, 1 + zeros))
    return found


def estimate(of: Sequence[int]) -> int:
    """Flajolet, Fusy, Gandouet, Meunier (2007), with linear counting where registers are empty and the estimate is small."""
    m, empty = len(of), list(of).count(0)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / sum(2.0**-r for r in of)
    return round(m * math.log(m / empty)) if raw <= 2.5 * m and empty else round(raw)


def by_tile(events: Sequence[Fact], measure: str, window: Window) -> dict[int, set[int]]:
    """The set of values > 0 of each tile, by its start in ms."""
    found: dict[int, set[int]] = defaultdict(set)
    for e in events:
        if e.values[measure]:
            found[e.time_ms // window.tile_ms * window.tile_ms].add(e.values[measure])
    return dict(found)


def _distinct(f: Feature, past: Past, _own: int) -> Number:
    window = past.catalogue.window(f.window)
    tiles = [values for part in past.parts(f.window) for values in by_tile(part, f.measure, window).values()]
    union = set().union(*tiles)
    exact = len(union) <= UNION and all(len(values) <= f.words for values in tiles)
    return len(union) if exact else estimate(registers(union, f.words))


# --- over the whole past ------------------------------------------------------------------------------------------------------


def newest_with(measure: str, events: Sequence[Fact]) -> tuple[int, int] | None:
    """Time and v of the newest event with v > 0; of several at one time the largest v."""
    return max(((e.time_ms, e.values[measure]) for e in events if e.values[measure] > 0), default=None)


def _recency(f: Feature, past: Past, _own: int) -> Number | None:
    times = [e.time_ms for e in past.events if not f.measure or e.values[f.measure] > 0]
    return Fraction(max(0, past.t - max(times)), 1000) if times else None


def _age(_f: Feature, past: Past, _own: int) -> Number | None:
    return Fraction(max(0, past.t - min(e.time_ms for e in past.events)), 1000) if past.events else None


def _last(f: Feature, past: Past, _own: int) -> Number | None:
    newest = newest_with(f.measure, past.events)
    return newest[1] * past.scale(f.measure) if newest else None


def _changed(f: Feature, past: Past, own: int) -> Number | None:
    newest = newest_with(f.measure, past.events)
    return float(newest[1] != own) if newest and own else None


def histogram(events: Sequence[Fact], measure: str, cells: int) -> list[int]:
    """How many events fall into each cell."""
    found = [0] * cells
    for e in events:
        if e.values[measure] > 0:
            found[(e.values[measure] - 1) % cells] += 1
    return found


def _share(f: Feature, past: Past, own: int) -> Number | None:
    counts, (up, down) = histogram(past.events, f.measure, f.cells), map(Fraction, f.prior)
    return (counts[(own - 1) % f.cells] + up) / (sum(counts) + down) if own else None


def _top_share(f: Feature, past: Past, _own: int) -> Number | None:
    counts = histogram(past.events, f.measure, f.cells)
    return Fraction(sum(sorted(counts)[-f.top :]), sum(counts)) if sum(counts) else None


def _rank(f: Feature, past: Past, own: int) -> Number:
    counts = histogram(past.events, f.measure, f.cells)
    mine = counts[(own - 1) % f.cells] if own else 0
    return 1 + sum(count > mine for count in counts) if mine else 0


# --- sessions and sequences ---------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """The current session: from when to when, and the events that count in it."""

    start_ms: int
    last_ms: int
    events: list[Fact]


def session_of(events: Sequence[Fact], gap_ms: int) -> Session | None:
    """The current session after `events` in order of arrival."""
    now: Session | None = None
    for e in events:
        if now is None or e.time_ms > now.last_ms + gap_ms:
            now = Session(e.time_ms, e.time_ms, [e])
        elif e.time_ms >= now.start_ms - gap_ms:
            now = Session(min(now.start_ms, e.time_ms), max(now.last_ms, e.time_ms), [*now.events, e])
    return now


def _session(past: Past) -> Session | None:
    """The session that an event at `past.t` is in, if it does not begin a new one and is not from before its reach."""
    now = session_of(past.events, past.session_gap_ms)
    within = now and now.start_ms - past.session_gap_ms <= past.t <= now.last_ms + past.session_gap_ms
    return now if within else None


def _session_sum(f: Feature, past: Past, _own: int) -> Number | None:
    now = _session(past)
    return sum(e.values[f.measure] for e in now.events) * past.scale(f.measure) if now else None


def _session_rate(f: Feature, past: Past, _own: int) -> Number | None:
    now = _session(past)
    if now is None:
        return None
    up, down = map(Fraction, f.prior)
    total = sum(e.values[f.measure] for e in now.events) * past.scale(f.measure)
    return (total + up) / (sum(e.values[f.per] for e in now.events) + down)


def _session_length(_f: Feature, past: Past, _own: int) -> Number | None:
    now = _session(past)
    return Fraction(max(0, past.t - now.start_ms), 1000) if now else None


def _gaps_ms(past: Past) -> list[int]:
    times = [e.time_ms for e in past.events[-32:]]
    return [abs(b - a) for a, b in pairwise(times)]


def _gap_std(_f: Feature, past: Past, _own: int) -> Number | None:
    gaps = _gaps_ms(past)
    if len(gaps) < 2:
        return None
    mean = Fraction(sum(gaps), len(gaps))
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / 1000


def _gap_min(_f: Feature, past: Past, _own: int) -> Number | None:
    return Fraction(min(gaps), 1000) if (gaps := _gaps_ms(past)) else None


def _own(f: Feature, past: Past, own: int) -> Number:
    return own * past.scale(f.measure)


_AGGREGATIONS: Final[dict[str, Callable[[Feature, Past, int], Number | None]]] = {
    "count": _sum, "sum": _sum, "mean": _mean, "min": _extreme(min), "max": _extreme(max), "std": _std, "zscore": _zscore,
    "rate": _rate, "ratio": _ratio, "trend": _trend, "decayed": _decayed, "gap_mean": _gap_mean, "distinct": _distinct,
    "recency": _recency, "age": _age, "last": _last, "changed": _changed,
    "share": _share, "top_share": _top_share, "rank": _rank,
    "session_sum": _session_sum, "session_rate": _session_rate, "session_length": _session_length,
    "gap_std": _gap_std, "gap_min": _gap_min, "own": _own,
}  # fmt: skip
