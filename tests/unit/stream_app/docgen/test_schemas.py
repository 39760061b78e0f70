from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest

from stream_app.codec.topics import TOPICS, TopicSpec
from stream_app.docgen.examples import EXAMPLES, example
from stream_app.docgen.schemas import payload_schema
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, SOURCE_TOPICS

BY_NAME = {spec.name: spec for spec in TOPICS}


def valid(name: str, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(payload_schema(BY_NAME[name])).is_valid(value))


def test_every_topic_of_the_events_stands_in_the_table_once_with_its_role() -> None:
    by_role = {"source": SOURCE_TOPICS, "answer": ANSWER_TOPICS, "side": SIDE_TOPICS}
    for role, names in by_role.items():
        assert tuple(spec.name for spec in TOPICS if spec.role == role) == names
    assert len({spec.payload for spec in TOPICS}) == len(TOPICS)


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.name)
def test_a_schema_is_one_and_its_example_validates_and_decodes(spec: TopicSpec) -> None:
    schema = payload_schema(spec)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(example(spec.name))
    decoded = msgspec.json.decode(msgspec.json.encode(example(spec.name)), type=spec.payload)
    assert msgspec.json.encode(decoded) == msgspec.json.encode(EXAMPLES[spec.name])


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.name)
def test_a_schema_refuses_what_lacks_a_required_field(spec: TopicSpec) -> None:
    value = example(spec.name)
    for name in payload_schema(spec)["required"]:
        assert not valid(spec.name, {key: item for key, item in value.items() if key != name})


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("searches", {"query": "x" * 513}),
        ("searches", {"user": ""}),
        ("searches", {"user": "two words"}),
        ("searches", {"user": "newline-at-the-end\n"}),
        ("clicks", {"price": -0.01}),
        ("clicks", {"action": "hover"}),
        ("orders", {"lines": []}),
        ("orders", {"currency": "eur"}),
        ("orders", {"event_time_ms": 4_102_444_800_001}),
        ("labels", {"task": "churn"}),
    ],
)
def test_schema_and_decoder_refuse_the_same(topic: str, change: dict[str, Any]) -> None:
    value = {**example(topic), **change}
    assert not valid(topic, value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(value), type=BY_NAME[topic].payload)


def test_a_field_nobody_knows_is_ignored_by_both() -> None:
    value = {**example("clicks"), "campaign": "summer"}
    assert valid("clicks", value)
    msgspec.json.decode(msgspec.json.encode(value), type=BY_NAME["clicks"].payload)


def test_no_topic_is_compacted_and_retention_counts_from_the_brokers_clock() -> None:
    for spec in TOPICS:
        assert spec.configs()["cleanup.policy"] == "delete"
        assert spec.configs()["message.timestamp.type"] == "LogAppendTime"
    days = {spec.name: int(spec.configs()["retention.ms"]) / 86_400_000 for spec in TOPICS}
    assert (days["clicks"], days["fraud-alerts"], days["dead-letters"], days["labels"], days["journal"]) == (7, 7, 30, 400, 30)
    assert BY_NAME["dead-letters"].configs()["max.message.bytes"] == str(4 * 1024 * 1024)
