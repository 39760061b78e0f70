from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml

from stream_app.codec.topics import TOPICS
from stream_app.docgen.asyncapi import asyncapi_document

DOCUMENT = asyncapi_document(8, 1)


def resolve(pointer: str) -> Any:
    value: Any = DOCUMENT
    for part in pointer.removeprefix("#/").split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_it_has_what_asyncapi_3_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"].keys() >= {"title", "version"}
    assert all(server.keys() >= {"host", "protocol"} for server in DOCUMENT["servers"].values())
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["channel"].keys() == {"$ref"}


def test_every_topic_is_a_channel_with_its_message_and_kafkas_bindings() -> None:
    assert list(DOCUMENT["channels"]) == [spec.name for spec in TOPICS]
    for spec in TOPICS:
        channel = DOCUMENT["channels"][spec.name]
        binding = channel["bindings"]["kafka"]
        assert channel["address"] == binding["topic"] == spec.name
        assert (binding["partitions"], binding["replicas"]) == (8, 1)
        assert binding["topicConfiguration"]["retention.ms"] == spec.retention_ms
        (message,) = (resolve(item["$ref"]) for item in channel["messages"].values())
        assert message["bindings"]["kafka"]["key"]["type"] == "string"
        assert message["payload"]["$ref"] == f"#/components/schemas/{spec.payload.__name__}"


def test_the_worker_receives_sources_and_labels_and_sends_the_rest() -> None:
    actions = {item["channel"]["$ref"].rpartition("/")[2]: item["action"] for item in DOCUMENT["operations"].values()}
    received = {name for name, action in actions.items() if action == "receive"}
    assert received == {"searches", "clicks", "orders", "labels"}
    assert actions.keys() == DOCUMENT["channels"].keys()


def test_every_reference_points_at_something() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 40
    for pointer in found:
        assert resolve(pointer)


def test_an_operations_messages_are_those_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for message in operation["messages"]:
            assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


def test_every_example_validates_against_its_message_within_the_document() -> None:
    for message in DOCUMENT["components"]["messages"].values():
        schema = {**message["payload"], "components": DOCUMENT["components"]}
        for shown in message["examples"]:
            jsonschema.Draft202012Validator(schema).validate(shown["payload"])


def test_it_survives_yaml() -> None:
    assert yaml.safe_load(yaml.safe_dump(DOCUMENT, sort_keys=False)) == DOCUMENT
