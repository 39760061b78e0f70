"""The value of every aggregation over a list of events, by a scan: the sentences of declarations.py, one function each.

Sums are exact integers and results exact fractions until the last step, so the oracle itself never rounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final

from stream_app.features.declarations import Catalogue, Feature, Window
from verification.oracle.facts import EventFacts, mixed

_MAX_EXACT_UNION: Final = 32  # a window's distinct count is exact up to here
MAX_SQUARED: Final = 10_000_000  # cents: larger values count as this much in squares and in clipped sums

Number = float | Fraction


def events_in_state(events: Sequence[EventFacts], window: Window) -> list[EventFacts]:
    """Return the events whose tile the state still holds."""
    newest = max((e.time_ms for e in events), default=0) // window.tile_ms
    return [e for e in events if e.time_ms // window.tile_ms > newest - window.slots]


def events_by_tile(events: Iterable[EventFacts], window: Window) -> dict[int, list[EventFacts]]:
    """Return the events of each tile, by its start in epoch ms."""
    tiles: dict[int, list[EventFacts]] = defaultdict(list)
    for e in events:
        tiles[e.time_ms // window.tile_ms * window.tile_ms].append(e)
    return tiles


def _in_window(events: Sequence[EventFacts], window: Window, t: int) -> list[EventFacts]:
    """Events in the window as of t: from the tile of t - L on, to the end of t's own tile."""
    first, last = (t - window.length_ms) // window.tile_ms, t // window.tile_ms
    return [e for e in events_in_state(events, window) if first <= e.time_ms // window.tile_ms <= last]


@dataclass
class EntityHistory:
    """The events of one entity that an event can see, in order of arrival.

    `group` is the reader's; None: all replicas merged into one. The own group's events and the other groups' keep tiles apart.
    """

    events: Sequence[EventFacts]
    t: int
    catalogue: Catalogue
    session_gap_ms: int = 0
    group: int | None = None
    _parts: dict[str, list[list[EventFacts]]] = field(default_factory=dict)

    def parts(self, window: str) -> list[list[EventFacts]]:
        """Return the window's events of the own group and of the others."""
        if window not in self._parts:
            own = [e for e in self.events if self.group is None or e.group == self.group]
            foreign = [e for e in self.events if self.group is not None and e.group != self.group]
            self._parts[window] = [_in_window(part, self.catalogue.window(window), self.t) for part in (own, foreign)]
        return self._parts[window]

    def inside(self, window: str) -> list[EventFacts]:
        """Return all events in the window."""
        return [e for part in self.parts(window) for e in part]

    def total(self, measure: str, window: str) -> int:
        """Return the sum of a measure over the window."""
        return sum(e.values[measure] for e in self.inside(window))

    def scale(self, measure: str) -> Fraction:
        """Return the unit of a measure's integers."""
        return Fraction(str(self.catalogue.measure(measure).scale))


def reading(feature: Feature, history: EntityHistory, own: int) -> float:
    """Return the feature's value for an event at `history.t` that has `own` of the measure itself."""
    value = _AGGREGATIONS[feature.aggregation](feature, history, own)
    if not history.events and feature.aggregation not in ("ratio", "own"):
        value = None  # no history: the default, whatever sums of nothing are; a ratio without own v is 0 even then
    return min(max(float(feature.default if value is None else value), feature.low), feature.high)


def tolerance(feature: Feature, history: EntityHistory, value: float, own: int) -> float:
    """Return how far the engine's doubles may be off `value`: 0 but for deviations, where nearly equal squares cancel."""
    how = feature.aggregation
    if how == "gap_std":
        return 2e-7 * abs(value) + 1e-12
    if how not in ("std", "zscore") or history.total(feature.per, feature.window) < 2:
        return 0.0
    values = [e.values[feature.measure] for e in history.inside(feature.window)]
    mean, variance = _moments(values, history.total(feature.per, feature.window))
    error = float(mean * mean) * 2.0**-48
    if float(variance) <= error:  # all equal: exact, unless the squares do not fit a double's 53 bits
        return 0.0 if float(mean) < 2.0**20 else math.inf
    scale = float(history.scale(feature.measure))
    spread = math.sqrt(variance)
    return 2e-7 * abs(value) + (
        scale * error / spread if how == "std" else abs(float(min(own, MAX_SQUARED) - mean)) / spread * error / float(variance)
    )


# --- over a window ------------------------------------------------------------------------------------------------------------


def _sum(f: Feature, history: EntityHistory, _own: int) -> Number:
    return history.total(f.measure, f.window) * history.scale(f.measure)


def _mean(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    many = history.total(f.per, f.window)
    return history.total(f.measure, f.window) * history.scale(f.measure) / many if many else None


def _rate(f: Feature, history: EntityHistory, _own: int) -> Number:
    up, down = map(Fraction, f.prior)
    return (history.total(f.measure, f.window) * history.scale(f.measure) + up) / (history.total(f.per, f.window) + down)


def _ratio(f: Feature, history: EntityHistory, own: int) -> Number | None:
    if not own:
        return 0.0
    mean = _mean(f, history, own)
    return own * history.scale(f.measure) / Fraction(mean) if mean else None


def _trend(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    base = Fraction(history.total(f.measure, f.base), history.catalogue.window(f.base).length_ms)
    return Fraction(history.total(f.measure, f.window), history.catalogue.window(f.window).length_ms) / base if base else None


def _decayed(f: Feature, history: EntityHistory, _own: int) -> Number:
    tile = history.catalogue.window(f.window).tile_ms
    total = 0
    for e in history.inside(f.window):
        age_ms = (history.t // tile - e.time_ms // tile) * tile
        total += e.values[f.measure] * round(4096 * 2.0 ** (-age_ms / f.half_life_ms))
    return Fraction(total, 4096) * history.scale(f.measure)


def _extreme(choose: Callable[[list[int]], int]) -> Callable[[Feature, EntityHistory, int], Number | None]:
    def read(f: Feature, history: EntityHistory, _own: int) -> Number | None:
        values = [e.values[f.measure] for e in history.inside(f.window) if e.values[f.measure] > 0]
        return choose(values) * history.scale(f.measure) if values else None

    return read


def _moments(values: Sequence[int], many: int) -> tuple[Fraction, Fraction]:
    """Mean and variance of values of at most MAX_SQUARED, each square rounded down to a multiple of 128."""
    clipped = [min(v, MAX_SQUARED) for v in values]
    mean = Fraction(sum(clipped), many)
    square = Fraction(sum(v * v // 128 * 128 for v in clipped), many)
    return mean, max(Fraction(0), square - mean * mean)


def _std(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    many = history.total(f.per, f.window)
    if many < 2:
        return None
    return math.sqrt(_moments([e.values[f.measure] for e in history.inside(f.window)], many)[1]) * float(history.scale(f.measure))


def _zscore(f: Feature, history: EntityHistory, own: int) -> Number | None:
    many = history.total(f.per, f.window)
    if not own or many < 2:
        return None
    mean, variance = _moments([e.values[f.measure] for e in history.inside(f.window)], many)
    return float(min(own, MAX_SQUARED) - mean) / math.sqrt(variance) if variance else None


def _gap_mean(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    times = [e.time_ms for e in history.inside(f.window) if e.values[f.measure] > 0]
    return Fraction(max(times) - min(times), 1000 * (len(times) - 1)) if len(times) > 1 else None


# --- distinct -----------------------------------------------------------------------------------------------------------------


def registers(values: set[int], words: int) -> list[int]:
    """Return the HyperLogLog registers of a set."""
    ranks = [0] * (16 * words - 1)
    for value in values:
        z = mixed((value + 0x9E3779B97F4A7C15) % 2**64)
        low = z % 2**32
        zeros = len(f"{low:b}") - len(f"{low:b}".rstrip("0")) if low else 32
        register = (z >> 32) % len(ranks)
        ranks[register] = max(ranks[register], min(15, 1 + zeros))
    return ranks


def _estimate(of: Sequence[int]) -> int:
    """Flajolet, Fusy, Gandouet, Meunier (2007), with linear counting where registers are empty and the estimate is small."""
    m, empty = len(of), list(of).count(0)
    raw = 0.7213 / (1 + 1.079 / m) * m * m / sum(2.0**-r for r in of)
    return round(m * math.log(m / empty)) if raw <= 2.5 * m and empty else round(raw)


def tile_sets(tiles: Mapping[int, Sequence[EventFacts]], measure: str) -> dict[int, set[int]]:
    """Return the set of values > 0 of each tile that has one."""
    sets = {start: {e.values[measure] for e in events} - {0} for start, events in tiles.items()}
    return {start: values for start, values in sets.items() if values}


def _distinct(f: Feature, history: EntityHistory, _own: int) -> Number:
    window = history.catalogue.window(f.window)
    parts = [tile_sets(events_by_tile(part, window), f.measure) for part in history.parts(f.window)]
    sets = [values for part in parts for values in part.values()]
    union = set().union(*sets)
    exact = len(union) <= _MAX_EXACT_UNION and all(len(values) <= f.words for values in sets)
    return len(union) if exact else _estimate(registers(union, f.words))


# --- over the whole history --------------------------------------------------------------------------------------------------


def last_value(measure: str, events: Sequence[EventFacts]) -> tuple[int, int] | None:
    """Return time and v of the newest event with v > 0; of several at one time the largest v."""
    return max(((e.time_ms, e.values[measure]) for e in events if e.values[measure] > 0), default=None)


def _recency(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    times = [e.time_ms for e in history.events if not f.measure or e.values[f.measure] > 0]
    return Fraction(max(0, history.t - max(times)), 1000) if times else None


def _age(_f: Feature, history: EntityHistory, _own: int) -> Number | None:
    return Fraction(max(0, history.t - min(e.time_ms for e in history.events)), 1000) if history.events else None


def _last(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    newest = last_value(f.measure, history.events)
    return newest[1] * history.scale(f.measure) if newest else None


def _changed(f: Feature, history: EntityHistory, own: int) -> Number | None:
    newest = last_value(f.measure, history.events)
    return float(newest[1] != own) if newest and own else None


def histogram(events: Sequence[EventFacts], measure: str, cells: int) -> list[int]:
    """Return how many events fall into each cell."""
    counts = [0] * cells
    for e in events:
        if e.values[measure] > 0:
            counts[(e.values[measure] - 1) % cells] += 1
    return counts


def _share(f: Feature, history: EntityHistory, own: int) -> Number | None:
    counts, (up, down) = histogram(history.events, f.measure, f.cells), map(Fraction, f.prior)
    return (counts[(own - 1) % f.cells] + up) / (sum(counts) + down) if own else None


def _top_share(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    counts = histogram(history.events, f.measure, f.cells)
    return Fraction(sum(sorted(counts)[-f.top :]), sum(counts)) if sum(counts) else None


def _rank(f: Feature, history: EntityHistory, own: int) -> Number:
    counts = histogram(history.events, f.measure, f.cells)
    own_count = counts[(own - 1) % f.cells] if own else 0
    return 1 + sum(count > own_count for count in counts) if own_count else 0


# --- sessions and sequences ---------------------------------------------------------------------------------------------------


@dataclass
class OracleSession:
    """The current session: from when to when, and the events that count in it."""

    start_ms: int
    last_ms: int
    events: list[EventFacts]


def session_of(events: Iterable[EventFacts], gap_ms: int) -> OracleSession | None:
    """Return the current session after `events` in order of arrival."""
    now: OracleSession | None = None
    for e in events:
        if now is None or e.time_ms > now.last_ms + gap_ms:
            now = OracleSession(e.time_ms, e.time_ms, [e])
        elif e.time_ms >= now.start_ms - gap_ms:
            now = OracleSession(min(now.start_ms, e.time_ms), max(now.last_ms, e.time_ms), [*now.events, e])
    return now


def _session(history: EntityHistory) -> OracleSession | None:
    """The session that an event at `history.t` is in, if it does not begin a new one and is not from before its reach."""
    now = session_of(history.events, history.session_gap_ms)
    within = now and now.start_ms - history.session_gap_ms <= history.t <= now.last_ms + history.session_gap_ms
    return now if within else None


def _session_sum(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    now = _session(history)
    return sum(e.values[f.measure] for e in now.events) * history.scale(f.measure) if now else None


def _session_rate(f: Feature, history: EntityHistory, _own: int) -> Number | None:
    now = _session(history)
    if now is None:
        return None
    up, down = map(Fraction, f.prior)
    total = sum(e.values[f.measure] for e in now.events) * history.scale(f.measure)
    return (total + up) / (sum(e.values[f.per] for e in now.events) + down)


def _session_length(_f: Feature, history: EntityHistory, _own: int) -> Number | None:
    now = _session(history)
    return Fraction(max(0, history.t - now.start_ms), 1000) if now else None


def _gaps_ms(history: EntityHistory) -> list[int]:
    times = [e.time_ms for e in history.events[-32:]]
    return [abs(b - a) for a, b in pairwise(times)]


def _gap_std(_f: Feature, history: EntityHistory, _own: int) -> Number | None:
    gaps = _gaps_ms(history)
    if len(gaps) < 2:
        return None
    mean = Fraction(sum(gaps), len(gaps))
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / 1000


def _gap_min(_f: Feature, history: EntityHistory, _own: int) -> Number | None:
    return Fraction(min(gaps), 1000) if (gaps := _gaps_ms(history)) else None


def _own(f: Feature, history: EntityHistory, own: int) -> Number:
    return own * history.scale(f.measure)


_AGGREGATIONS: Final[dict[str, Callable[[Feature, EntityHistory, int], Number | None]]] = {
    "count": _sum, "sum": _sum, "mean": _mean, "min": _extreme(min), "max": _extreme(max), "std": _std, "zscore": _zscore,
    "rate": _rate, "ratio": _ratio, "trend": _trend, "decayed": _decayed, "gap_mean": _gap_mean, "distinct": _distinct,
    "recency": _recency, "age": _age, "last": _last, "changed": _changed,
    "share": _share, "top_share": _top_share, "rank": _rank,
    "session_sum": _session_sum, "session_rate": _session_rate, "session_length": _session_length,
    "gap_std": _gap_std, "gap_min": _gap_min, "own": _own,
}  # fmt: skip
