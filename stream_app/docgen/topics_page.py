"""The page docs/topics.md: each topic with its key, its fields with types and bounds, and an example."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from stream_app.codec.topics import TOPICS, TopicSpec
from stream_app.docgen.examples import example
from stream_app.docgen.schemas import payload_schema

_DAY_MS: Final = 86_400_000
_HEAD: Final = """# Topics

Made from the types in `stream_app/events.py` by `millrace docs`; do not edit. The same as [JSON Schemas](schemas/) and as
an [AsyncAPI document](../asyncapi.yaml).

Values are JSON in UTF-8. All topics have the same partition count (`kafka.partitions`), and a record is in the
partition of its user, so the answers to an event are in the partition of the event. No topic is compacted, so that each
can be replayed. Times are epoch milliseconds UTC. A record's timestamp is the broker's (`LogAppendTime`). Unknown fields
of a source event are ignored. Producers may compress batches with any codec of Kafka (gzip, snappy, lz4, zstd).

An **identifier** is 1 to 128 ASCII letters, digits or `._:@/+=~|-`; where the table says 0 to 128, an empty text means
"unknown". Every answer carries an `answer_id`, a function of the source event's topic, partition and offset: an answer
that is published twice has the same id and the same bytes, so drop repeats by topic and id.

A duplicate is an event that its producer sent twice: the same topic, `event_id` and `event_time_ms`, at two offsets. It is
counted once, and both records have answers, each with an id of its own. The answers to the second have the content of
the first's and a field `duplicate_of`, which no other answer has: the first's `answer_id`. A consumer that acts once for
an event (a fraud team with its alerts) skips answers with this field. The same id at another time is another event.
Once the first answers have expired, `duplicate_of` is `commit-<group>-<number>` and the content is new; see
[ADR 0009](adr/0009-duplicates.md).
"""
_ROLES: Final = {"source": "Source events", "answer": "Answers", "side": "Side topics"}


def topics_markdown() -> str:
    """Return the whole page."""
    lines = [_HEAD]
    for role, title in _ROLES.items():
        lines += [f"## {title}", ""]
        for spec in TOPICS:
            if spec.role == role:
                lines += _topic_lines(spec)
    return "\n".join(lines).rstrip() + "\n"


def _topic_lines(spec: TopicSpec) -> Iterator[str]:
    schema = payload_schema(spec)
    yield f"### `{spec.name}`"
    yield ""
    size = f" Largest record: {spec.max_message_bytes // 1_048_576} MB." if spec.max_message_bytes else ""
    yield f"{spec.description} Key: {spec.key}. Kept for {spec.retention_ms // _DAY_MS} days.{size}"
    yield ""
    yield from _table(schema)
    for name, part in schema.get("$defs", {}).items():
        yield f"`{name}`: {part['description']}"
        yield ""
        yield from _table(part)
    yield "```json"
    yield json.dumps(example(spec.name), indent=2)
    yield "```"
    yield ""


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    yield "| field | type | if missing |"
    yield "| --- | --- | --- |"
    for name, field in schema["properties"].items():
        missing = "refused" if name in required else f"`{json.dumps(field.get('default'))}`"
        yield f"| `{name}` | {_type_words(field)} | {missing} |"
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
