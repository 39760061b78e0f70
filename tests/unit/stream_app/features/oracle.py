"""The definition of the features, straight from its sentences: raw events are kept and scanned again for every read.

Shares no code with the engine; it reads the same declared catalogue (declare.py says what the words mean), and nothing else of
the package. Slow on purpose. What an event has stands in oracle_facts.py, what an aggregation gives in oracle_readings.py; here
is which events an event sees, and what the state must then be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from stream_app.events import Event
from stream_app.features.declarations import EVENT, Catalogue, EntityKind, Feature
from tests.unit.stream_app.features.oracle_facts import NONE, Fact, fact_of, key_of
from tests.unit.stream_app.features.oracle_readings import (
    MOST,
    Past,
    by_tile,
    histogram,
    kept,
    newest_with,
    reading,
    registers,
    session_of,
    slack,
)

Codes = tuple[int, int, int, int]
SEQUENCE, QUERIES = 32, 4


@dataclass
class Expected:
    """What the engine must say of one event."""

    context: Codes
    item: tuple[int, int]
    query: Codes
    late_by_ms: int = 0
    duplicate_of: int = -1
    features: list[float] = field(default_factory=list)
    slacks: dict[int, float] = field(default_factory=dict)  # by feature: how far the engine may be off (oracle_readings.slack)
    sequence: list[tuple[Codes, float]] = field(default_factory=list)  # right-aligned, 32 of them
    queries: list[tuple[Codes, float]] = field(default_factory=list)  # right-aligned, 4 of them


class Oracle:
    """Applies events one after the other; `next_batch` makes other groups' events visible and steps each group's commit."""

    def __init__(self, catalogue: Catalogue, allowed_lateness_ms: int, key: bytes) -> None:
        self.catalogue, self.allowed, self.key = catalogue, allowed_lateness_ms, key
        self.past: dict[tuple[str, str], list[Fact]] = defaultdict(list)  # by kind and name
        self.keys: dict[tuple[str, str], bytes] = {}
        self.batch = 0

    def next_batch(self) -> None:
        self.batch += 1

    def apply(self, event: Event, group: int, commit: int = 0) -> Expected:
        fact = replace(fact_of(event, self.catalogue, self.key), group=group, batch=self.batch, commit=commit)
        expected = Expected(fact.context, fact.codes[:2], fact.query)
        first = self.catalogue.kinds[0]
        mine = self.visible(first, fact)
        newest = max((e.time_ms for e in mine), default=fact.time_ms)
        if fact.time_ms < newest - self.allowed:
            expected.late_by_ms = newest - fact.time_ms
            return expected
        again = [e for e in mine[-SEQUENCE:] if (e.topic, e.event_id, e.time_ms) == (fact.topic, fact.event_id, fact.time_ms)]
        expected.features, expected.slacks = self.features(fact)
        if first.sequence:
            expected.sequence = _padded(mine, fact.time_ms, SEQUENCE, lambda e: e.codes)
            expected.queries = _padded([e for e in mine if e.query != NONE], fact.time_ms, QUERIES, lambda e: e.query)
        if again and first.sequence:
            expected.duplicate_of = again[0].commit
            return expected
        self.add(event, fact)
        return expected

    def add(self, event: Event, fact: Fact) -> None:
        for kind in self.catalogue.kinds:
            name = fact.names[kind.name]
            if name:
                self.past[kind.name, name].append(fact)
                self.keys[kind.name, name] = key_of(event, kind.name, self.key)

    def visible(self, kind: EntityKind, to: Fact) -> list[Fact]:
        """What an event sees: its own group's events before it, and other groups' of earlier batches if the kind is shared."""
        seen = self.past.get((kind.name, to.names[kind.name]), [])
        return [e for e in seen if e.group == to.group or (kind.shared and e.batch < to.batch)]

    def features(self, fact: Fact) -> tuple[list[float], dict[int, float]]:
        pasts = {EVENT: Past([], fact.time_ms, self.catalogue)}
        for kind in self.catalogue.kinds:
            pasts[kind.name] = Past(self.visible(kind, fact), fact.time_ms, self.catalogue, kind.session_gap_ms, fact.group)
        owns = [fact.values[f.measure] if f.measure else 0 for f in self.catalogue.features]
        asked = list(zip(self.catalogue.features, owns, strict=True))
        values = [reading(f, pasts[f.entity], own) for f, own in asked]
        slacks = [slack(f, pasts[f.entity], value, own) for (f, own), value in zip(asked, values, strict=True)]
        return values, {column: by for column, by in enumerate(slacks) if by}

    def read(self, kind: EntityKind, name: str, at_ms: int, group: int | None = None) -> tuple[list[float], dict[int, float]]:
        """An entity's features at a time, for an event without values of its own; and by how much they may be off."""
        past = Past(self.events_of(kind.name, name, group), at_ms, self.catalogue, kind.session_gap_ms)
        features = [f for f in self.catalogue.features if f.entity == kind.name]
        values = [reading(f, past, 0) for f in features]
        return values, {n: slack(f, past, value, 0) for n, (f, value) in enumerate(zip(features, values, strict=True))}

    def events_of(self, kind: str, name: str, group: int | None) -> list[Fact]:
        return [e for e in self.past.get((kind, name), []) if group is None or e.group == group]

    def state(self, kind: EntityKind, name: str, group: int | None = None) -> dict[str, object]:
        """What the entity's state must be: of one group's replica, or of all of them merged (None)."""
        events = self.events_of(kind.name, name, group)
        features = [f for f in self.catalogue.features if f.entity == kind.name]
        times = [e.time_ms for e in events]
        found: dict[str, object] = {
            "newest_ms": max(times, default=None),
            "first_ms": min(times, default=None),
            "tiles": {f"{op} {m}/{w}": self._ring(events, op, m, w) for f in features for op, m, w in rings(f)},
            "distinct": {f"{f.measure}/{f.window}": self._sets(events, f) for f in features if f.aggregation == "distinct"},
        }
        if lasts := _lasts(features):
            found["last"] = {m: {"time_ms": at[0], "value": at[1]} for m in lasts if (at := newest_with(m, events))}
        if histograms := {f.measure: histogram(events, f.measure, f.cells) for f in features if f.cells}:
            found["histograms"] = histograms
        if kind.session_gap_ms:
            found["session"] = _session(events, features, kind.session_gap_ms)
        if kind.sequence:
            found["sequence"] = [_interaction(e) for e in events[-SEQUENCE:]]
            queries = [e for e in events if e.query != NONE][-QUERIES:]  # a search without words is none
            found["queries"] = [{"time_ms": e.time_ms, "codes": list(e.query)} for e in queries]
        return found

    def _ring(self, events: Sequence[Fact], op: str, measure: str, window_name: str) -> dict[int, int]:
        window = self.catalogue.window(window_name)
        tiles: dict[int, list[Fact]] = defaultdict(list)
        for e in kept(events, window):
            tiles[e.time_ms // window.tile_ms * window.tile_ms].append(e)
        cells = {start: _cell(op, [(e.time_ms, e.values[measure]) for e in inside]) for start, inside in tiles.items()}
        return {start: value for start, value in cells.items() if value is not None}

    def _sets(self, events: Sequence[Fact], f: Feature) -> dict[int, dict[str, list[int]]]:
        window = self.catalogue.window(f.window)
        sets = by_tile(kept(events, window), f.measure, window)
        return {
            start: {"values": sorted(values)} if len(values) <= f.words else {"registers": registers(values, f.words)}
            for start, values in sets.items()
        }


def _padded(events: Sequence[Fact], t: int, length: int, codes: Callable[[Fact], Codes]) -> list[tuple[Codes, float]]:
    shown = [(codes(e), max(0, t - e.time_ms) / 1000) for e in events[-length:]]
    return [*[(NONE, 0.0)] * (length - len(shown)), *shown]


def rings(f: Feature) -> Iterator[tuple[str, str, str]]:
    """What a feature keeps of each tile: operation, measure, window."""
    how = f.aggregation
    if how in ("count", "sum", "decayed", "mean", "rate", "ratio", "trend", "gap_mean"):
        yield "sum", f.measure, f.window
    if how in ("mean", "rate", "ratio", "std", "zscore"):
        yield "sum", f.per, f.window
    if how in ("std", "zscore"):
        yield "clipped", f.measure, f.window
        yield "square", f.measure, f.window
    if how == "trend":
        yield "sum", f.measure, f.base
    if how in ("min", "max"):
        yield how, f.measure, f.window
    if how == "gap_mean":
        yield "first", f.measure, f.window
        yield "latest", f.measure, f.window


def _cell(op: str, events: list[tuple[int, int]]) -> int | None:
    """One cell of a tile that holds events of (time, v); None where nothing is kept."""
    if op == "sum":
        return sum(v for _, v in events) or None
    if op == "clipped":
        return sum(min(v, MOST) for _, v in events) or None
    if op == "square":
        return sum(min(v, MOST) ** 2 // 128 for _, v in events) or None
    positive = [(time_ms, v) for time_ms, v in events if v > 0]
    if not positive:
        return None
    return {
        "min": min(v for _, v in positive),
        "max": max(v for _, v in positive),
        "first": min(time_ms for time_ms, _ in positive),
        "latest": max(time_ms for time_ms, _ in positive),
    }[op]


def _lasts(features: Sequence[Feature]) -> set[str]:
    return {f.measure for f in features if f.aggregation in ("last", "changed", "recency") and f.measure}


def _session(events: Sequence[Fact], features: Sequence[Feature], gap_ms: int) -> dict[str, object] | None:
    now = session_of(events, gap_ms)
    if now is None:
        return None
    measures = {m for f in features if f.aggregation in ("session_sum", "session_rate") for m in (f.measure, f.per) if m}
    sums = {m: sum(e.values[m] for e in now.events) for m in measures}
    return {"start_ms": now.start_ms, "last_ms": now.last_ms, "sums": sums}


def _interaction(e: Fact) -> dict[str, object]:
    item, category, _, price = e.codes
    shown = {"time_ms": e.time_ms, "item": item, "category": category, "kind": e.kind, "price": price, "commit": e.commit}
    return {**shown, "event": (e.topic, e.event_id)}  # the tests put the engine's hash of the pair in its place
