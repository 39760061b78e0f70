"""Proposes a catalogue from a log: which columns are entities and measures, which windows hold anything, what leaks the truth."""

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

__all__ = ["CatalogueSuggestion", "EntityUsage", "Proposal", "WindowUsage", "suggest", "suggested_json", "suggested_text"]

_DAY_MS: Final = 86_400_000
_LEAST_SEEN: Final = 0.02  # share of events that must find a past in a window, for it to be worth its tiles
_LEAST_MORE: Final = 1.25  # by how much a window must know more than the next smaller one
_MOST_WINDOWS: Final = 4
_LEAST_COMPANY: Final = 1.05  # different others each
_NOT_ADDED_UP: Final = frozenset({"age", "year", "lat", "lon", "latitude", "longitude", "rate", "rates"})
_MEASURE_FIRST: Final = ("amount", "price", "value", "total", "cost")


@dataclass(frozen=True, slots=True)
class WindowUsage:
    """What a window would know: share of events with any past in it, mean and most events in it; whether it is proposed."""

    window: str
    seen: float
    mean_events: float
    most_events: int
    proposed: bool


@dataclass(frozen=True, slots=True)
class EntityUsage:
    """How one entity column behaves. kind: of the catalogue, empty if the name says none."""

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
        """The windows that make sense, shortest first."""
        return [use.window for use in self.windows if use.proposed]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One feature. in_catalogue: the shipped feature that is the same, if there is one."""

    name: str
    entity: str
    aggregation: str
    measure: str
    window: str
    reason: str
    in_catalogue: str = ""


@dataclass(slots=True)
class CatalogueSuggestion:
    """All that was found in a log."""

    rows: int
    more: bool
    columns: list[Column]
    time: TimeColumn | None
    label: str = ""
    days: float = 0.0
    entities: list[EntityUsage] = field(default_factory=list)
    features: list[Proposal] = field(default_factory=list)
    warnings: list[ColumnWarning] = field(default_factory=list)


def suggest(columns: list[Column], time: TimeColumn | None, catalogue: Catalogue, *, more: bool) -> CatalogueSuggestion:
    """Look at a log's columns.

    Args:
        columns: From `inspect_columns`.
        time: The event time; without it there are no windows, only warnings.
        catalogue: Whose windows are tried, and whose features are recognised.
        more: Whether the file has further rows.
    """
    label = binary_label(columns)
    found = CatalogueSuggestion(columns[0].rows if columns else 0, more, columns, time, label[0].name if label else "")
    found.warnings = warnings_of(columns, time.column if time else None)
    if time is None:
        return found
    times = time.column.time_ms
    assert times is not None
    known = times[times >= 0]
    span_ms = int(known.max() - known.min()) if len(known) else 0
    found.days = span_ms / _DAY_MS
    entities = [column for column in columns if column.role == "entity"]
    uses = [_use(column, times, catalogue.windows, span_ms) for column in entities]
    ranked = sorted(zip(uses, entities, strict=True), key=lambda pair: -_past(pair[0]))
    found.entities = [use for use, _ in ranked]
    found.features = list(_Proposals(catalogue, columns, ranked).all())
    return found


def _past(use: EntityUsage) -> float:
    return max((window.seen for window in use.windows), default=0.0)


# --- windows -----------------------------------------------------------------------------------------------------------------


def _use(column: Column, times: NDArray[np.int64], windows: tuple[Window, ...], span_ms: int) -> EntityUsage:
    there = (column.codes >= 0) & (times >= 0)
    codes, at = column.codes[there], times[there]
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
    # One ascending axis on which no window reaches from one entity into the one before.
    apart = span_ms + max(window.length_ms for window in windows) + 1
    axis = codes * np.int64(apart) + (at - at.min())
    number = np.arange(len(axis))
    uses, known = [], 0.0
    for window in windows:
        # Of events at one time the later row has seen the earlier ones, as in a replay.
        events = number - np.searchsorted(axis, axis - window.length_ms, side="left")
        seen, mean = float((events > 0).mean()), float(events.mean())
        proposed = window.length_ms <= span_ms and seen >= _LEAST_SEEN and mean >= _LEAST_MORE * known
        known = mean if proposed else known
        uses.append(WindowUsage(window.name, round(seen, 4), round(mean, 3), int(events.max()), proposed))
    worth = sorted((use for use in uses if use.proposed), key=lambda use: use.seen, reverse=True)[:_MOST_WINDOWS]
    return [replace(use, proposed=use in worth) for use in uses]


# --- features ----------------------------------------------------------------------------------------------------------------


class _Proposals:
    def __init__(self, catalogue: Catalogue, columns: list[Column], ranked: list[tuple[EntityUsage, Column]]) -> None:
        self._catalogue, self._columns, self._ranked = catalogue, columns, ranked
        measures = [column for column in columns if column.role == "measure" and not column.words & _NOT_ADDED_UP]
        self._measures = sorted(
            measures, key=lambda c: min([_MEASURE_FIRST.index(w) for w in c.words & {*_MEASURE_FIRST}] or [9])
        )

    def all(self) -> Iterator[Proposal]:
        acting = next((use for use, _ in self._ranked if use.kind == "user"), self._ranked[0][0] if self._ranked else None)
        for use, column in self._ranked:
            windows = use.proposed
            if not windows:
                continue
            entity = use.kind or column.name
            for window in windows:
                yield self._made(
                    entity, "count", "events", window, f"{self._seen(use, window)} of the events find a past in {window}"
                )
            yield self._made(entity, "recency", "", "", f"half of the gaps are below {use.gap_median_s:,.0f} s")
            yield self._made(entity, "age", "", "", f"{use.distinct:,} different ones; a new one is another case than an old one")
            for measure in self._measures[:2]:
                yield from self._of_measure(entity, measure.name, windows)
            yield from self._of_company(entity, column, windows)
            if use is acting:
                yield from self._of_habits(entity)

    def _of_measure(self, entity: str, measure: str, windows: list[str]) -> Iterator[Proposal]:
        for window in windows[-2:]:
            yield self._made(entity, "sum", measure, window, f"how much {measure} lately")
        longest = windows[-1]
        yield self._made(entity, "mean", measure, longest, f"the usual {measure}")
        yield self._made(entity, "ratio", measure, longest, f"this {measure} against the usual one")
        yield self._made(entity, "zscore", measure, longest, f"this {measure} in standard deviations")

    def _of_company(self, entity: str, column: Column, windows: list[str]) -> Iterator[Proposal]:
        for use, other in self._ranked:
            if other is column:
                continue
            there = (column.codes >= 0) & (other.codes >= 0)
            pairs = len(np.unique(column.codes[there] * np.int64(other.distinct + 1) + other.codes[there]))
            each = pairs / max(1, len(np.unique(column.codes[there])))
            if each >= _LEAST_COMPANY:
                window = next((w for w in reversed(windows) if w != "30d"), windows[-1])
                reason = f"{each:,.1f} different {other.name} each, over the whole log"
                yield self._made(entity, "distinct", use.kind or other.name, window, reason)

    def _of_habits(self, entity: str) -> Iterator[Proposal]:
        for column in self._columns:
            if column.role == "category" and 3 <= column.distinct <= 64:
                yield self._made(
                    entity, "share", column.name, "", f"whether this {column.name} is usual ({column.distinct} values)"
                )
        yield self._made(entity, "share", "hour", "", "whether this hour of the day is usual")

    @staticmethod
    def _seen(use: EntityUsage, window: str) -> str:
        return f"{next(w.seen for w in use.windows if w.window == window):.0%}"

    def _made(self, entity: str, aggregation: str, measure: str, window: str, reason: str) -> Proposal:
        parts = [entity, *([measure] if measure else []), *([] if aggregation in ("count", "sum") else [aggregation])]
        name = "_".join([part.lower().replace(".", "_") for part in parts] + ([window] if window else []))
        return Proposal(name, entity, aggregation, measure, window, reason, self._known(entity, aggregation, measure, window))

    def _known(self, entity: str, aggregation: str, measure: str, window: str) -> str:
        """The shipped feature that is this one: a measure of a log is compared by what it is, not by its name."""
        same = {"price": {"price", "browse_price"}, "value": {"spend"}, "amount": {"spend"}, "events": {"events", "orders"}}
        meant = same.get(next((word for word in same if word in measure.lower()), ""), {measure})
        for f in self._catalogue.features:
            if (f.entity, f.aggregation, f.window) == (entity, aggregation, window) and (
                f.measure in meant or f.measure == measure
            ):
                return f.name
        return ""


# --- shown -------------------------------------------------------------------------------------------------------------------


def suggested_json(suggested: CatalogueSuggestion) -> dict[str, object]:
    """Return all of it, for one line of JSON."""
    time = suggested.time
    times = _range(suggested)
    return {
        "rows": suggested.rows,
        "more_rows": suggested.more,
        "time": {
            "column": time.column.name,
            "unit": time.column.time_unit,
            "ascending": time.ascending,
            "first_ms": times[0],
            "last_ms": times[1],
            "days": round(suggested.days, 4),
        }
        if time
        else None,
        "label": suggested.label,
        "columns": [
            {
                "name": c.name,
                "role": c.role,
                "kind": c.kind,
                "distinct": c.distinct,
                "filled": c.filled,
                "numeric": c.numbers is not None,
            }
            for c in suggested.columns
        ],
        "entities": [asdict(use) for use in suggested.entities],
        "features": [asdict(proposal) for proposal in suggested.features],
        "warnings": [asdict(warned) for warned in suggested.warnings],
    }


def suggested_text(suggested: CatalogueSuggestion) -> Iterator[RenderableType]:
    """Yield a report for a person."""
    from rich.table import Table

    first = "the first " if suggested.more else ""
    yield f"{first}{suggested.rows:,} rows, {len(suggested.columns)} columns"
    if suggested.time is None:
        yield "no column is a time that is understood, so there are no windows to propose; --time COLUMN names one"
    else:
        low, high = (datetime.fromtimestamp(ms / 1_000, UTC) for ms in _range(suggested))
        order = "ascending" if suggested.time.ascending else "not in order: sort it before it is replayed"
        unit = suggested.time.column.time_unit
        span = f"{low:%Y-%m-%d %H:%M} to {high:%Y-%m-%d %H:%M} UTC, {suggested.days:.2f} days"
        yield f"time {suggested.time.column.name} ({unit}), {span}, {order}"
    table = Table("column", "role", "different", "filled", "looks like", title="columns", title_justify="left")
    for c in suggested.columns:
        sample = ", ".join(str(value)[:18] for value in c.values[:3])
        table.add_row(c.name, f"{c.role} {c.kind}".strip(), f"{c.distinct:,}", f"{c.filled / max(1, c.rows):.0%}", sample)
    yield table
    yield from _warnings_shown(suggested)
    if suggested.entities:
        yield _entities_shown(suggested)
    if suggested.features:
        yield _features_shown(suggested)
        unnamed = [use.column for use in suggested.entities if use.proposed and not use.kind]
        if unnamed:
            yield f"no entity kind is named by {', '.join(unnamed)}: a mapping says which field they are (docs/imports.md)"


def _range(suggested: CatalogueSuggestion) -> tuple[int, int]:
    if suggested.time is None or suggested.time.column.time_ms is None:
        return 0, 0
    known = suggested.time.column.time_ms[suggested.time.column.time_ms >= 0]
    return int(known.min()), int(known.max())


def _warnings_shown(suggested: CatalogueSuggestion) -> Iterator[RenderableType]:
    from rich.text import Text

    for warned in suggested.warnings:
        colour = "yellow" if warned.about in ("constant", "row id", "label") else "bold red"
        yield Text.assemble(("! ", colour), (warned.column, "bold"), f" {warned.message}")
    if not suggested.warnings:
        yield "no leakage was found; nothing is known of what columns mean, so look at each"


def _entities_shown(suggested: CatalogueSuggestion) -> RenderableType:
    from rich.table import Table

    names = [use.window for use in suggested.entities[0].windows]
    table = Table("entity", "different", "events each", "most", "median gap", *names, title_justify="left")
    table.title = "entities: share of events that find a past in a window, mean events in it; * proposed"
    for use in suggested.entities:
        windows = [f"{w.seen:.0%} {w.mean_events:,.1f}{' *' if w.proposed else ''}" for w in use.windows]
        table.add_row(
            f"{use.column} {f'({use.kind})' if use.kind else ''}".strip(), f"{use.distinct:,}", f"{use.events_mean:,.1f}",
            f"{use.events_most:,}", f"{use.gap_median_s:,.0f} s", *windows,
        )  # fmt: skip
    return table


def _features_shown(suggested: CatalogueSuggestion) -> RenderableType:
    from rich.table import Table

    table = Table("feature", "aggregation", "window", "why", "in the catalogue", title="proposed features", title_justify="left")
    for p in suggested.features:
        table.add_row(p.name, f"{p.aggregation} {p.measure}".strip(), p.window, p.reason, p.in_catalogue or "no")
    return table
