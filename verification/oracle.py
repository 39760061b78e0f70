"""What the state must hold after a set of events, by brute force from the documented sentences alone.

Of the package it reads the declared catalogue (which features there are, over which measures and windows) and nothing else: no
code of the engine, the importer or the store. What the words mean is said again here, in the plainest way, after
stream_app/features/declarations.py, so that a disagreement shows a mistake in one of the two. It is slow, keeps every event,
and knows no increments.

For each entity (a user; a device, an item, ..., one replica for each partition group that saw it):

- `newest_ms` and `first_ms`: the greatest and the least event time;
- for each window and each cell that a feature needs: its value over the events of each tile ([k * tile, (k + 1) * tile) in epoch
  ms), for the tiles that are kept: those with k > floor(newest / tile) - slots;
- for each distinct count and window: the different values of each tile, or registers of a HyperLogLog where they are too many;
- last values and histograms over the entity's whole past;
- the current session, the last 32 interactions and the last 4 queries.

All of it is a function of the set of events, whatever their order, but for the last line: order of arrival is fixed within one
topic and free between two. What is right then: verification/arrival_order.py.

An event whose topic, id and time are among the last 32 of its user is a duplicate: it changes nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import Catalogue, EntityKind, Feature
from verification.oracle_values import Entry, Hashes, Query, RawEvent, entry_of, key_of, mixed, query_of, value_of

__all__ = [
    "ALL_TOPICS",
    "SEQUENCE",
    "Entity",
    "OracleCell",
    "OracleSession",
    "OracleState",
    "Ring",
    "Visit",
    "cells_of",
    "expected_states",
]

SEQUENCE: Final = 32
ALL_TOPICS: Final = ""  # where the order between topics is known
_QUERIES: Final = 4
_MOST_SQUARED: Final = 10_000_000  # cents: larger values count as this much in squares and in clipped sums
_SQUARE_UNIT: Final = 128
_WORD_REGISTERS: Final = 16  # registers of 4 bits in a word of 64
_STEP: Final = 0x9E3779B97F4A7C15  # splitmix64's
_MASK: Final = (1 << 64) - 1

Entity = tuple[int, str, str]  # partition group, kind, key in hex
Ring = dict[int, int]  # start of a tile in epoch ms -> the cell's value
Distinct = tuple[str, tuple[int, ...]]  # "values", sorted; or "registers"
Visit = tuple[int, tuple[int, ...]]  # time_ms, values of the session's measures
Seen = tuple[int, Mapping[str, int]]  # time_ms, what the event has of each measure, zeros left out


class OracleCell(NamedTuple):
    """One number (or set, `words` large) that is kept for each tile of a window."""

    op: str
    measure: str
    window: str
    words: int = 0

    @property
    def name(self) -> str:
        """Its name in a description of state."""
        return f"{self.measure}/{self.window}" if self.op == "distinct" else f"{self.op} {self.measure}/{self.window}"


class OracleSession(NamedTuple):
    """Current session; sums by measure."""

    start_ms: int
    last_ms: int
    sums: dict[str, int]


@dataclass(slots=True)
class OracleState:
    """State of one entity. Tiles without a value are left out, and so are rings without tiles.

    Attributes:
        newest_ms: Greatest event time.
        first_ms: Least event time.
        rings: By cell.
        sets: Distinct sets by cell: start of a tile -> values or registers.
        lasts: Measure -> (time_ms, value).
        histograms: Measure -> counts, one a cell.
        queries: The last 4, oldest first.
        session: What a store holds.
        sequence: What a store holds: the last interactions, oldest first.
        commits: What a store holds: the number of the commit that brought each of them.
        arrivals: What an oracle knows instead: a user's interactions by topic (or under ALL_TOPICS), each in order.
        visits: The same for sessions: (time, values of `session_measures`).
        session_measures: Names of what a session sums up.
        session_gap_ms: Silence after which a new session begins; 0: no sessions.
    """

    newest_ms: int | None
    first_ms: int | None
    rings: dict[str, Ring] = field(default_factory=dict)
    sets: dict[str, dict[int, Distinct]] = field(default_factory=dict)
    lasts: dict[str, tuple[int, int]] = field(default_factory=dict)
    histograms: dict[str, tuple[int, ...]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    session: OracleSession | None = None
    sequence: list[Entry] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)
    arrivals: dict[str, list[Entry]] = field(default_factory=dict)
    visits: dict[str, list[Visit]] = field(default_factory=dict)
    session_measures: tuple[str, ...] = ()
    session_gap_ms: int = 0


def cells_of(catalogue: Catalogue, kind: str) -> list[OracleCell]:
    """Return what is kept in the tiles of a kind: all that its features need, each once."""
    needed: dict[OracleCell, None] = {}
    for feature in catalogue.features:
        if feature.entity == kind and feature.windowed:
            needed.update(dict.fromkeys(_cells_of_feature(feature)))
    return list(needed)


def _cells_of_feature(feature: Feature) -> list[OracleCell]:
    how, of, window = feature.aggregation, feature.measure, feature.window
    if how == "distinct":
        return [OracleCell("distinct", of, window, feature.words)]
    if how in ("min", "max"):
        return [OracleCell(how, of, window)]
    if how in ("std", "zscore"):
        return [OracleCell("clipped", of, window), OracleCell("square", of, window), OracleCell("sum", feature.per, window)]
    cells = [OracleCell("sum", of, window)]
    if how == "trend":
        cells.append(OracleCell("sum", of, feature.base))
    if how in ("mean", "rate", "ratio"):
        cells.append(OracleCell("sum", feature.per, window))
    if how == "gap_mean":
        cells += [OracleCell("first", of, window), OracleCell("latest", of, window)]
    return cells


def expected_states(
    events: Iterable[RawEvent],
    group_of: Mapping[str, int],
    id_key: str,
    catalogue: Catalogue = CATALOGUE,
    *,
    in_order: bool = False,
) -> dict[Entity, OracleState]:
    """Return what every entity must hold.

    Args:
        events: In the order of their topic's records, for the events of one user in one topic; in order of arrival altogether,
            for those of a user that has duplicates.
        group_of: User -> its partition.
        id_key: The secret under which identifiers are hashed.
        catalogue: What is declared.
        in_order: The events are in order of arrival altogether: sequences and sessions are then compared whole.

    Raises:
        KeyError: A user has no partition: none of its events came to the broker.
    """
    hashed = Hashes(id_key)
    kinds = [kind.name for kind in catalogue.kinds]
    of_entity: dict[Entity, list[tuple[RawEvent, Seen]]] = defaultdict(list)
    for event in _without_duplicates(events):
        values = {measure.name: value_of(event, measure, hashed) for measure in catalogue.measures}
        seen = (event.time_ms, {name: value for name, value in values.items() if value})
        for kind in kinds:
            key = key_of(event, kind, hashed)
            if key:
                of_entity[group_of[event.user], kind, key.hex()].append((event, seen))
    rules = {kind.name: _Rules(catalogue, kind, in_order=in_order) for kind in catalogue.kinds}
    return {entity: rules[entity[1]].state(pairs) for entity, pairs in of_entity.items()}


def _without_duplicates(events: Iterable[RawEvent]) -> Iterable[RawEvent]:
    last: dict[str, deque[tuple[str, str, int]]] = defaultdict(lambda: deque(maxlen=SEQUENCE))
    for event in events:
        known, named = last[event.user], (event.topic, event.event_id, event.time_ms)
        if event.event_id and named in known:
            continue
        known.append(named)
        yield event


class _Rules:
    """What is kept of one kind."""

    def __init__(self, catalogue: Catalogue, kind: EntityKind, *, in_order: bool) -> None:
        self._in_order = in_order
        features = [feature for feature in catalogue.features if feature.entity == kind.name]
        self._kind = kind
        self._windows = [
            (window, [c for c in cells_of(catalogue, kind.name) if c.window == window.name]) for window in catalogue.windows
        ]
        self._lasts = {f.measure for f in features if f.aggregation in ("last", "changed", "recency") and f.measure}
        self._histograms = {f.measure: f.cells for f in features if f.cells}
        sessions = [f for f in features if f.aggregation in ("session_sum", "session_rate")]
        self._session = tuple(sorted({name for f in sessions for name in (f.measure, f.per) if name}))

    def state(self, pairs: Sequence[tuple[RawEvent, Seen]]) -> OracleState:
        """Return what an entity with these events must hold."""
        seen = [pair[1] for pair in pairs]
        times = [time_ms for time_ms, _ in seen]
        newest_ms = max(times)
        state = OracleState(newest_ms, min(times))
        for window, cells in self._windows:
            kept = newest_ms // window.tile_ms - window.slots
            tiles: dict[int, list[Seen]] = defaultdict(list)
            for one in seen:
                if one[0] // window.tile_ms > kept:
                    tiles[one[0] // window.tile_ms * window.tile_ms].append(one)
            for cell in cells:
                _keep(state, cell, tiles)
        state.lasts = {name: last for name in self._lasts if (last := _last(name, seen)) is not None}
        state.histograms = {name: _histogram(name, cells, seen) for name, cells in self._histograms.items()}
        self._keep_arrivals(state, pairs)
        return state

    def _keep_arrivals(self, state: OracleState, pairs: Sequence[tuple[RawEvent, Seen]]) -> None:
        state.session_gap_ms, state.session_measures = self._kind.session_gap_ms, self._session
        for event, (time_ms, values) in pairs:
            topic = ALL_TOPICS if self._in_order else event.topic
            if self._kind.sequence:
                state.arrivals.setdefault(topic, []).append(entry_of(event))
                if event.kind == "search" and any(query_of(event)[1]):  # one without words is no query
                    state.queries = [*state.queries, query_of(event)][-_QUERIES:]
            if self._kind.session_gap_ms:
                visit = (time_ms, tuple(values.get(name, 0) for name in self._session))
                state.visits.setdefault(topic, []).append(visit)


def _keep(state: OracleState, cell: OracleCell, tiles: Mapping[int, Sequence[Seen]]) -> None:
    """Note what a cell holds in each tile."""
    ring: Ring = {}
    sets: dict[int, Distinct] = {}
    for start_ms, seen in tiles.items():
        having = [(time_ms, values[cell.measure]) for time_ms, values in seen if cell.measure in values]
        if not having:
            continue
        if cell.op == "distinct":
            sets[start_ms] = _distinct({value for _, value in having}, cell.words)
        else:
            ring[start_ms] = _OPERATIONS[cell.op](having)
    if cell.op in ("sum", "clipped", "square"):
        ring = {start_ms: value for start_ms, value in ring.items() if value}
    if ring:
        state.rings[cell.name] = ring
    if sets:
        state.sets[cell.name] = sets


_OPERATIONS: Final[Mapping[str, Callable[[list[tuple[int, int]]], int]]] = {
    "sum": lambda having: sum(value for _, value in having),
    "clipped": lambda having: sum(min(value, _MOST_SQUARED) for _, value in having),
    "square": lambda having: sum(min(value, _MOST_SQUARED) ** 2 // _SQUARE_UNIT for _, value in having),
    "max": lambda having: max(value for _, value in having),
    "min": lambda having: min(value for _, value in having),
    "first": lambda having: min(time_ms for time_ms, _ in having),
    "latest": lambda having: max(time_ms for time_ms, _ in having),
}


def _distinct(values: set[int], words: int) -> Distinct:
    """Return the values themselves while there are at most `words`, else 16 * words - 1 registers."""
    if len(values) <= words:
        return "values", tuple(sorted(values))
    registers = [0] * (_WORD_REGISTERS * words - 1)
    for value in values:
        spread = mixed((value + _STEP) & _MASK)
        low = spread & 0xFFFFFFFF
        zeros = (low & -low).bit_length() - 1 if low else 15
        at = (spread >> 32) % len(registers)
        registers[at] = max(registers[at], min(15, 1 + zeros))
    return "registers", tuple(registers)


def _last(name: str, seen: Sequence[Seen]) -> tuple[int, int] | None:
    return max(((time_ms, values[name]) for time_ms, values in seen if name in values), default=None)


def _histogram(name: str, cells: int, seen: Sequence[Seen]) -> tuple[int, ...]:
    counts = [0] * cells
    for _, values in seen:
        if name in values:
            counts[(values[name] - 1) % cells] += 1
    return tuple(counts)
