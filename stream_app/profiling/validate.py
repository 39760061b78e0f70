"""Is a log fit to be imported, replayed and trained on? Checks over its events in the order of the file, in bounded memory.

Each check gives findings: what is wrong, how often, the first places, and what to do. A `warning` matters: figures from this log
would be wrong, or a worker would refuse some of it. An `info` is worth knowing. What makes a log useless is an `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stream_app.profiling.validate_counts import Busiest, Different, hash64
from stream_app.profiling.validate_findings import PLACES, Finding, Tally, lasting
from stream_app.profiling.validate_order import FarApart

if TYPE_CHECKING:
    from stream_app.events import Event
    from stream_app.profiling.features_columns import Column, TimeColumn

__all__ = ["Limits", "LogChecks", "Row", "leak_findings", "row_of"]

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_LEAST_GAP_MS: Final = 6 * _HOUR_MS  # shorter ones are nights
_GAP_TIMES: Final = 16  # as long as 99 of 100 pauses, so many times over
_FEWEST: Final = 200  # events below which shares say nothing
_BUSY_SHARE: Final = 0.2  # of all events: no person does a fifth of a shop's business
_LONELY_SHARE: Final = 0.95  # users by events: nearly each event is of a user of its own
_PLACEHOLDERS: Final = frozenset(
    {"null", "none", "nan", "unknown", "undefined", "n/a", "na", "anonymous", "guest", "test", "-1", "-"}
)
_IN_ORDER: Final = 0.2  # events older than one before them, beyond which a log is in no order at all
_STEP_MS: Final = 180 * _DAY_MS  # no log pauses for so long: a wrong unit or clock


@dataclass(frozen=True, slots=True)
class Row:
    """One event, as far as the checks go.

    Attributes:
        unit: What `number` counts: `line` or `row`.
        number: Where in the file it stands, from 1 on.
        time_ms: When it happened.
        recorded_ms: When it was recorded, -1 if nobody says.
        name: Tells it from other events; empty if it has no id.
        content: All of it: two events of one name and content are one event, sent twice.
        user: Whose it is; empty if unknown.
        entities: Identifiers by field, empty where it has none.
    """

    unit: str
    number: int
    time_ms: int
    recorded_ms: int
    name: str
    content: str
    user: str
    entities: dict[str, str]

    @property
    def place(self) -> str:
        """Where it stands, in the words of a person."""
        return f"{self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker would put up with: settings features.allowed_lateness_ms and features.future_skew_ms."""

    allowed_lateness_ms: int
    future_skew_ms: int


def row_of(event: Event, topic: str, place: tuple[str, int], recorded_ms: int) -> Row:
    """Return what the checks look at of one event; `place` is a unit and a number."""
    fields = ("user", "session", "device", "ip", "item", "payment_instrument", "shipping_address")
    entities = {name: getattr(event, name) for name in fields if hasattr(event, name)}
    return Row(
        *place, event.event_time_ms, recorded_ms, f"{topic} {event.event_id}", f"{event.user} {event.event_time_ms}",
        event.user, entities,
    )  # fmt: skip


class LogChecks:
    """All checks but that of leakage, over events in the order of the file. Use it as a context: it keeps files.

    Args:
        limits: What a worker puts up with.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.events = 0
        self.first_ms = self.newest_ms = -1
        self._unordered, self._steps, self._ahead = Tally(), Tally(), Tally()
        self._far_apart = FarApart(limits.allowed_lateness_ms)
        self._unit = "row"
        self._gaps: list[tuple[int, str]] = []
        self._pauses = [0] * 64  # how many by the bits of their length in ms
        self._last_ms = -1
        self._different: dict[str, Different] = {}
        self._busiest: dict[str, Busiest] = {}
        self._placeholders: dict[str, Tally] = {}

    def __enter__(self) -> LogChecks:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the files."""
        self._far_apart.__exit__()

    def see(self, row: Row) -> None:
        """Look at the next event.

        Raises:
            InputFileError: A temporary file cannot be written.
        """
        self.events += 1
        self._unit = row.unit
        stepped = self._last_ms >= 0 and abs(row.time_ms - self._last_ms) > _STEP_MS
        if stepped:
            self._steps.add(row.place, abs(row.time_ms - self._last_ms))
        self._last_ms = row.time_ms
        if row.recorded_ms >= 0 and row.time_ms > row.recorded_ms + self._limits.future_skew_ms:
            self._ahead.add(row.place, row.time_ms - row.recorded_ms)
        elif not stepped:  # a wrong clock says nothing of order and pauses
            self._in_time(row)
        if row.name:
            self._far_apart.name(row.number, row.name, row.content)
        for name, value in row.entities.items():
            if value:
                self._entity(name, value, row.place)

    def findings(self) -> list[Finding]:
        """Return what was found, by check; once, when all was seen."""
        found = self._unordered.finding(
            "order", "info", "{count} events are older than one before them, by up to {worst}",
            "nothing to do for a replay, which sorts; live each user's own order is what counts",
        )  # fmt: skip
        found += self._far_apart.findings(self._unit, in_order=not self._unordered.count)
        return [*found, *self._gap_findings(), *self._clock_findings(), *self._cardinality_findings()]

    # --- order and gaps -----------------------------------------------------------------------------------------------------

    def _in_time(self, row: Row) -> None:
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
        if row.user:
            self._far_apart.user(row.number, row.user, row.time_ms)

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
        longest = ", ".join(f"{lasting(ms)} before {place}" for ms, place in gaps[:3])
        return [
            Finding(
                "gaps", "info" if regular else "warning",
                f"{len(gaps):,} pauses without any event, where 99 of 100 last less than {lasting(usual_ms)}; the longest: "
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
        found = self._steps.finding("clock", "warning" if in_order else "info", message, action)
        return found + self._ahead.finding(
            "clock", "warning",
            "{count} events happened after they were recorded, by up to {worst}, more than features.future_skew_ms "
            f"({lasting(self._limits.future_skew_ms)}): a worker refuses them",
            "set the clock of who sent them, or check the unit of their times",
        )  # fmt: skip

    # --- cardinality --------------------------------------------------------------------------------------------------------

    def _entity(self, name: str, value: str, place: str) -> None:
        if name not in self._different:
            self._different[name], self._busiest[name] = Different(), Busiest()
        self._different[name].add(hash64(value))
        self._busiest[name].add(value)
        bare = value.lower().rsplit("-", 1)[-1] or "-"
        if value.lower() in _PLACEHOLDERS or (bare != value.lower() and bare in _PLACEHOLDERS and not bare.isdigit()):
            self._placeholders.setdefault(name, Tally()).add(place)

    def cardinality(self) -> dict[str, int]:
        """Return about how many different values each identifier has."""
        return {name: min(different.count(), self._busiest[name].total) for name, different in self._different.items()}

    def _cardinality_findings(self) -> list[Finding]:
        found: list[Finding] = []
        for name, tally in self._placeholders.items():
            found += tally.finding(
                "cardinality", "warning", "{count} events have a " f"{name} that is a word for none",
                f"leave {name} empty where it is not known: all of them would be taken for one {name}",
            )  # fmt: skip
        counts = self.cardinality()
        for name, different in counts.items():
            busiest, total = self._busiest[name], self._busiest[name].total
            value, share = busiest.first()
            if total < _FEWEST:
                continue
            if different == 1:
                found.append(
                    Finding(
                        "cardinality", "info", f"{name} has one value only, {value!r}", f"features of {name} say nothing here"
                    )
                )
            elif name in ("user", "device", "payment_instrument") and share >= _BUSY_SHARE and different > 1 / _BUSY_SHARE:
                found.append(
                    Finding("cardinality", "warning", f"{share:.0%} of the events have the {name} {value!r}",
                            f"find out whether that is one {name}, a default or a robot", round(share * total))
                )  # fmt: skip
        users = self._busiest.get("user")
        if users is not None and users.total >= _FEWEST and counts["user"] >= _LONELY_SHARE * users.total:
            found.append(
                Finding("cardinality", "warning", f"{counts['user']:,} users in {users.total:,} events: nearly each one is alone",
                        "check which column is the user: without a past there are no features", users.total)
            )  # fmt: skip
        return found


def leak_findings(
    columns: list[Column], time: TimeColumn | None, used: Callable[[str], bool] = lambda _column: True
) -> list[Finding]:
    """Return what gives the truth away among a log's columns.

    Args:
        columns: Of the first rows.
        time: The column of the event time.
        used: Whether events are made of a column; what only labels are made of, or nothing, may know the truth.
    """
    from stream_app.profiling.features_leaks import warnings_of

    told = [
        warned
        for warned in warnings_of(columns, time.column if time is not None else None)
        if warned.about in ("predicts the label", "known later", "second label")
    ]
    proven = {warned.column for warned in told if warned.about == "predicts the label"}
    found = []
    for warned in told:
        if warned.about == "second label" and warned.column in proven:
            continue  # that it is named like a truth adds nothing
        grave = used(warned.column) and warned.about != "second label"
        action = f"do not make a field of {warned.column}, unless it is known when the event happens"
        said = "" if used(warned.column) else " (no field of an event is made of it)"
        found.append(Finding("leakage", "warning" if grave else "info", f"{warned.column} {warned.message}{said}", action))
    return found


def rows_of(columns: list[Column], time: TimeColumn | None) -> Iterable[Row]:
    """Take the rows of a file that is no log of events as such, by what its columns look like."""
    entities = [column for column in columns if column.role == "entity"]
    named = next((column for column in columns if column.role == "row id"), None)
    user = next((column for column in entities if column.kind == "user"), None)
    for number in range(columns[0].rows if columns else 0):
        values = {column.kind or column.name: _text(column, number) for column in entities}
        when = -1 if time is None or time.column.time_ms is None else int(time.column.time_ms[number])
        content = " ".join(str(column.codes[number]) for column in columns)
        yield Row(
            "row", number + 1, when, -1, _text(named, number) if named else content, content,
            _text(user, number) if user else "", values,
        )  # fmt: skip


def _text(column: Column, number: int) -> str:
    code = int(column.codes[number])
    return str(column.values[code]) if code >= 0 else ""
