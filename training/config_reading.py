"""From TOML to checked values of dataclasses, with every problem found. It knows no key by name.

A field's type says what its value may be; `field(metadata={"rule": Rule(...)})` says more. A problem is one line: key, value,
what is allowed.
"""

from __future__ import annotations

import difflib
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from stream_app.errors import ConfigError

__all__ = ["OptionRule", "Reader", "closest", "read_file"]

_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class OptionRule:
    """What a value must satisfy: bounds (inclusive), or one of `choices`."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def broken_by(self, value: Any) -> str:  # noqa: ANN401
        """Return what `value` should have been, or an empty string when it is right."""
        if self.choices and value not in self.choices:
            return "one of " + ", ".join(self.choices)
        if isinstance(value, int | float):
            if not math.isfinite(value):
                return "a finite number"
            if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
                return f"between {self.low} and {self.high}"
        return ""


def read_file(path: Path) -> dict[str, Any]:
    """Return the tree of a TOML file.

    Raises:
        ConfigError: It cannot be read as TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read as TOML: {err}") from err


def closest(name: str, names: Iterable[str]) -> str:
    """Return a hint: the name that was probably meant, or all there are."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"


@dataclass(frozen=True)
class Reader:
    """Reads sections into values and keeps a list of what is wrong with them."""

    problems: list[str]

    @staticmethod
    def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return `tree` with `changes`, by dotted key; text among them is read as a TOML value, or taken as it is."""
        result = _copied(tree)
        for key, value in changes.items():
            *sections, name = key.split(".")
            place = result
            for section in sections:
                if not isinstance(place.get(section), dict):
                    place[section] = {}
                place = place[section]
            place[name] = _parsed(value) if isinstance(value, str) else value
        return result

    def sections(self, tree: Mapping[str, Any], names: list[str]) -> None:
        """Find sections that there are not."""
        self.problems.extend(f"[{name}]: no such section; {closest(name, names)}" for name in tree if name not in names)

    def table(self, tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """Return the section, empty if it is not there or no section."""
        found = tree.get(name, {})
        if not isinstance(found, Mapping):
            self.problems.append(f"{name} = {found!r}: is a section; write [{name}] and its keys below it")
            return {}
        return found

    def tables(self, tree: Mapping[str, Any], name: str, where: str = "") -> dict[str, Mapping[str, Any]]:
        """Return the sections within a section."""
        where = where or name
        section = self.table(tree, name)
        wrong = [key for key, value in section.items() if not isinstance(value, Mapping)]
        self.problems.extend(f"{where}.{key} = {section[key]!r}: is a section; write [{where}.{key}]" for key in wrong)
        return {key: value for key, value in section.items() if key not in wrong}

    def values(self, of: Any, given: Mapping[str, Any], where: str, only: set[str] | None = None) -> dict[str, Any]:  # noqa: ANN401
        """Return those of `given` that are right for the dataclass `of`, in the types of its fields.

        Args:
            of: a dataclass.
            given: values by name of field.
            where: what stands before a key in a problem.
            only: the fields that may be given; None for all.
        """
        hints = get_type_hints(of)
        known = {
            field.name: field.metadata.get("rule", OptionRule()) for field in fields(of) if only is None or field.name in only
        }
        good = {}
        for name, value in given.items():
            if name not in known:
                self.problems.append(f"{where}.{name}: no such key; {closest(name, known)}")
                continue
            fitted, wanted = _fitted(value, hints[name])
            wanted = wanted or known[name].broken_by(fitted)
            if wanted:
                self.problems.append(f"{where}.{name} = {value!r}: must be {wanted}")
            else:
                good[name] = fitted
        return good


def _fitted(value: Any, hint: Any) -> tuple[Any, str]:  # noqa: ANN401
    """Return the value in the type of `hint`, and what it should have been when it does not fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or origin in {Mapping, dict}:
        return value, ""
    if origin is Literal:
        return value, "" if value in arguments else "one of " + ", ".join(map(str, arguments))
    if origin in {Union, types.UnionType}:
        tries = [_fitted(value, part) for part in arguments if part is not type(None)]
        exact = [fit for fit in tries if not fit[1] and type(fit[0]) is type(value)]
        return next(iter([*exact, *[fit for fit in tries if not fit[1]], *tries]))
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return value, "a list"
        fitted = [_fitted(part, arguments[0]) for part in value]
        wrong = next((wanted for _, wanted in fitted if wanted), "")
        return tuple(part for part, _ in fitted), f"a list, each {wrong}" if wrong else ""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value), ""
    return value, "" if type(value) is hint else _WORDS.get(hint, str(hint))


def _parsed(text: str) -> Any:  # noqa: ANN401
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
