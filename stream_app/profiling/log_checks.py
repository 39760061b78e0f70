"""Check that a log can be imported, replayed and trained on; events come in the order of the file.

Each check gives findings: the defect, how often it occurs, its first places, and what to do. A `warning` matters: figures from
this log would be wrong, or a worker would refuse some of its events. An `info` is worth knowing. An `error` makes a log useless.
Memory is bounded: order, gaps and clocks need the last event only, an `EventIndex` answers the other checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stream_app.profiling.event_index import EventIndex, IdentifierUse, Matches
from stream_app.profiling.findings import PLACES, Finding, Level, Occurrences, duration_text

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from stream_app.events import Event
    from stream_app.profiling.columns import Column, TimeColumn

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_LEAST_GAP_MS: Final = 6 * _HOUR_MS  # shorter ones are nights
_GAP_TIMES: Final = 16  # as long as 99 of 100 pauses, so many times over
_FEWEST: Final = 200  # events; of fewer, shares are chance
_BUSY_SHARE: Final = 0.2  # of all events: no person does a fifth of a shop's business
_LONELY_SHARE: Final = 0.95  # users by events: nearly each event is of a user of its own
_IN_ORDER: Final = 0.2  # share of events older than one before them, above which the log has no order
_STEP_MS: Final = 180 * _DAY_MS  # no log pauses for so long: a wrong unit or clock


@dataclass(frozen=True, slots=True)
class LogRow:
    """One event, as far as the checks need it.

    Attributes:
        unit: What `number` counts: `line` or `row`.
        number: Its place in the file, from 1.
        time_ms: Event time.
        recorded_ms: When it was recorded, -1 if unknown.
        key: Topic and id, or whatever identifies the event; empty if nothing does.
        content: Two events of one key and one content are the same event, sent twice.
        user: Its user; empty if unknown.
        identifiers: By field, empty where it has none.
    """

    unit: str
    number: int
    time_ms: int
    recorded_ms: int
    key: str
    content: str
    user: str
    identifiers: dict[str, str]

    @property
    def place(self) -> str:
        """Its place in a finding."""
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Settings features.allowed_lateness_ms and features.future_skew_ms of a worker."""

    allowed_lateness_ms: int
    future_skew_ms: int


def row_from_event(event: Event, topic: str, place: tuple[str, int], recorded_ms: int) -> LogRow:
    """Return the `LogRow` of an event; `place` is a unit and a number."""
    fields = ("user", "session", "device", "ip", "item", "payment_instrument", "shipping_address")
    identifiers = {name: getattr(event, name) for name in fields if hasattr(event, name)}
    return LogRow(
        *place, event.event_time_ms, recorded_ms, f"{topic} {event.event_id}", f"{event.user} {event.event_time_ms}",
        event.user, identifiers,
    )  # fmt: skip


class LogChecks:
    """All checks but leakage, over events in the order of the file; `limits` are of the worker that is to read it."""

    def __init__(self, limits: WorkerLimits, database: DuckDBPyConnection) -> None:
        self._limits = limits
        self.events = 0
        self.first_ms = self.newest_ms = -1
        self._unordered, self._steps, self._ahead = Occurrences(), Occurrences(), Occurrences()
        self._index = EventIndex(database)
        self._unit = "row"
        self._gaps: list[tuple[int, str]] = []
        self._pauses = [0] * 64  # how many by the bits of their length in ms
        self._last_ms = -1

    def add(self, row: LogRow) -> None:
        """Check the next event.

        Raises:
            InputFileError: The temporary folder has no room.
        """
        self.events += 1
        self._unit = row.unit
        is_step = self._last_ms >= 0 and abs(row.time_ms - self._last_ms) > _STEP_MS
        if is_step:
            self._steps.add(row.place, abs(row.time_ms - self._last_ms))
        self._last_ms = row.time_ms
        user = ""
        if row.recorded_ms >= 0 and row.time_ms > row.recorded_ms + self._limits.future_skew_ms:
            self._ahead.add(row.place, row.time_ms - row.recorded_ms)
        elif not is_step:  # an event with a wrong clock takes no part in the checks of order and pauses
            self._check_order(row)
            user = row.user
        self._index.add(row.number, row.key, row.content, user, row.time_ms, row.identifiers)

    def findings(self) -> list[Finding]:
        """Return the findings by check, after the last event."""
        found = self._unordered.findings(
            "order", "info", "{count} events are older than one before them, by up to {worst}",
            "nothing to do for a replay, which sorts; live each user's own order is what counts",
        )  # fmt: skip
        return [
            *found, *self._late_findings(), *self._duplicate_findings(), *self._gap_findings(), *self._clock_findings(),
            *self._cardinality_findings(),
        ]  # fmt: skip

    def cardinality(self) -> dict[str, int]:
        """Return how many different values each identifier has."""
        return {field: use.distinct for field, use in self._index.identifiers().items()}

    # --- order and gaps -----------------------------------------------------------------------------------------------------

    def _check_order(self, row: LogRow) -> None:
        if self.newest_ms < 0:
            self.first_ms = self.newest_ms = row.time_ms
        if row.time_ms < self.newest_ms:
            self._unordered.add(row.place, self.newest_ms - row.time_ms)
            self.first_ms = min(self.first_ms, row.time_ms)
        elif (pause_ms := row.time_ms - self.newest_ms) > 0:
            self._pauses[pause_ms.bit_length()] += 1
            if pause_ms >= _LEAST_GAP_MS:
                self._gaps.append((pause_ms, row.place))
                self._gaps = sorted(self._gaps, reverse=True)[:1_000]
            self.newest_ms = row.time_ms

    def _late_findings(self) -> list[Finding]:
        if not self._unordered.count:
            return []
        lateness_ms = self._limits.allowed_lateness_ms
        late, worst_ms = self._index.late_events(lateness_ms)
        return self._occurrences(late, worst_ms).findings(
            "order", "warning",
            f"{{count}} events come more than the allowed lateness ({duration_text(lateness_ms)}) after a newer one of their "
            "user, by up to {worst}: a worker would send them to late-events",
            "sort the log by time before importing it, or raise features.allowed_lateness_ms",
        )  # fmt: skip

    def _duplicate_findings(self) -> list[Finding]:
        repeated, reused = self._index.repeats()
        return self._pairs(repeated).findings(
            "duplicates", "warning", "{count} events are there twice (same topic, id, user and time)",
            "find out why they were sent again: Millrace answers the second with the first one's answers, other tools count it",
        ) + self._pairs(reused).findings(
            "duplicates", "warning", "{count} events have the id of another event (same topic, another user or time)",
            "give every event an id of its own: answers and labels are joined by it",
        )  # fmt: skip

    def _occurrences(self, matches: Matches, worst_ms: int = 0) -> Occurrences:
        return Occurrences(matches.total, [f"{self._unit} {number}" for number, _ in matches.first], worst_ms)

    def _pairs(self, matches: Matches) -> Occurrences:
        places = [f"{self._unit} {number} (first: {self._unit} {first})" for number, first in matches.first]
        return Occurrences(matches.total, places)

    def _gap_findings(self) -> list[Finding]:
        """A pause is a gap if it is many times as long as nearly all are, and the log does not pause like that regularly."""
        pauses, below = sum(self._pauses), 0
        usual_ms = 0
        for bits, count in enumerate(self._pauses):
            below += count
            if below >= 0.99 * pauses:
                usual_ms = 1 << bits
                break
        gaps = [(ms, place) for ms, place in self._gaps if ms >= max(_LEAST_GAP_MS, _GAP_TIMES * usual_ms)]
        if not gaps or pauses < 50:
            return []
        days = max(1.0, (self.newest_ms - self.first_ms) / _DAY_MS)
        regular = len(gaps) >= 5 and len(gaps) >= 0.3 * days
        longest = ", ".join(f"{duration_text(ms)} before {place}" for ms, place in gaps[:3])
        return [
            Finding(
                "gaps", "info" if regular else "warning",
                f"{len(gaps):,} pauses without any event, where 99 of 100 last less than {duration_text(usual_ms)}; the longest: "
                f"{longest}",
                "the log pauses like that regularly" if regular else "find out whether data is missing there: features count it "
                "as silence",
                len(gaps), tuple(place for _, place in gaps[:PLACES]),
            )
        ]  # fmt: skip

    def _clock_findings(self) -> list[Finding]:
        in_order = self._unordered.count < _IN_ORDER * self.events
        action = "look for a wrong unit (seconds, ms), an unset clock (1970, 2000) or two logs in one file"
        if not in_order:
            action = "the log is in no order of time, so nothing can be said of its clocks: sort it, and look again"
        message = "{count} times the event time jumps by more than 180 days from one event to the next"
        found = self._steps.findings("clock", "warning" if in_order else "info", message, action)
        return found + self._ahead.findings(
            "clock", "warning",
            "{count} events happened after they were recorded, by up to {worst}, more than features.future_skew_ms "
            f"({duration_text(self._limits.future_skew_ms)}): a worker refuses them",
            "set the clock of who sent them, or check the unit of their times",
        )  # fmt: skip

    # --- cardinality --------------------------------------------------------------------------------------------------------

    def _cardinality_findings(self) -> list[Finding]:
        found: list[Finding] = []
        for field, matches in self._index.placeholders().items():
            found += self._occurrences(matches).findings(
                "cardinality", "warning", "{count} events have a " f"{field} that is a placeholder",
                f"leave {field} empty where it is not known: all of them would be taken for one {field}",
            )  # fmt: skip
        uses = self._index.identifiers()
        for field, use in uses.items():
            if use.events >= _FEWEST:
                found += _concentration(field, use)
        users = uses.get("user")
        if users is not None and users.events >= _FEWEST and users.distinct >= _LONELY_SHARE * users.events:
            message = f"{users.distinct:,} users in {users.events:,} events: nearly each one is alone"
            action = "check which column is the user: without a past there are no features"
            found.append(Finding("cardinality", "warning", message, action, users.events))
        return found


def _concentration(field: str, use: IdentifierUse) -> list[Finding]:
    value, share = use.most_frequent, use.top_share
    if use.distinct == 1:
        action = f"features of {field} say nothing here"
        return [Finding("cardinality", "info", f"{field} has one value only, {value!r}", action)]
    if field in ("user", "device", "payment_instrument") and share >= _BUSY_SHARE and use.distinct > 1 / _BUSY_SHARE:
        action = f"find out whether that is one {field}, a default or a robot"
        message = f"{share:.0%} of the events have the {field} {value!r}"
        return [Finding("cardinality", "warning", message, action, use.most_events)]
    return []


def leak_findings(
    columns: list[Column], time: TimeColumn | None, used: Callable[[str], bool] = lambda _column: True
) -> list[Finding]:
    """Return findings about columns that leak the label; those that feed no field of an event (`used`) may contain it."""
    from stream_app.profiling.leakage import warnings_of

    leaks = [
        warning
        for warning in warnings_of(columns, time.column if time is not None else None)
        if warning.about in ("predicts the label", "known later", "second label")
    ]
    proven = {leak.column for leak in leaks if leak.about == "predicts the label"}
    found = []
    for leak in leaks:
        if leak.about == "second label" and leak.column in proven:
            continue  # that it is named like a truth adds nothing
        level: Level = "warning" if used(leak.column) and leak.about != "second label" else "info"
        action = f"do not make a field of {leak.column}, unless it is known when the event happens"
        suffix = "" if used(leak.column) else " (no field of an event is made of it)"
        found.append(Finding("leakage", level, f"{leak.column} {leak.message}{suffix}", action))
    return found


def rows_from_columns(columns: list[Column], time: TimeColumn | None) -> Iterable[LogRow]:
    """Yield the rows of a table that is no log of events, by the roles of its columns."""
    entities = [column for column in columns if column.role == "entity"]
    row_id = next((column for column in columns if column.role == "row id"), None)
    user = next((column for column in entities if column.kind == "user"), None)
    for place in range(columns[0].rows if columns else 0):
        identifiers = {column.kind or column.name: _text(column, place) for column in entities}
        time_ms = -1 if time is None or time.column.time_ms is None else int(time.column.time_ms[place])
        content = " ".join(str(column.codes[place]) for column in columns)
        yield LogRow(
            "row", place + 1, time_ms, -1, _text(row_id, place) if row_id else content, content,
            _text(user, place) if user else "", identifiers,
        )  # fmt: skip


def _text(column: Column, place: int) -> str:
    code = int(column.codes[place])
    return str(column.values[code]) if code >= 0 else ""
