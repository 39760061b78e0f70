"""The planned topics, the existing topics, and the changes from these to those.

Every topic has the same partition count: one worker owns partition p of all source topics, and the store keeps the
position of each partition group beside its state. Changing the count would send a user's next events to another group,
which has none of the user's state; so an existing topic with another count is refused, never altered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stream_app.admin.broker import TopicState, connect, read_topics
from stream_app.codec.topics import TOPICS
from stream_app.errors import ContractError

_LOOK_AGAIN_S: Final = 0.1
_READY_MS: Final = 30_000  # a broker under load takes seconds to elect the leaders of 80 partitions


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as planned; `name` with its prefix."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


@dataclass(frozen=True, slots=True)
class CreatedTopics:
    """The result of `create_topics`: names, and the remaining differences of topics that existed before."""

    created: list[str]
    existing: list[str]
    updated: list[str]
    differences: list[str]


def plan_topics(partitions: int, replication: int = 1, prefix: str = "") -> list[TopicPlan]:
    """Return the plan of all topics, sources first."""
    return [TopicPlan(prefix + spec.name, partitions, replication, spec.configs()) for spec in TOPICS]


def differences(plans: Sequence[TopicPlan], states: Mapping[str, TopicState]) -> list[str]:
    """Return one line for each difference from the plan, with the fix; settings only where the broker reports them."""
    lines = []
    for plan in plans:
        state = states.get(plan.name)
        if state is None:
            lines.append(f"{plan.name}: does not exist; run `millrace topics create`")
            continue
        if state.partitions != plan.partitions:
            lines.append(
                f"{plan.name}: has {state.partitions} partitions, configured are {plan.partitions}; set "
                f"kafka.partitions to {state.partitions}, or use a new kafka.topic_prefix and redis.prefix"
            )
        if state.replication != plan.replication:
            lines.append(
                f"{plan.name}: has {state.replication} replicas, configured are {plan.replication}; set "
                "kafka.replication, or move the replicas with kafka-reassign-partitions.sh"
            )
        lines += [
            f"{plan.name}: {key} is {state.configs[key]}, should be {value}; run `millrace topics create --update`"
            for key, value in plan.configs.items()
            if key in state.configs and state.configs[key] != value
        ]
    return lines


def create_topics(admin: Any, plans: Sequence[TopicPlan], *, update: bool = False) -> CreatedTopics:  # noqa: ANN401
    """Create the topics that are missing and wait until they have leaders. Idempotent; blocks.

    Args:
        admin: A client from `stream_app.admin.broker.connect`.
        plans: From `plan_topics`.
        update: Also give existing topics the planned settings (retention and the like; never partitions).

    Raises:
        ContractError: An existing topic has another partition count. No topic is created then.
    """
    from kafka.errors import TopicAlreadyExistsError

    names = [plan.name for plan in plans]
    before = read_topics(admin, names)
    _refuse_other_counts(plans, before)
    missing = [plan for plan in plans if plan.name not in before]
    if missing:
        try:
            admin.create_topics({plan.name: _request(plan) for plan in missing})
        except TopicAlreadyExistsError:
            pass  # another process creates them at this moment; they are compared below
        admin.wait_for_topics([plan.name for plan in missing], timeout_ms=_READY_MS)
    updated = _update(admin, plans, before) if update else []
    after = read_topics(admin, names)
    _refuse_other_counts(plans, after)
    return CreatedTopics([plan.name for plan in missing], sorted(before), updated, differences(plans, after))


def require_topics(bootstrap: str, client_api_version: str, plans: Sequence[TopicPlan]) -> None:
    """Check that every topic exists with the planned partition count; a worker does so before it joins its group.

    Raises:
        BrokerUnavailableError: The broker does not answer.
        ContractError: A topic is missing or has another count: two workers could own one user, or answers lack a topic.
    """
    with connect(bootstrap, client_api_version) as admin:
        states = read_topics(admin, [plan.name for plan in plans], with_configs=False)
    counts = {plan.name: states[plan.name].partitions if plan.name in states else 0 for plan in plans}
    wrong = [f"{plan.name} has {counts[plan.name]}" for plan in plans if counts[plan.name] != plan.partitions]
    if wrong:
        raise ContractError(
            f"every topic must have kafka.partitions = {plans[0].partitions} partitions, but {', '.join(wrong)}. "
            "Operator action: run `millrace topics create` for those that are missing; for another count set kafka.partitions "
            "to the count the topics have, or choose a new kafka.topic_prefix and redis.prefix."
        )


def _request(plan: TopicPlan) -> dict[str, Any]:
    return {"num_partitions": plan.partitions, "replication_factor": plan.replication, "configs": plan.configs}


def _update(admin: Any, plans: Sequence[TopicPlan], states: Mapping[str, TopicState]) -> list[str]:  # noqa: ANN401
    from kafka.admin import ConfigResource, ConfigResourceType

    stale = _stale(plans, states)
    if stale:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, plan.name, plan.configs) for plan in stale])
        # A KRaft broker acknowledges before it has read the change from its controller's log.
        deadline = time.monotonic() + _READY_MS / 1000
        while _stale(stale, read_topics(admin, [plan.name for plan in stale])) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_S)
    return [plan.name for plan in stale]


def _stale(plans: Sequence[TopicPlan], states: Mapping[str, TopicState]) -> list[TopicPlan]:
    # Existing topics with other settings than planned.
    return [plan for plan in plans if plan.name in states and not plan.configs.items() <= states[plan.name].configs.items()]


def _refuse_other_counts(plans: Sequence[TopicPlan], states: Mapping[str, TopicState]) -> None:
    other = [plan for plan in plans if plan.name in states and states[plan.name].partitions != plan.partitions]
    if not other:
        return
    by_count: dict[int, list[str]] = {}
    for plan in other:
        by_count.setdefault(states[plan.name].partitions, []).append(plan.name)
    counts = "; ".join(f"{', '.join(names)} have {count}" for count, names in sorted(by_count.items()))
    msg = (
        f"kafka.partitions is {other[0].partitions}, but {counts}. A user's events and state live in the group of the "
        "partition that the key hashes to; another count sends them to a group that has no state of them.\n"
        "Operator action: set kafka.partitions (MILLRACE_KAFKA_PARTITIONS) to the count the topics have; or, to change "
        "the count, choose a new kafka.topic_prefix and a new redis.prefix, create the topics there, and import the "
        "events again. Do not alter the partitions of these topics."
    )
    raise ContractError(msg)
