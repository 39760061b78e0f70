"""JSON Schemas (draft 2020-12) of the topics' payloads, generated from the msgspec types in `stream_app.events`.

A schema accepts what the decoder accepts. So unknown fields are allowed: a producer may be newer than the worker.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from stream_app.codec.topics import TopicSpec


def components(payloads: Sequence[type[msgspec.Struct]], ref_template: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of `payloads` and of the types within them, by type name; they refer to another as `#/$defs/{name}`."""
    _, schemas = msgspec.json.schema_components(payloads, ref_template=ref_template)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(schemas.items()))


def payload_schema(spec: TopicSpec) -> dict[str, Any]:
    """Return the schema of the topic's value as a document of its own, with the referenced types under `$defs`."""
    schemas = components([spec.payload], "#/$defs/{name}")
    own = schemas.pop(spec.payload.__name__)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{spec.name}.json", **own}
    if schemas:
        document["$defs"] = schemas
    return document
