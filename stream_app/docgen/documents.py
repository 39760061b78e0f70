"""The generated documents: their texts, the check that the files are fresh, and writing them.

Each text is a function of the code, so `millrace docs --check` in lint proves that the documents describe the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from stream_app.codec.topics import TOPICS
from stream_app.docgen.asyncapi import asyncapi_document
from stream_app.docgen.schemas import payload_schema
from stream_app.docgen.topics_page import topics_markdown
from stream_app.errors import ConfigError

_YAML_HEAD = "# Made from the types in stream_app/events.py by `millrace docs`; do not edit.\n"


class SettingRow(Protocol):
    """A setting; `stream_app.config.setting_docs` returns them."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def env(self) -> str: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def default(self) -> str: ...  # noqa: D102
    @property
    def bounds(self) -> str: ...  # noqa: D102
    @property
    def doc(self) -> str: ...  # noqa: D102


def generated_documents(settings: Sequence[SettingRow], partitions: int, replication: int, root: Path) -> dict[str, str]:
    """Return the text of every generated document, by path from the root of the checkout.

    Args:
        settings: The rows of docs/configuration.md.
        partitions: Partitions of every topic.
        replication: Replicas of every partition.
        root: The checkout, whose examples are in docs/topics.md.

    Raises:
        ConfigError: PyYAML is not installed.
    """
    documents = {
        "asyncapi.yaml": _YAML_HEAD + _yaml(asyncapi_document(partitions, replication)),
        "docs/topics.md": topics_markdown(root),
        "docs/configuration.md": settings_markdown(settings),
    }
    for spec in TOPICS:
        documents[f"docs/schemas/{spec.name}.json"] = json.dumps(payload_schema(spec), indent=2) + "\n"
    return documents


def settings_markdown(settings: Sequence[SettingRow]) -> str:
    """Return the page docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Made from `stream_app/config.py` by `millrace docs`; do not edit.",
        "",
        "Every setting is a key of a TOML file (the one that `MILLRACE_CONFIG` or `millrace --config` names, else",
        "`./millrace.toml`) and a variable `MILLRACE_<SECTION>_<KEY>`, which takes precedence. One error lists every",
        "wrong value and every unknown key. When neither `kafka.bootstrap` nor `redis.url` is set, the commands use the",
        "services that `millrace services up` started in the current folder. `millrace --settings` prints this list.",
    ]
    section = ""
    for row in settings:
        if row.key.split(".")[0] != section:
            section = row.key.split(".")[0]
            lines += ["", f"## `[{section}]`", "", "| key | variable | type | default | meaning |", "| --- " * 5 + "|"]
        kind = row.type + (f", {row.bounds}" if row.bounds else "")
        default = f"`{row.default}`" if row.default else "empty"
        lines.append(f"| `{row.key.split('.')[1]}` | `{row.env}` | {kind} | {default} | {row.doc} |")
    return "\n".join(lines) + "\n"


def stale_documents(root: Path, documents: Mapping[str, str]) -> list[str]:
    """Return one line for each document that is missing below `root` or differs, with the first line that differs."""
    differences = []
    for name, text in documents.items():
        path = root / name
        if not path.exists():
            differences.append(f"{name}: is missing")
            continue
        old, new = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
        if old != new:
            at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            differences.append(f"{name}:{at + 1}: has {_line(old, at)!r}, the code gives {_line(new, at)!r}")
    return differences


def write_documents(root: Path, documents: Mapping[str, str]) -> list[str]:
    """Write the documents that differ below `root`; return their names."""
    written = []
    for name, text in documents.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(name)
    return written


def _line(lines: Sequence[str], at: int) -> str:
    return lines[at] if at < len(lines) else "<end>"


def _yaml(tree: object) -> str:
    try:
        import yaml
    except ImportError as err:
        msg = "writing asyncapi.yaml needs PyYAML, which is not installed; install the extra `dev` (pip install '.[dev]')"
        raise ConfigError(msg) from err
    return yaml.safe_dump(tree, sort_keys=False, width=120, allow_unicode=True)
