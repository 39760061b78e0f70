"""Where settings come from: a TOML file, variables of the environment, the state file of the local services.

A source has a tree, {section: {key: value}}; `config` validates it. Nothing here reads the environment of the process.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stream_app.reporting.validation_errors import ErrorStyle, closest

_PREFIX: Final = "MILLRACE_"
_CONFIG: Final = "MILLRACE_CONFIG"
_FIX: Final = "; set it to such a value or remove it"
_EMBEDDED_BROKER_VERSION: Final = "2.3"  # its newest protocol

Kinds = Mapping[tuple[str, str], Any]  # (section, key) -> type of the value
Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SettingSource:
    """The values of one source.

    Attributes:
        tree: The values by section and key; numbers and truth values of the environment as such.
        written: The same as the source has them, for messages.
        style: The spelling of keys in messages.
        problems: Problems of reading the source, one line each.
        file: The file; None: the environment.
    """

    tree: Tree
    written: Tree
    style: ErrorStyle
    problems: tuple[str, ...] = ()
    file: Path | None = None

    def has(self, section: str, name: str) -> bool:
        """Return whether the source names a key."""
        table = self.tree.get(section)
        return isinstance(table, Mapping) and name in table

    def origin(self, section: str, name: str) -> str:
        """Return the source of a value: the file, or the variable."""
        return str(self.file or variable(section, name))


def variable(section: str, name: str) -> str:
    """Return the name of a setting's variable."""
    return f"{_PREFIX}{section}_{name}".upper()


def read_sources(environ: Mapping[str, str], file: Path | None, services_file: Path | None, kinds: Kinds) -> list[SettingSource]:
    """Return the sources, the lowest first; the local services are one only where no other source names an address."""
    sources = [_toml_source(environ, file), _environ_source(environ, kinds)]
    if services_file is None or any(source.has("kafka", "bootstrap") or source.has("redis", "url") for source in sources):
        return sources
    return [_services_source(services_file), *sources]


def _toml_source(environ: Mapping[str, str], file: Path | None) -> SettingSource:
    chosen = file or (Path(environ[_CONFIG]) if environ.get(_CONFIG) else None)
    path = chosen or Path("millrace.toml")
    try:
        return _file_source(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _file_source(path, {}, f"there is no such file; write it, or unset {_CONFIG}" if chosen is not None else "")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        return _file_source(path, {}, f"cannot be read as TOML: {err}")


def _environ_source(environ: Mapping[str, str], kinds: Kinds) -> SettingSource:
    keys = {variable(*key): key for key in kinds}
    tree: dict[str, dict[str, Any]] = {}
    written: dict[str, dict[str, str]] = {}
    problems = []
    for name, text in sorted(environ.items()):
        if name in keys and not re.search("[\ud800-\udfff]", text):
            section, key = keys[name]
            written.setdefault(section, {})[key] = text
            tree.setdefault(section, {})[key] = _parsed(text, kinds[section, key])
        elif name in keys:
            problems.append(f"{name}: must be text in UTF-8{_FIX}")
        elif name.startswith(_PREFIX) and name != _CONFIG:
            hint = closest(name, [*keys, _CONFIG], "unset it, or see `millrace --settings`")
            problems.append(f"{name}: no such setting; {hint}")
    return SettingSource(tree, written, ErrorStyle(lambda path: variable(*path), "setting", _FIX), tuple(problems))


def _services_source(path: Path) -> SettingSource:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        kafka = {"bootstrap": str(state["kafka"]["bootstrap"])}
        if state.get("kind") == "embedded":
            kafka["client_api_version"] = _EMBEDDED_BROKER_VERSION
        return _file_source(path, {"kafka": kafka, "redis": {"url": str(state["redis"]["url"])}})
    except FileNotFoundError:
        return _file_source(path, {})
    except (OSError, ValueError, KeyError, TypeError) as err:
        problem = f"is no state of local services ({err!r}); remove it, or run `millrace services up`"
        return _file_source(path, {}, problem)


def _file_source(path: Path, tree: Tree, problem: str = "") -> SettingSource:
    style = ErrorStyle(lambda keys: f"{path}: {'.'.join(keys)}", "setting", _FIX, "remove it, or see `millrace --settings`")
    return SettingSource(tree, tree, style, (f"{path}: {problem}",) if problem else (), path)


def _parsed(text: str, kind: Any) -> object:  # noqa: ANN401 (a type, or a Literal)
    # Text that is no such number or no truth value stays text, which validation refuses.
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.strip().lower()]
        return kind(text) if kind in (int, float) else text
    except (KeyError, ValueError):
        return text
