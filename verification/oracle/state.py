"""The state that events make, in the form of `FeatureEngine.describe`: by a scan of all of them.

For each window and each cell that a feature needs: its value over the events of each tile ([k * tile, (k + 1) * tile) in epoch
ms), for the tiles that are kept: those with k > floor(newest / tile) - slots. Last values and histograms cover the whole past.
Sessions, sequences and queries are those of the order in which the events are given; all else is the same in every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from stream_app.features.declarations import Catalogue, EntityKind, Feature
from verification.oracle.facts import NO_CODES, EventFacts
from verification.oracle.readings import (
    MAX_SQUARED,
    events_by_tile,
    events_in_state,
    histogram,
    last_value,
    registers,
    session_of,
    tile_sets,
)

__all__ = ["QUERIES", "SEQUENCE", "KindState", "interaction", "rings_of"]

SEQUENCE, QUERIES = 32, 4  # how many of an entity's last interactions and queries are kept


def rings_of(feature: Feature) -> Iterator[tuple[str, str, str]]:
    """Yield what a feature keeps of each tile: operation, measure, window."""
    how = feature.aggregation
    if how in ("count", "sum", "decayed", "mean", "rate", "ratio", "trend", "gap_mean"):
        yield "sum", feature.measure, feature.window
    if how in ("mean", "rate", "ratio", "std", "zscore"):
        yield "sum", feature.per, feature.window
    if how in ("std", "zscore"):
        yield "clipped", feature.measure, feature.window
        yield "square", feature.measure, feature.window
    if how == "trend":
        yield "sum", feature.measure, feature.base
    if how in ("min", "max"):
        yield how, feature.measure, feature.window
    if how == "gap_mean":
        yield "first", feature.measure, feature.window
        yield "latest", feature.measure, feature.window


def interaction(event: EventFacts) -> dict[str, object]:
    """Return an event's entry in a sequence, without the number of its commit."""
    item, category, _, price = event.codes
    described = {"time_ms": event.time_ms, "item": item, "category": category, "kind": event.kind, "price": price}
    return {**described, "event": event.event_hash}


class KindState:
    """What a catalogue keeps of one kind of entity."""

    def __init__(self, catalogue: Catalogue, kind: EntityKind) -> None:
        features = [feature for feature in catalogue.features if feature.entity == kind.name]
        self.kind = kind
        self._windows = {window.name: window for window in catalogue.windows}
        self._rings = dict.fromkeys(ring for feature in features for ring in rings_of(feature))
        self._sets = {(f.measure, f.window): f.words for f in features if f.aggregation == "distinct"}
        self._lasts = {f.measure for f in features if f.aggregation in ("last", "changed", "recency") and f.measure}
        self._histograms = {f.measure: f.cells for f in features if f.cells}
        sessions = [f for f in features if f.aggregation in ("session_sum", "session_rate")]
        self._session = {measure for f in sessions for measure in (f.measure, f.per) if measure}

    def describe(self, events: Sequence[EventFacts]) -> dict[str, Any]:
        """Return the state of an entity with these events, in their order of arrival."""
        times = [event.time_ms for event in events]
        tiles = {name: events_by_tile(events_in_state(events, window), window) for name, window in self._windows.items()}
        described: dict[str, Any] = {
            "newest_ms": max(times, default=None),
            "first_ms": min(times, default=None),
            "tiles": {f"{op} {m}/{w}": _ring(tiles[w], op, m) for op, m, w in self._rings},
            "distinct": {f"{m}/{w}": _sets(tiles[w], m, words) for (m, w), words in self._sets.items()},
        }
        if self._lasts:
            lasts = ((measure, last_value(measure, events)) for measure in self._lasts)
            described["last"] = {measure: {"time_ms": last[0], "value": last[1]} for measure, last in lasts if last}
        if self._histograms:
            described["histograms"] = {m: histogram(events, m, cells) for m, cells in self._histograms.items()}
        if self.kind.session_gap_ms:
            described["session"] = self.session(events)
        if self.kind.sequence:
            described["sequence"] = [{**interaction(event), "commit": event.commit} for event in events[-SEQUENCE:]]
            queries = [event for event in events if event.query != NO_CODES][-QUERIES:]  # a search without words is none
            described["queries"] = [{"time_ms": event.time_ms, "codes": list(event.query)} for event in queries]
        return described

    def session(self, events: Iterable[EventFacts]) -> dict[str, object] | None:
        """Return the current session after `events` in their order of arrival."""
        session = session_of(events, self.kind.session_gap_ms)
        if session is None:
            return None
        sums = {measure: sum(event.values[measure] for event in session.events) for measure in self._session}
        return {"start_ms": session.start_ms, "last_ms": session.last_ms, "sums": sums}


def _ring(tiles: dict[int, list[EventFacts]], op: str, measure: str) -> dict[int, int]:
    cells = {
        start: _cell(op, [(e.time_ms, e.values[measure]) for e in events if e.values[measure]]) for start, events in tiles.items()
    }
    return {start: value for start, value in cells.items() if value is not None}


def _cell(op: str, values: list[tuple[int, int]]) -> int | None:
    """One cell of a tile that holds these (time, value > 0); None where nothing is kept."""
    value = _OPERATIONS[op](values) if values else None
    return None if op == "square" and not value else value


_OPERATIONS: Final[Mapping[str, Callable[[list[tuple[int, int]]], int]]] = {
    "sum": lambda values: sum(value for _, value in values),
    "clipped": lambda values: sum(min(value, MAX_SQUARED) for _, value in values),
    "square": lambda values: sum(min(value, MAX_SQUARED) ** 2 // 128 for _, value in values),
    "min": lambda values: min(value for _, value in values),
    "max": lambda values: max(value for _, value in values),
    "first": lambda values: min(time_ms for time_ms, _ in values),
    "latest": lambda values: max(time_ms for time_ms, _ in values),
}


def _sets(tiles: dict[int, list[EventFacts]], measure: str, words: int) -> dict[int, dict[str, list[int]]]:
    """Of each tile the values themselves while there are at most `words`, else the registers of a HyperLogLog."""
    return {
        start: {"values": sorted(values)} if len(values) <= words else {"registers": registers(values, words)}
        for start, values in tile_sets(tiles, measure).items()
    }
