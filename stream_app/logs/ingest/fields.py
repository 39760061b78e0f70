"""Check the field rules of a mapping against the type of the event, before a row is read.

The check reports misspelt fields, values outside a vocabulary, and required fields without a rule.
"""

from __future__ import annotations

import re
import typing
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from stream_app.codec.decode import EVENT_TYPES
from stream_app.events import Label

# topics that accept imports -> the type of their values
TARGETS: Final[dict[str, type[msgspec.Struct]]] = {**EVENT_TYPES, "labels": Label}
UNITS: Final = ("s", "ms", "us", "iso", "text")
PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_BUILT_IN: Final = {"row", "file"}  # names in a template that are not columns
_COLUMN_KEYS: Final = {"column", "map", "default", "unit", "format", "time_zone", "plus_ms"}


def field_problems(topic: object, fields: dict[str, Any]) -> list[str]:
    """Return the problems of the field rules of one record; an empty list if there are none."""
    if not isinstance(topic, str) or topic not in TARGETS:
        return [f"topic is {topic!r}; it is one of {', '.join(TARGETS)}"]
    return _struct_problems(TARGETS[topic], fields, topic)


def used_columns(rule: object) -> list[str]:
    """Return the distinct columns that a rule (or a table or list of rules) reads, in order."""
    columns: dict[str, None] = {}
    if isinstance(rule, str):
        columns.update(dict.fromkeys(name for name in PLACEHOLDER.findall(rule) if name not in _BUILT_IN))
    elif isinstance(rule, list):
        for part in rule:
            columns.update(dict.fromkeys(used_columns(part)))
    elif isinstance(rule, dict):
        named = rule.get("column", rule.get("each"))  # the rules below `each` read the columns of its objects
        parts = list(rule.values()) if named is None else [f"{{{named}}}"]
        for part in parts:
            columns.update(dict.fromkeys(used_columns(part)))
    return list(columns)


def _struct_problems(kind: type[msgspec.Struct], fields: dict[str, Any], place: str) -> list[str]:
    types = typing.get_type_hints(kind, include_extras=True)
    required = [field.name for field in msgspec.structs.fields(kind) if field.required]
    problems = [f"{place} has no field `{name}`; it has {', '.join(sorted(types))}" for name in fields if name not in types]
    problems += [f"{place} needs a rule for `{name}`" for name in required if name not in fields]
    for name, rule in fields.items():
        if name in types:
            problems += _rule_problems(types[name], rule, f"{place}.{name}")
    return problems


def _rule_problems(kind: Any, rule: object, place: str) -> list[str]:  # noqa: ANN401 (a type, as typing gives it)
    if isinstance(rule, list):
        line = _struct_in(kind)
        if line is None or not all(isinstance(part, dict) for part in rule):
            return [] if _converts(rule, kind, place) == [] else [f"{place} takes no list"]
        return [problem for part in rule for problem in _struct_problems(line, part, place)]
    if isinstance(rule, dict):
        return _each_problems(kind, rule, place) if "each" in rule else _column_problems(kind, rule, place)
    if isinstance(rule, str) and PLACEHOLDER.search(rule):
        return []
    return _converts(rule, kind, place)


def _each_problems(kind: Any, rule: dict[str, Any], place: str) -> list[str]:  # noqa: ANN401
    line = _struct_in(kind)
    if line is None:
        return [f"{place} takes no list, so it can have no `each`"]
    if not isinstance(rule["each"], str):
        return [f'{place} has each = {rule["each"]!r}; it names the column that holds a list of objects, as each = "basket"']
    return _struct_problems(line, {name: part for name, part in rule.items() if name != "each"}, place)


def _column_problems(kind: Any, rule: dict[str, Any], place: str) -> list[str]:  # noqa: ANN401
    problems = [
        f"{place} has an unknown key `{key}`; known are {', '.join(sorted(_COLUMN_KEYS))}"
        for key in rule
        if key not in _COLUMN_KEYS
    ]
    if not isinstance(rule.get("column"), str):
        problems.append(f"{place} is a table without `column`")
    if rule.get("unit", "s") not in UNITS:
        problems.append(f"{place} has the unit {rule['unit']!r}; it is one of {', '.join(UNITS)}")
    if ("format" in rule) != (rule.get("unit") == "text") or not isinstance(rule.get("format", ""), str):
        problems.append(f'{place}: unit = "text" and format go together, as in unit = "text", format = "%m/%d/%Y %H:%M"')
    if "time_zone" in rule:
        problems += _zone_problems(rule["time_zone"], place)
    if not isinstance(rule.get("plus_ms", 0), int):
        problems.append(f"{place} has plus_ms = {rule['plus_ms']!r}; it is a whole number of milliseconds")
    values = rule.get("map", {})
    if not isinstance(values, dict):
        return [*problems, f'{place} has a map that is no table, as {{ pv = "view" }}']
    for value in [*values.values(), *([rule["default"]] if "default" in rule else [])]:
        problems += _converts(value, kind, place)
    return problems


def _zone_problems(name: object, place: str) -> list[str]:
    try:
        ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError):
        return [f'{place} has an unknown time_zone {name!r}; examples are "UTC", "Asia/Shanghai"']
    return []


def _converts(value: object, kind: Any, place: str) -> list[str]:  # noqa: ANN401
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as err:
        return [f"{place} = {value!r} is not allowed: {err}"]
    return []


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:  # noqa: ANN401
    """Return the struct inside an (annotated) list type, or None."""
    for part in typing.get_args(kind):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
        inner = _struct_in(part)
        if inner is not None:
            return inner
    return None
