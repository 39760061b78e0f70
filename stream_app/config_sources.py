"""Where settings are read from, and what is wrong with them: a TOML file, variables, the local services' state file.

It knows no setting by name beyond the addresses of the services; `config` gives it the keys, types and rules. It reads
no environment of its own. A problem is one line: the value, what is allowed, and the fix; secrets are never in it.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Secret", "SettingRule", "SourcedValues", "masked", "read_all"]

_PREFIX: Final = "MILLRACE_"
_CONFIG: Final = "MILLRACE_CONFIG"
_TYPE_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


class Secret:
    """A value that prints as stars everywhere; `reveal` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value in clear."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(********)"

    def __str__(self) -> str:
        return "********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(frozen=True, slots=True)
class SettingRule:
    """What a value must satisfy: bounds (inclusive), one of `choices`, a pattern over the whole text."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""

    def text(self) -> str:
        """Return the rule in words for a table; empty if there is none to show."""
        if self.choices:
            return " \\| ".join(f"`{choice}`" for choice in self.choices)
        return f"{self.low} to {self.high}" if self.low is not None else ""

    def broken_by(self, value: object) -> str:
        """Return what `value` should have been, or an empty string when it is right."""
        if isinstance(value, int | float):
            inside = self.low is None or self.high is None or self.low <= value <= self.high
            return "" if inside and math.isfinite(value) else f"between {self.low} and {self.high}"
        shown = value.reveal() if isinstance(value, Secret) else str(value)
        if self.choices and shown not in self.choices:
            return "one of " + ", ".join(self.choices)
        if self.pattern and not re.fullmatch(self.pattern, shown):
            return f"text that matches {self.pattern}"
        return ""


@dataclass(frozen=True, slots=True)
class SourcedValues:
    """A value that some source names, and which source that was."""

    value: Any
    origin: str


Rules = Mapping[str, tuple[type, SettingRule]]


def masked(text: str) -> str:
    """Return `text` with the password of a URL replaced by stars."""
    return re.sub(r"://([^:/@\s]*):[^@\s]*@", r"://\1:********@", text)


def read_all(
    environ: Mapping[str, str], file: Path | None, services_file: Path | None, rules: Rules
) -> tuple[dict[str, SourcedValues], list[str]]:
    """Return what the sources say, by "section.key" with the highest source winning, and every problem found."""
    problems: list[str] = []
    named = {**_from_toml(environ, file, rules, problems), **_from_environ(environ, rules, problems)}
    if services_file is not None and not {"kafka.bootstrap", "redis.url"} & named.keys():
        named = {**_from_services(services_file, problems), **named}
    return named, problems


def _from_environ(environ: Mapping[str, str], rules: Rules, problems: list[str]) -> dict[str, SourcedValues]:
    keys = {_PREFIX + key.replace(".", "_").upper(): key for key in rules}
    found = {}
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name == _CONFIG:
            continue
        if name not in keys:
            problems.append(f"{name}: no such setting; {_did_you_mean(name, [*keys, _CONFIG], 'unset it')}")
            continue
        kind, rule = rules[keys[name]]
        checked = _checked(_parsed(environ[name], kind), environ[name], name, kind, rule, problems)
        if checked is not None:
            found[keys[name]] = SourcedValues(checked, name)
    return found


def _from_toml(environ: Mapping[str, str], file: Path | None, rules: Rules, problems: list[str]) -> dict[str, SourcedValues]:
    named = file or (Path(environ[_CONFIG]) if environ.get(_CONFIG) else None)
    path = named or Path("millrace.toml")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is not None:
            problems.append(f"{path}: there is no such file; write it, or unset {_CONFIG}")
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        problems.append(f"{path}: cannot be read as TOML: {err}")
        return {}
    return _from_tree(tree, str(path), rules, problems)


def _from_tree(tree: Mapping[str, Any], origin: str, rules: Rules, problems: list[str]) -> dict[str, SourcedValues]:
    sections = sorted({key.split(".")[0] for key in rules})
    found = {}
    for section, table in tree.items():
        if section not in sections:
            problems.append(f"{origin}: [{section}]: no such section; {_did_you_mean(section, sections, 'remove it')}")
            continue
        if not isinstance(table, dict):
            problems.append(f"{origin}: {section} = {table!r}: is a section; write [{section}] and its keys below it")
            continue
        for name, value in table.items():
            key = f"{section}.{name}"
            if key not in rules:
                names = [other.split(".")[1] for other in rules if other.startswith(section + ".")]
                problems.append(f"{origin}: {key}: no such setting; {_did_you_mean(name, names, 'remove it')}")
                continue
            kind, rule = rules[key]
            checked = _checked(_typed(value, kind), value, f"{origin}: {key}", kind, rule, problems)
            if checked is not None:
                found[key] = SourcedValues(checked, origin)
    return found


def _from_services(path: Path, problems: list[str]) -> dict[str, SourcedValues]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        values = {"kafka.bootstrap": str(tree["kafka"]["bootstrap"]), "redis.url": str(tree["redis"]["url"])}
        if tree.get("kind") == "embedded":
            values["kafka.client_api_version"] = "2.3"  # the embedded broker's newest protocol
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as err:
        problems.append(f"{path}: is no state of local services ({err!r}); remove it, or run `millrace services up`")
        return {}
    return {key: SourcedValues(value, str(path)) for key, value in values.items()}


def _parsed(text: str, kind: type) -> object:
    # A variable is text; the setting's type says how to read it. None: it cannot be read so.
    if kind is bool:
        return {"true": True, "false": False}.get(text.strip().lower())
    try:
        return kind(text.strip()) if kind in (int, float) else kind(text)
    except ValueError:
        return None


def _typed(value: object, kind: type) -> object:
    # TOML has types of its own: no bool for a number, no number for text; a whole number is a number too.
    if isinstance(value, bool) or kind is bool:
        return value if isinstance(value, bool) and kind is bool else None
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is Secret:
        return Secret(value) if isinstance(value, str) else None
    return value if isinstance(value, kind) else None


def _checked(value: object, given: object, name: str, kind: type, rule: SettingRule, problems: list[str]) -> object:
    # Returns the value, or None after noting what is wrong with it.
    if kind is Secret:
        if value is None or rule.broken_by(value):
            problems.append(f"{name}: must be text of at least 16 characters; set a longer one (the value is not shown)")
            return None
        return value
    wanted = _TYPE_WORDS[kind] if value is None else rule.broken_by(value)
    if wanted:
        problems.append(f"{name} = {masked(repr(given))}: must be {wanted}; set it to such a value or remove it")
        return None
    return value


def _did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"{otherwise}, or see `millrace --settings`"
