"""Propose a catalogue from a log: entities and measures among its columns, useful windows, features, leaks of the label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.profiling.columns import Column, TimeColumn
from stream_app.profiling.leakage import ColumnWarning, binary_label, warnings_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stream_app.features.declarations import Catalogue, Window

_DAY_MS: Final = 86_400_000
_LEAST_SEEN: Final = 0.02  # share of events with a past in a window, below which the window is not worth its tiles
_LEAST_MORE: Final = 1.25  # events in a window, over those of the next smaller one that is proposed
_MOST_WINDOWS: Final = 4
_LEAST_PARTNERS: Final = 1.05  # different values of another entity for each value
_NOT_ADDITIVE: Final = frozenset({"age", "year", "lat", "lon", "latitude", "longitude", "rate", "rates"})
_MEASURE_FIRST: Final = ("amount", "price", "value", "total", "cost")


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """Events in a window: share of events with any earlier event in it, mean and most of them; whether the window is proposed."""

    window: str
    seen: float
    mean_events: float
    most_events: int
    proposed: bool


@dataclass(frozen=True, slots=True)
class EntityUsage:
    """Frequency of one entity column. kind: of the catalogue, empty if the column's name gives none."""

    column: str
    kind: str
    distinct: int
    events_mean: float
    events_most: int
    gap_median_s: float
    events_per_day: float  # of one entity, while it is seen
    windows: list[WindowUsage]

    @property
    def proposed(self) -> list[str]:
        """The windows that are proposed, shortest first."""
        return [use.window for use in self.windows if use.proposed]


@dataclass(frozen=True, slots=True)
class FeatureProposal:
    """One feature. in_catalogue: name of the same feature of the shipped catalogue, if there is one."""

    name: str
    entity: str
    aggregation: str
    measure: str
    window: str
    reason: str
    in_catalogue: str = ""


@dataclass(slots=True)
class CatalogueSuggestion:
    """Columns, entities, features and warnings of a log."""

    rows: int
    more: bool
    columns: list[Column]
    time: TimeColumn | None
    label: str = ""
    days: float = 0.0
    entities: list[EntityUsage] = field(default_factory=list)
    features: list[FeatureProposal] = field(default_factory=list)
    warnings: list[ColumnWarning] = field(default_factory=list)


def suggest(columns: list[Column], time: TimeColumn | None, catalogue: Catalogue, *, more: bool) -> CatalogueSuggestion:
    """Propose a catalogue from a log's columns, by the windows of `catalogue`; its features are recognised.

    Without a time there are no windows, only warnings. `more`: whether the file has further rows.
    """
    label = binary_label(columns)
    suggestion = CatalogueSuggestion(columns[0].rows if columns else 0, more, columns, time, label[0].name if label else "")
    suggestion.warnings = warnings_of(columns, time.column if time else None)
    if time is None:
        return suggestion
    times = time.column.time_ms
    assert times is not None
    known = times[times >= 0]
    span_ms = int(known.max() - known.min()) if len(known) else 0
    suggestion.days = span_ms / _DAY_MS
    entities = [column for column in columns if column.role == "entity"]
    uses = [_use(column, times, catalogue.windows, span_ms) for column in entities]
    ranked = sorted(zip(uses, entities, strict=True), key=lambda pair: -_past(pair[0]))
    suggestion.entities = [use for use, _ in ranked]
    suggestion.features = list(_Proposals(catalogue, columns, ranked).all())
    return suggestion


def _past(use: EntityUsage) -> float:
    return max((window.seen for window in use.windows), default=0.0)


# --- windows -----------------------------------------------------------------------------------------------------------------


def _use(column: Column, times: NDArray[np.int64], windows: tuple[Window, ...], span_ms: int) -> EntityUsage:
    known = (column.codes >= 0) & (times >= 0)
    codes, at = column.codes[known], times[known]
    order = np.lexsort((at, codes))
    codes, at = codes[order], at[order]
    counts = np.bincount(codes, minlength=1)
    counts = counts[counts > 0]
    same = codes[1:] == codes[:-1]
    gaps = (at[1:] - at[:-1])[same]
    first, last = np.flatnonzero(np.r_[True, ~same]), np.flatnonzero(np.r_[~same, True])
    lived_days = (at[last] - at[first]).sum() / _DAY_MS if len(at) else 0.0
    return EntityUsage(
        column=column.name,
        kind=column.kind,
        distinct=column.distinct,
        events_mean=round(float(counts.mean()), 3) if len(counts) else 0.0,
        events_most=int(counts.max()) if len(counts) else 0,
        gap_median_s=round(float(np.median(gaps)) / 1_000, 3) if len(gaps) else 0.0,
        events_per_day=round(float(len(gaps) / lived_days), 3) if lived_days > 0 else 0.0,
        windows=_windows(codes, at, windows, span_ms),
    )


def _windows(codes: NDArray[np.int64], at: NDArray[np.int64], windows: tuple[Window, ...], span_ms: int) -> list[WindowUsage]:
    if not len(at):
        return []
    # One ascending axis of all entities, so far apart that no window reaches from one entity into another.
    apart = span_ms + max(window.length_ms for window in windows) + 1
    axis = codes * np.int64(apart) + (at - at.min())
    number = np.arange(len(axis))
    uses, best_mean = [], 0.0
    for window in windows:
        # Of events at the same time, a later row counts the earlier rows, as in a replay.
        events = number - np.searchsorted(axis, axis - window.length_ms, side="left")
        seen, mean = float((events > 0).mean()), float(events.mean())
        proposed = window.length_ms <= span_ms and seen >= _LEAST_SEEN and mean >= _LEAST_MORE * best_mean
        best_mean = mean if proposed else best_mean
        uses.append(WindowUsage(window.name, round(seen, 4), round(mean, 3), int(events.max()), proposed))
    worth = sorted((use for use in uses if use.proposed), key=lambda use: use.seen, reverse=True)[:_MOST_WINDOWS]
    return [replace(use, proposed=use in worth) for use in uses]


# --- features ----------------------------------------------------------------------------------------------------------------


class _Proposals:
    def __init__(self, catalogue: Catalogue, columns: list[Column], ranked: list[tuple[EntityUsage, Column]]) -> None:
        self._catalogue, self._columns, self._ranked = catalogue, columns, ranked
        measures = [column for column in columns if column.role == "measure" and not column.words & _NOT_ADDITIVE]
        self._measures = sorted(
            measures, key=lambda c: min([_MEASURE_FIRST.index(w) for w in c.words & {*_MEASURE_FIRST}] or [9])
        )

    def all(self) -> Iterator[FeatureProposal]:
        acting = next((use for use, _ in self._ranked if use.kind == "user"), self._ranked[0][0] if self._ranked else None)
        for use, column in self._ranked:
            windows = use.proposed
            if not windows:
                continue
            entity = use.kind or column.name
            for window, seen in ((w.window, w.seen) for w in use.windows if w.proposed):
                yield self._proposal(entity, "count", "events", window, f"{seen:.0%} of the events find a past in {window}")
            yield self._proposal(entity, "recency", "", "", f"half of the gaps are below {use.gap_median_s:,.0f} s")
            yield self._proposal(
                entity, "age", "", "", f"{use.distinct:,} different ones; a new one is another case than an old one"
            )
            for measure in self._measures[:2]:
                yield from self._of_measure(entity, measure.name, windows)
            yield from self._of_partners(entity, column, windows)
            if use is acting:
                yield from self._of_shares(entity)

    def _of_measure(self, entity: str, measure: str, windows: list[str]) -> Iterator[FeatureProposal]:
        for window in windows[-2:]:
            yield self._proposal(entity, "sum", measure, window, f"how much {measure} lately")
        longest = windows[-1]
        yield self._proposal(entity, "mean", measure, longest, f"the usual {measure}")
        yield self._proposal(entity, "ratio", measure, longest, f"this {measure} against the usual one")
        yield self._proposal(entity, "zscore", measure, longest, f"this {measure} in standard deviations")

    def _of_partners(self, entity: str, column: Column, windows: list[str]) -> Iterator[FeatureProposal]:
        for use, other in self._ranked:
            if other is column:
                continue
            both = (column.codes >= 0) & (other.codes >= 0)
            pairs = len(np.unique(column.codes[both] * np.int64(other.distinct + 1) + other.codes[both]))
            each = pairs / max(1, len(np.unique(column.codes[both])))
            if each >= _LEAST_PARTNERS:
                window = next((w for w in reversed(windows) if w != "30d"), windows[-1])
                reason = f"{each:,.1f} different {other.name} each, over the whole log"
                yield self._proposal(entity, "distinct", use.kind or other.name, window, reason)

    def _of_shares(self, entity: str) -> Iterator[FeatureProposal]:
        for column in self._columns:
            if column.role == "category" and 3 <= column.distinct <= 64:
                yield self._proposal(
                    entity, "share", column.name, "", f"whether this {column.name} is usual ({column.distinct} values)"
                )
        yield self._proposal(entity, "share", "hour", "", "whether this hour of the day is usual")

    def _proposal(self, entity: str, aggregation: str, measure: str, window: str, reason: str) -> FeatureProposal:
        parts = [entity, *([measure] if measure else []), *([] if aggregation in ("count", "sum") else [aggregation])]
        name = "_".join([part.lower().replace(".", "_") for part in parts] + ([window] if window else []))
        return FeatureProposal(
            name, entity, aggregation, measure, window, reason, self._in_catalogue(entity, aggregation, measure, window)
        )

    def _in_catalogue(self, entity: str, aggregation: str, measure: str, window: str) -> str:
        """The name of the same shipped feature; measures are compared by meaning (`price`, `amount`), not by name."""
        same = {"price": {"price", "browse_price"}, "value": {"spend"}, "amount": {"spend"}, "events": {"events", "orders"}}
        measures = same.get(next((word for word in same if word in measure.lower()), ""), {measure})
        for f in self._catalogue.features:
            if (f.entity, f.aggregation, f.window) == (entity, aggregation, window) and (
                f.measure in measures or f.measure == measure
            ):
                return f.name
        return ""


# --- report -------------------------------------------------------------------------------------------------------------------


def suggestion_json(suggestion: CatalogueSuggestion) -> dict[str, object]:
    """Return the suggestion for one line of JSON."""
    time = suggestion.time
    times = _range(suggestion)
    return {
        "rows": suggestion.rows,
        "more_rows": suggestion.more,
        "time": {
            "column": time.column.name,
            "unit": time.column.time_unit,
            "ascending": time.ascending,
            "first_ms": times[0],
            "last_ms": times[1],
            "days": round(suggestion.days, 4),
        }
        if time
        else None,
        "label": suggestion.label,
        "columns": [
            {
                "name": c.name,
                "role": c.role,
                "kind": c.kind,
                "distinct": c.distinct,
                "filled": c.filled,
                "numeric": c.numbers is not None,
            }
            for c in suggestion.columns
        ],
        "entities": [asdict(use) for use in suggestion.entities],
        "features": [asdict(proposal) for proposal in suggestion.features],
        "warnings": [asdict(warning) for warning in suggestion.warnings],
    }


def suggestion_text(suggestion: CatalogueSuggestion) -> Iterator[RenderableType]:
    """Yield a report for a person."""
    from rich.table import Table

    first = "the first " if suggestion.more else ""
    yield f"{first}{suggestion.rows:,} rows, {len(suggestion.columns)} columns"
    if suggestion.time is None:
        yield "no column is a time that is understood, so there are no windows to propose; --time COLUMN names one"
    else:
        low, high = (datetime.fromtimestamp(ms / 1_000, UTC) for ms in _range(suggestion))
        order = "ascending" if suggestion.time.ascending else "not in order: sort it before it is replayed"
        unit = suggestion.time.column.time_unit
        span = f"{low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} UTC, {suggestion.days:.2f} days"
        yield f"time {suggestion.time.column.name} ({unit}), {span}, {order}"
    table = Table("column", "role", "different", "filled", "looks like", title="columns", title_justify="left")
    for c in suggestion.columns:
        sample = ", ".join(str(value)[:18] for value in c.values[:3])
        table.add_row(c.name, f"{c.role} {c.kind}".strip(), f"{c.distinct:,}", f"{c.filled / max(1, c.rows):.0%}", sample)
    yield table
    yield from _warning_lines(suggestion)
    if suggestion.entities:
        yield _entity_table(suggestion)
    if suggestion.features:
        yield _feature_table(suggestion)
        unnamed = [use.column for use in suggestion.entities if use.proposed and not use.kind]
        if unnamed:
            yield f"no entity kind is named by {', '.join(unnamed)}: a mapping says which field they are (docs/imports.md)"


def _range(suggestion: CatalogueSuggestion) -> tuple[int, int]:
    if suggestion.time is None or suggestion.time.column.time_ms is None:
        return 0, 0
    known = suggestion.time.column.time_ms[suggestion.time.column.time_ms >= 0]
    return int(known.min()), int(known.max())


def _warning_lines(suggestion: CatalogueSuggestion) -> Iterator[RenderableType]:
    from rich.text import Text

    for warning in suggestion.warnings:
        colour = "yellow" if warning.about in ("constant", "row id", "label") else "bold red"
        yield Text.assemble(("! ", colour), (warning.column, "bold"), f" {warning.message}")
    if not suggestion.warnings:
        yield "no leakage was found; nothing is known of what columns mean, so look at each"


def _entity_table(suggestion: CatalogueSuggestion) -> RenderableType:
    from rich.table import Table

    names = [use.window for use in suggestion.entities[0].windows]
    table = Table("entity", "different", "events each", "most", "median gap", *names, title_justify="left")
    table.title = "entities: share of events that find a past in a window, mean events in it; * proposed"
    for use in suggestion.entities:
        windows = [f"{w.seen:.0%} {w.mean_events:,.1f}{' *' if w.proposed else ''}" for w in use.windows]
        table.add_row(
            f"{use.column} {f'({use.kind})' if use.kind else ''}".strip(), f"{use.distinct:,}", f"{use.events_mean:,.1f}",
            f"{use.events_most:,}", f"{use.gap_median_s:,.0f} s", *windows,
        )  # fmt: skip
    return table


def _feature_table(suggestion: CatalogueSuggestion) -> RenderableType:
    from rich.table import Table

    table = Table("feature", "aggregation", "window", "why", "in the catalogue", title="proposed features", title_justify="left")
    for p in suggestion.features:
        table.add_row(p.name, f"{p.aggregation} {p.measure}".strip(), p.window, p.reason, p.in_catalogue or "no")
    return table
