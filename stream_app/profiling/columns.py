"""Roles of a log's columns by their values and names: time, entity, measure, category, label, row id, text or constant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from stream_app.profiling.table_files import ColumnTable

Role = Literal["time", "entity", "measure", "category", "label", "row id", "text", "constant"]

# Words of a column's name -> the entity kind that it names.
ENTITY_WORDS: Final[dict[str, frozenset[str]]] = {
    "user": frozenset({"user", "customer", "client", "account", "member", "visitor", "buyer", "uid", "cc"}),
    "session": frozenset({"session", "visit", "sid"}),
    "device": frozenset({"device", "terminal", "fingerprint", "imei", "pos"}),
    "ip": frozenset({"ip", "ipaddress"}),
    "instrument": frozenset({"card", "iban", "instrument", "pan"}),
    "address": frozenset({"address", "shipto", "postcode", "zip"}),
    "item": frozenset({"item", "product", "sku", "article", "goods", "merchant", "asin"}),
    "category": frozenset({"category", "department", "mcc"}),
    "query": frozenset({"query", "keyword", "search", "term"}),
}
_ENDS: Final = frozenset({"id", "key", "number", "num", "no", "code", "hash"}).union(*ENTITY_WORDS.values())
_LABEL_WORDS: Final = frozenset(
    {"label", "fraud", "isfraud", "class", "target", "y", "chargeback", "converted", "conversion", "revenue", "purchased",
     "churn", "returned", "outcome", "truth", "scenario", "spam", "bot"}
)  # fmt: skip
_TIME_WORDS: Final = frozenset({"time", "timestamp", "ts", "date", "datetime", "at", "when", "epoch", "seconds", "ms"})
_EVENT_TIME_WORDS: Final = frozenset({"event", "purchase", "transaction", "order", "click", "tx", "timestamp"})
_OTHER_TIME_WORDS: Final = frozenset(
    {"signup", "created", "birth", "updated", "label", "chargeback", "resolved", "known", "delivered", "refund", "registered"}
)
_MEASURE_WORDS: Final = frozenset(
    {"amount", "price", "value", "cost", "total", "quantity", "qty", "dwell", "duration", "age", "count"}
)
_FEW: Final = 64  # different values up to which a column is a category
_UNIQUE: Final = 0.98
_EPOCH_S: Final = (500_000_000, 4_102_444_800)  # 1985 to 2100
_EPOCH_UNITS: Final = (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_FORMATS: Final = (
    "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S", "%d/%b/%Y:%H:%M:%S %z", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d",
)  # fmt: skip


@dataclass(slots=True)
class Column:
    """One column of N rows.

    Attributes:
        name: As in the file.
        codes: (N,) int64, one code for each value, in order of appearance; -1 for an empty cell.
        numbers: (N,) float64, NaN for an empty cell; None for a column of other values.
        whole: Whether all its numbers are integers.
        values: The different values, by code.
        time_ms: (N,) int64 epoch ms, -1 for an empty cell; None for a column of other values.
        time_unit: How the time is written: s, ms, us, ns, ISO 8601, a format, or "s since the start".
        role: Its use.
        kind: The entity kind of the catalogue, by its name or by the mapping; empty if it has none.
    """

    name: str
    codes: NDArray[np.int64]
    numbers: NDArray[np.float64] | None
    whole: bool
    values: list[Any]
    time_ms: NDArray[np.int64] | None = None
    time_unit: str = ""
    role: Role = "text"
    kind: str = ""
    words: frozenset[str] = field(default_factory=frozenset)

    @property
    def distinct(self) -> int:
        """How many different values it has."""
        return len(self.values)

    @property
    def filled(self) -> int:
        """How many rows have a value."""
        return int((self.codes >= 0).sum())

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """The column of the event time, and whether its times ascend."""

    column: Column
    ascending: bool


def inspect_columns(
    table: ColumnTable,
    label: str = "",
    kinds: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = lambda _columns: None,
) -> list[Column]:
    """Return the columns with their roles.

    Without its name the label is found by words of names. `kinds` is column -> entity kind, from a mapping. `on_progress` is
    called after each column.
    """
    columns = []
    for name, values in zip(table.names, table.columns, strict=True):
        column = _column(name, values)
        column.kind = (kinds or {}).get(name) or _kind_of(name)
        _find_time(column, declared=name in table.times)
        column.role = "label" if name == label else _role(column, headless=table.headless, mapped=name in (kinds or {}))
        columns.append(column)
        on_progress(len(columns))
    return columns


def time_column(columns: list[Column], name: str = "") -> TimeColumn | None:
    """Choose the column of the event time; None if no column is a time.

    Raises:
        ConfigError: There is no such column, or it holds no times.
    """
    times = [column for column in columns if column.time_ms is not None]
    if name:
        chosen = next((column for column in times if column.name == name), None)
        if chosen is None:
            raise ConfigError(
                f"--time {name}: that column holds no times that are understood, or is not there; the file has "
                f"{', '.join(column.name for column in columns)}, of which {', '.join(c.name for c in times) or 'none'} are times"
            )
        return TimeColumn(chosen, _ascending(chosen))
    if not times:
        return None

    def score(column: Column) -> tuple[int, int, int]:
        words = column.words
        return (
            bool(words & _EVENT_TIME_WORDS) - bool(words & _OTHER_TIME_WORDS),
            int(_ascending(column)),
            column.filled,
        )

    best = max(times, key=score)
    return TimeColumn(best, _ascending(best))


def _column(name: str, values: list[Any]) -> Column:
    known: dict[Any, int] = {}
    codes = np.fromiter(
        (-1 if v is None or v == "" or _is_nan(v) else known.setdefault(v, len(known)) for v in values), np.int64, len(values)
    )
    different = list(known)
    numbers = _numbers(different)
    column = Column(name, codes, None, False, different, words=frozenset(_words(name)))
    if numbers is not None:
        column.whole = bool(np.all(numbers == np.rint(numbers)))
        column.numbers = np.where(codes >= 0, numbers[codes], np.nan)
    return column


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _words(name: str) -> list[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+", spaced.lower())


def _kind_of(name: str) -> str:
    """The entity kind of a name: `customer_id` and `user` have one, `user_agent` and `product_price` have none."""
    words = _words(name)
    if not words or words[-1] not in _ENDS:
        return ""
    return next((kind for kind, names in ENTITY_WORDS.items() if names & set(words)), "")


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """Return the values as numbers; None if one of them is no number. Booleans are no numbers."""
    if not values or any(isinstance(value, bool) for value in values[:100]):
        return None
    try:
        numbers = np.array(values, np.float64)
    except (ValueError, TypeError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _role(column: Column, *, headless: bool, mapped: bool) -> Role:
    words, distinct, filled = column.words, column.distinct, column.filled
    if distinct <= 1:
        return "constant"
    if not mapped and words & _LABEL_WORDS and distinct <= _FEW:
        return "label"
    if column.time_ms is not None:
        return "time"
    continuous = column.numbers is not None and not column.whole
    if distinct >= _UNIQUE * filled and filled >= 100 and (not continuous or column.kind) and not words & _MEASURE_WORDS:
        return "row id"
    if column.kind and (distinct > _FEW or mapped):
        return "entity"
    if distinct <= _FEW and not (continuous or words & _MEASURE_WORDS):
        return "category"
    if column.numbers is not None:
        return "entity" if column.whole and (headless or "id" in words or "key" in words) else "measure"
    lengths = [len(str(value)) for value in column.values[:1_000]]
    prose = sum(" " in str(value) for value in column.values[:1_000]) > len(lengths) / 2 and np.mean(lengths) > 20
    return "text" if prose or distinct < 2 else "entity"


# --- times -----------------------------------------------------------------------------------------------------------------


def _ascending(column: Column) -> bool:
    assert column.time_ms is not None
    known = column.time_ms[column.time_ms >= 0]
    return bool(len(known) > 1 and (np.diff(known) >= 0).mean() > 0.98)


def _find_time(column: Column, *, declared: bool) -> None:
    if column.distinct < 2:
        return
    if declared:
        assert column.numbers is not None
        _set_time(column, column.numbers, "ms")
    elif column.numbers is not None:
        _find_epoch(column, column.numbers)
    elif isinstance(column.values[0], str):
        _find_text_time(column)


def _set_time(column: Column, ms: NDArray[np.float64], unit: str) -> None:
    column.time_ms = np.where(np.isnan(ms), -1, ms).astype(np.int64)
    column.time_unit = unit


def _find_epoch(column: Column, numbers: NDArray[np.float64]) -> None:
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    named, steps = bool(column.words & _TIME_WORDS), np.diff(numbers[~np.isnan(numbers)])
    sorted_share = float((steps >= 0).mean()) if len(steps) else 0.0
    for unit, scale in _EPOCH_UNITS:
        if _EPOCH_S[0] * scale <= low and high <= _EPOCH_S[1] * scale:
            if named or sorted_share > 0.98:
                _set_time(column, numbers * (1_000.0 / scale), unit)
            return
    if named and column.whole and low >= 0 and sorted_share > 0.98 and high > 1_000:
        _set_time(column, numbers * 1_000.0, "s since the start")


def _find_text_time(column: Column) -> None:
    values = column.values
    probe = values[:: max(1, len(values) // 200)]
    if not re.search(r"\d", str(probe[0])):
        return
    for form_name, read in (("ISO 8601", datetime.fromisoformat), *((form, _reader(form)) for form in _FORMATS)):
        try:
            for value in probe:  # most forms fail here, before a long column is read
                read(value)
            by_value = np.array([_epoch_ms(read(value)) for value in values], np.float64)
        except (ValueError, TypeError):
            continue
        _set_time(column, np.where(column.codes >= 0, by_value[column.codes], np.nan), form_name)
        return


def _reader(form: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set in _epoch_ms


def _epoch_ms(moment: datetime) -> float:
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000
