"""The page docs/topics.md: topics_guide.md, then each topic with its key, its fields with types and bounds, and an example."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stream_app.codec.topics import TOPICS, TopicSpec
from stream_app.docgen.examples import example
from stream_app.docgen.schemas import payload_schema

_DAY_MS: Final = 86_400_000
_GUIDE: Final = Path(__file__).with_name("topics_guide.md")
_EXAMPLE: Final = re.compile(r"^\{\{ (\S+) \}\}$", re.MULTILINE)  # a file of the checkout, in place of this line
_ROLES: Final = {"source": "Source events", "answer": "Answers", "side": "Side topics"}


def topics_markdown(root: Path) -> str:
    """Return the whole page: the guide, with the examples of the checkout at `root`, and every topic."""
    guide = _GUIDE.read_text(encoding="utf-8")
    lines = [_EXAMPLE.sub(lambda place: _example_lines(root / place[1]), guide)]
    for role, title in _ROLES.items():
        lines += [f"## {title}", ""]
        for spec in TOPICS:
            if spec.role == role:
                lines += _topic_lines(spec)
    return "\n".join(lines).rstrip() + "\n"


def _example_lines(path: Path) -> str:
    return f"```{path.suffix.removeprefix('.').replace('py', 'python')}\n{path.read_text(encoding='utf-8')}```"


def _topic_lines(spec: TopicSpec) -> Iterator[str]:
    schema = payload_schema(spec)
    yield f"### `{spec.name}`"
    yield ""
    size = f" Largest record: {spec.max_message_bytes // 1_048_576} MB." if spec.max_message_bytes else ""
    yield f"{spec.description} Key: {spec.key}. Kept for {spec.retention_ms // _DAY_MS} days.{size}"
    yield ""
    written = spec.role != "source" and spec.name != "labels"
    yield from _table(schema, written=written)
    for name, part in schema.get("$defs", {}).items():
        yield f"`{name}`: {part['description']}"
        yield ""
        yield from _table(part, written=written)
    yield "```json"
    yield json.dumps(example(spec.name), indent=2)
    yield "```"
    yield ""


def _table(schema: Mapping[str, Any], *, written: bool) -> Iterator[str]:
    """Yield the table of a type's fields; `written`: by the worker, so that no field is ever refused."""
    required = set(schema.get("required", ()))
    yield "| field | type | if absent | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, field in schema["properties"].items():
        missing = ("never" if written else "refused") if name in required else f"`{json.dumps(field.get('default'))}`"
        yield f"| `{name}` | {_type_words(field)} | {missing} | {field.get('description', '')} |"
    yield ""


def _type_words(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return f"`{field['$ref'].rpartition('/')[2]}`"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type_words(choice) for choice in field["anyOf"])
    if field.get("contentEncoding") == "base64":
        return "bytes, base64"
    kind = field.get("type")
    if kind is None:
        return "the original JSON"
    words = {"array": _array_words, "object": _object_words, "string": _string_words}.get(kind)
    return words(field) if words else kind + _bounds(field, "minimum", "maximum")


def _string_words(field: Mapping[str, Any]) -> str:
    pattern = str(field.get("pattern", "")).removeprefix("^").removesuffix(r"(?![\s\S])").replace("|", "\\|")
    return "text" + _bounds(field, "minLength", "maxLength", " characters") + (f", `{pattern}`" if pattern else "")


def _array_words(field: Mapping[str, Any]) -> str:
    if "prefixItems" in field:
        return "pair of " + " and ".join(_type_words(item) for item in field["prefixItems"])
    return "list" + _bounds(field, "minItems", "maxItems", " items") + " of " + _type_words(field["items"])


def _object_words(field: Mapping[str, Any]) -> str:
    return "object of " + _type_words(field["additionalProperties"])


def _bounds(field: Mapping[str, Any], low: str, high: str, unit: str = "") -> str:
    if high not in field:
        return f", at least {field[low]}{unit}" if low in field else ""
    return f", {field.get(low, 0):g} to {field[high]:g}{unit}" if field[high] < 1e6 else f", up to {field[high]:,}{unit}"
