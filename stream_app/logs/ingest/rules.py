"""Compile the field rules of a mapping to functions of a row, once per file, so that a row needs no parsing of rules.

A rule raises InvalidEventError with a readable reason when the row does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from stream_app.errors import InvalidEventError
from stream_app.logs.ingest.fields import PLACEHOLDER, used_columns

Cells = Sequence[Any]  # texts of a CSV row, or values of a Parquet row or a JSON line; None for a missing value
Rule = Callable[[Cells, int], object]  # arguments: the cells, and the row's number from 1

_SCALE: Final = {"s": 1_000, "ms": 1, "us": 0.001}


def text_of(value: Any) -> str:  # noqa: ANN401 (a cell, or a value of a mapping)
    """Return the text of a value for `where`, `map` and templates; booleans become `true` or `false`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def value_at(fields: dict[str, Any], name: str, path: Sequence[str]) -> Any:  # noqa: ANN401 (any JSON)
    """Return the value at a dotted name, or None; a field whose own name contains the dots takes precedence.

    Args:
        fields: A JSON object.
        name: A name such as `user.id`, or `tags.0` for the first entry of a list.
        path: The parts of the name.
    """
    value: Any = fields.get(name)
    if value is not None or len(path) == 1:
        return value
    value = fields
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def rule_from_spec(spec: object, index: dict[str, int], file: str) -> Rule:
    """Return the function of a checked rule.

    Args:
        spec: The rule: a template, a constant, the table of a column, a table of rules (with `each`: for each object of a list),
            or a list of rules.
        index: Column -> position in the cells.
        file: The value of `{file}`.
    """
    if isinstance(spec, str):
        return _template(spec, index, file)
    if isinstance(spec, list):
        parts = [rule_from_spec(part, index, file) for part in spec]
        return lambda cells, row: [part(cells, row) for part in parts]
    if isinstance(spec, dict):
        if "column" in spec:
            return _column(spec, index)
        if "each" in spec:
            return _each(spec, index, file)
        named = [(name, rule_from_spec(part, index, file)) for name, part in spec.items()]
        return lambda cells, row: {name: rule(cells, row) for name, rule in named}
    return lambda _cells, _row: spec


def _each(spec: dict[str, Any], index: dict[str, int], file: str) -> Rule:
    column = spec["each"]
    place = index[column]
    own = {name: part for name, part in spec.items() if name != "each"}
    used = used_columns(own)
    paths = [(name, name.split(".")) for name in used]
    rule = rule_from_spec(own, {name: at for at, name in enumerate(used)}, file)

    def of_each(cells: Cells, row: int) -> list[object]:
        objects = _filled(cells[place], column)
        if not isinstance(objects, list) or not all(isinstance(entry, dict) for entry in objects):
            raise InvalidEventError(f"column {column} holds no list of objects, but {str(objects)[:40]!r}")
        return [rule([value_at(entry, name, path) for name, path in paths], row) for entry in objects]

    return of_each


def _template(text: str, index: dict[str, int], file: str) -> Rule:
    parts = PLACEHOLDER.split(text.replace("{file}", file))  # text, name, text, name, ..., text
    if len(parts) == 1:
        return lambda _cells, _row: parts[0]
    if len(parts) == 3:  # one placeholder: nearly all of them
        before, name, after = parts
        if name == "row":
            return lambda _cells, row: f"{before}{row}{after}"
        place = index[name]
        return lambda cells, _row: f"{before}{_template_text(cells[place], name)}{after}"

    def fill(cells: Cells, row: int) -> str:
        return "".join(
            part if not number % 2 else str(row) if part == "row" else _template_text(cells[index[part]], part)
            for number, part in enumerate(parts)
        )

    return fill


def _template_text(value: Any, column: str) -> str:  # noqa: ANN401 (a cell)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise InvalidEventError(f"column {column} holds {kind}, and a template takes texts and numbers")
    return text_of(_filled(value, column))


def _filled(value: Any, column: str) -> Any:  # noqa: ANN401 (a cell)
    if value is None or value == "":
        raise InvalidEventError(f"column {column} is empty")
    return value


def _column(spec: dict[str, Any], index: dict[str, int]) -> Rule:
    column = spec["column"]
    place = index[column]
    convert = _converter(spec, column)
    if "default" not in spec:
        return lambda cells, _row: convert(_filled(cells[place], column))
    default = spec["default"]
    return lambda cells, _row: default if cells[place] is None or cells[place] == "" else convert(cells[place])


def _converter(spec: dict[str, Any], column: str) -> Callable[[Any], object]:
    if "map" in spec:
        return _mapped(spec["map"], column)
    if "unit" not in spec:
        return lambda value: value
    to_ms = _text_time(spec, column) if spec["unit"] in {"iso", "text"} else _number_time(spec, column)
    plus_ms = spec.get("plus_ms", 0)
    return lambda value: to_ms(value) + plus_ms


def _mapped(values: dict[str, Any], column: str) -> Callable[[Any], object]:
    def look_up(value: Any) -> object:  # noqa: ANN401 (a cell)
        mapped = values.get(text_of(value))
        if mapped is None:
            raise InvalidEventError(f"column {column}: {text_of(value)[:40]!r} is not in its map ({', '.join(values)})")
        return mapped

    return look_up


def _number_time(spec: dict[str, Any], column: str) -> Callable[[Any], int]:
    scale, zone = _SCALE[spec["unit"]], spec.get("time_zone")

    # A Parquet timestamp without a zone holds local time as if it were UTC.
    wall = None if zone is None else ZoneInfo(zone)

    def to_ms(value: Any) -> int:  # noqa: ANN401 (a cell)
        if isinstance(value, bool):  # Python would read it as 0 or 1
            raise InvalidEventError(f"column {column}: {str(value).lower()} is no time in {spec['unit']}")
        try:
            time_ms = round((float(value) if isinstance(value, float) or "." in str(value) else int(value)) * scale)
            return time_ms if wall is None else _epoch_ms(datetime.fromtimestamp(time_ms / 1_000, UTC).replace(tzinfo=wall))
        except (TypeError, ValueError, OverflowError, OSError) as err:
            raise InvalidEventError(f"column {column}: {str(value)[:40]!r} is no time in {spec['unit']}") from err

    return to_ms


def _text_time(spec: dict[str, Any], column: str) -> Callable[[Any], int]:
    zone = ZoneInfo(spec["time_zone"]) if "time_zone" in spec else None
    form = spec.get("format")
    meant = f"time of the format {form}" if form else "ISO time, as 2026-01-31 12:00:00"

    def to_ms(value: Any) -> int:  # noqa: ANN401 (a cell)
        try:
            moment = datetime.strptime(str(value), form) if form else datetime.fromisoformat(str(value))  # noqa: DTZ007 (below)
        except ValueError as err:
            raise InvalidEventError(f"column {column}: {str(value)[:40]!r} is no {meant}") from err
        if moment.tzinfo is None:
            if zone is None:
                raise InvalidEventError(f"column {column}: {str(value)[:40]!r} has no zone; give the rule a time_zone")
            moment = moment.replace(tzinfo=zone)
        return _epoch_ms(moment)

    return to_ms


def _epoch_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
