"""The AsyncAPI 3.0 document of all topics, as a tree: channels, operations, messages, schemas, Kafka's bindings.

Operations are those of the worker, as AsyncAPI requires: it receives source events and sends the rest. The document is a
function of `TOPICS` and the event types; addresses have no `kafka.topic_prefix`.
"""

from __future__ import annotations

from typing import Any, Final

from stream_app import __version__
from stream_app.codec.topics import TOPICS, TopicSpec
from stream_app.docgen.examples import example
from stream_app.docgen.schemas import components

_BINDING_VERSION: Final = "0.5.0"  # of AsyncAPI's Kafka bindings
_READ_SIDE: Final = ("labels",)  # truths come from outside; every other side topic is written by the worker


def asyncapi_document(partitions: int, replication: int) -> dict[str, Any]:
    """Return the document for topics of `partitions` and `replication`, ready to be written as YAML or JSON."""
    schemas = components([spec.payload for spec in TOPICS], "#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millrace",
            "version": __version__,
            "description": "Shop events in; fraud alerts, intents and recommendation candidates out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "The setting kafka.bootstrap."}},
        "channels": {spec.name: _channel(spec, partitions, replication) for spec in TOPICS},
        "operations": {_operation_name(spec): _operation(spec) for spec in TOPICS},
        "components": {
            "messages": {spec.payload.__name__: _message(spec) for spec in TOPICS},
            "schemas": schemas,
        },
    }


def _channel(spec: TopicSpec, partitions: int, replication: int) -> dict[str, Any]:
    name = spec.payload.__name__
    configuration: dict[str, Any] = {"cleanup.policy": ["delete"], "retention.ms": spec.retention_ms}
    if spec.max_message_bytes:
        configuration["max.message.bytes"] = spec.max_message_bytes
    return {
        "address": spec.name,
        "description": spec.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": partitions,
                "replicas": replication,
                "topicConfiguration": configuration,
                "bindingVersion": _BINDING_VERSION,
            }
        },
    }


def _received(spec: TopicSpec) -> bool:
    return spec.role == "source" or spec.name in _READ_SIDE


def _operation_name(spec: TopicSpec) -> str:
    words = "".join(part.capitalize() for part in spec.name.split("-"))
    return ("receive" if _received(spec) else "send") + words


def _operation(spec: TopicSpec) -> dict[str, Any]:
    return {
        "action": "receive" if _received(spec) else "send",
        "channel": {"$ref": f"#/channels/{spec.name}"},
        "summary": spec.description,
        "messages": [{"$ref": f"#/channels/{spec.name}/messages/{spec.payload.__name__}"}],
    }


def _message(spec: TopicSpec) -> dict[str, Any]:
    name = spec.payload.__name__
    return {
        "name": name,
        "title": name,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": spec.key}, "bindingVersion": _BINDING_VERSION},
        },
        "examples": [{"name": spec.name, "payload": example(spec.name)}],
    }
