"""JSON Schemas (draft 2020-12) of the topics' payloads, generated from the msgspec types in `stream_app.events`.

A schema accepts what the decoder accepts. So unknown fields are allowed: a producer may be newer than the worker. The description
of a field is the text below it in the type's source.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec

from stream_app import events
from stream_app.codec.topics import TopicSpec


def components(payloads: Sequence[type[msgspec.Struct]], ref_template: str) -> dict[str, dict[str, Any]]:
    """Return the schemas of `payloads` and of the types within them, by type name; they refer to another as `#/$defs/{name}`."""
    _, schemas = msgspec.json.schema_components(payloads, ref_template=ref_template)
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        described = field_descriptions(getattr(events, name))
        schema["properties"] = {
            field: {**rest, "description": described[field]} if field in described else rest
            for field, rest in schema["properties"].items()
        }
    return dict(sorted(schemas.items()))


@cache
def field_descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text below each field of a type and of its bases, on one line each."""
    described: dict[str, str] = {}
    for parent in kind.__mro__:
        if issubclass(parent, msgspec.Struct) and parent is not msgspec.Struct:
            [body] = ast.parse(textwrap.dedent(inspect.getsource(parent))).body
            assert isinstance(body, ast.ClassDef)
            for field, below in pairwise(body.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        described.setdefault(name, " ".join(text.split()))
    return described


def payload_schema(spec: TopicSpec) -> dict[str, Any]:
    """Return the schema of the topic's value as a document of its own, with the referenced types under `$defs`."""
    schemas = components([spec.payload], "#/$defs/{name}")
    own = schemas.pop(spec.payload.__name__)
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{spec.name}.json", **own}
    if schemas:
        document["$defs"] = schemas
    return document
