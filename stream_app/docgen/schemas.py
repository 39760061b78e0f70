"""JSON Schemas of the topics' payloads, made from the msgspec types: a bound stands in `stream_app.events` alone.

Draft 2020-12. A schema says what the decoder accepts, so unknown fields are allowed: a producer may be ahead of us.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from stream_app.codec.topics import TopicSpec

__all__ = ["components", "payload_schema"]


def components(payloads: Sequence[type[msgspec.Struct]], ref_template: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of `payloads` and of all they hold, by type name.

    Args:
        payloads: Struct types.
        ref_template: How one schema points at another, as `#/$defs/{name}`.
    """
    _, schemas = msgspec.json.schema_components(payloads, ref_template=ref_template)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return dict(sorted(schemas.items()))


def payload_schema(spec: TopicSpec) -> dict[str, Any]:
    """Return the schema of the topic's value as a document of its own, with what it refers to under `$defs`."""
    schemas = components([spec.payload], "#/$defs/{name}")
    own = schemas.pop(spec.payload.__name__)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{spec.name}.json", **own}
    if schemas:
        document["$defs"] = schemas
    return document
