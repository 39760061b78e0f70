from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from kafka.errors import TopicAlreadyExistsError
from rich.console import Console

from stream_app.admin.broker import TopicState, version_option
from stream_app.admin.topics import create_topics, differences, plan_topics
from stream_app.admin.topics_table import topics_table
from stream_app.errors import ContractError

BROKERS_OWN = {"max.message.bytes": "1048588", "cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}


class StubAdmin:
    """An admin client over a dict of topics, with the answers' shapes of kafka-python 3."""

    def __init__(self, topics: dict[str, TopicState] | None = None) -> None:
        self.topics = dict(topics or {})
        self.rival = False  # another process creates the topics just before we do

    def list_topics(self) -> list[str]:
        return [*self.topics, "__consumer_offsets"]

    def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "partitions": [{"replica_nodes": list(range(state.replication))}] * state.partitions}
            for name, state in self.topics.items()
            if name in names
        ]

    def describe_configs(self, resources: Sequence[Any], **_: object) -> dict[str, Any]:
        return {
            "topic": {
                resource.name: {key: {"value": value} for key, value in self.topics[resource.name].configs.items()}
                for resource in resources
            }
        }

    def create_topics(self, new: dict[str, dict[str, Any]]) -> None:
        for name, wanted in new.items():
            configs = {**BROKERS_OWN, **wanted["configs"]}
            self.topics[name] = TopicState(name, wanted["num_partitions"], wanted["replication_factor"], configs)
        if self.rival:
            raise TopicAlreadyExistsError("made by another process")

    def wait_for_topics(self, names: Sequence[str], **_: object) -> None:
        assert set(names) <= self.topics.keys()

    def alter_configs(self, resources: Sequence[Any]) -> None:
        for resource in resources:
            self.topics[resource.name].configs.update(resource.configs)


PLANS = plan_topics(8, prefix="t.")
NAMES = [plan.name for plan in PLANS]


def test_all_topics_are_created_with_the_same_partition_count() -> None:
    admin = StubAdmin()
    done = create_topics(admin, PLANS)
    assert done.created == NAMES
    assert done.differences == []
    assert {state.partitions for state in admin.topics.values()} == {8}


def test_creating_again_changes_nothing() -> None:
    admin = StubAdmin()
    create_topics(admin, PLANS)
    before = dict(admin.topics)
    done = create_topics(admin, PLANS)
    assert (done.created, done.existing, done.differences) == ([], sorted(NAMES), [])
    assert admin.topics == before


def test_only_what_is_missing_is_created() -> None:
    admin = StubAdmin()
    create_topics(admin, PLANS[:3])
    assert create_topics(admin, PLANS).created == NAMES[3:]


def test_another_partition_count_is_refused_before_anything_is_created() -> None:
    admin = StubAdmin()
    create_topics(admin, PLANS[:2])
    with pytest.raises(ContractError, match=r"kafka\.partitions is 4, but t\.searches, t\.clicks have 8") as caught:
        create_topics(admin, plan_topics(4, prefix="t."))
    assert "Operator action:" in str(caught.value)
    assert list(admin.topics) == NAMES[:2]


def test_two_processes_may_create_at_the_same_time() -> None:
    admin = StubAdmin()
    admin.rival = True
    assert create_topics(admin, PLANS).differences == []


def test_settings_of_an_existing_topic_change_only_on_request() -> None:
    admin = StubAdmin({"t.clicks": TopicState("t.clicks", 8, 1, dict(BROKERS_OWN, **{"retention.ms": "1000"}))})
    done = create_topics(admin, PLANS)
    assert len(done.differences) == 2
    assert done.differences[0].startswith("t.clicks: retention.ms is 1000, should be 604800000; run")
    done = create_topics(admin, PLANS, update=True)
    assert (done.updated, done.differences) == (["t.clicks"], [])
    assert admin.topics["t.clicks"].configs["retention.ms"] == "604800000"


def test_each_difference_is_a_line_with_its_fix() -> None:
    plans = plan_topics(8, replication=3)[:3]
    states = {
        "searches": TopicState("searches", 8, 3, plans[0].configs),
        "clicks": TopicState("clicks", 4, 1, plans[1].configs),
    }
    found = differences(plans, states)
    assert [line.split(";")[0] for line in found] == [
        "clicks: has 4 partitions, configured are 8",
        "clicks: has 1 replicas, configured are 3",
        "orders: does not exist",
    ]
    assert all("; " in line for line in found)


def test_a_broker_that_does_not_tell_its_settings_is_not_accused() -> None:
    states = {plan.name: TopicState(plan.name, 8, 1, {}) for plan in PLANS}
    assert differences(PLANS, states) == []


def test_the_table_shows_what_is_missing_and_how_long_records_are_kept() -> None:
    console = Console(width=140, record=True)
    console.print(topics_table(["a", "b"], {"a": TopicState("a", 8, 1, PLANS[6].configs)}))
    text = console.export_text()
    assert "30 days" in text
    assert "4.0 MB" in text
    assert "missing" in text


def test_the_protocol_version_is_read_or_left_to_the_broker() -> None:
    assert (version_option(""), version_option("2.3")) == ({}, {"api_version": (2, 3)})
