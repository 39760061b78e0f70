"""The broker as the console sees it: one admin connection, topics read as plain values, errors in our words.

kafka-python is imported only inside, since it costs a tenth of a second that `--help` has no use for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from stream_app.errors import BrokerUnavailableError

__all__ = ["TopicState", "api_version", "connect", "read_topics", "speaking_to"]

_CONNECT_MS: Final = 5_000  # a broker that is there answers in milliseconds; a person waits for this


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it; `configs` is empty where the broker does not tell (the embedded one)."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


def api_version(text: str) -> tuple[int, ...] | None:
    """Return "2.3" as (2, 3), and an empty text as None: ask the broker."""
    return tuple(int(part) for part in text.split(".")) if text else None


@contextmanager
def speaking_to(bootstrap: str) -> Iterator[None]:
    """Translate what kafka-python raises inside into our errors.

    Raises:
        BrokerUnavailableError: The broker does not answer, or refuses; the message names it and what to do.
    """
    from kafka.errors import KafkaError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the error below says it once, in words
    try:
        yield
    except (KafkaError, OSError) as err:
        why = str(err) or type(err).__name__
        msg = (
            f"the broker at {bootstrap} did not answer as expected ({why}); start one with `millrace services up`, or "
            "set kafka.bootstrap (MILLRACE_KAFKA_BOOTSTRAP) to one that runs"
        )
        raise BrokerUnavailableError(msg) from err


@contextmanager
def connect(bootstrap: str, client_api_version: str = "") -> Iterator[Any]:
    """Yield a connected kafka-python admin client and close it after.

    Args:
        bootstrap: `host:port`, comma separated.
        client_api_version: As the setting `kafka.client_api_version`.

    Raises:
        BrokerUnavailableError: The broker does not answer in five seconds, or refuses what is asked inside.
    """
    with speaking_to(bootstrap):
        from kafka.admin import KafkaAdminClient

        options = {"api_version": version} if (version := api_version(client_api_version)) else {}
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            bootstrap_timeout_ms=_CONNECT_MS,
            request_timeout_ms=2 * _CONNECT_MS,
            **options,
        )
        try:
            yield admin
        finally:
            admin.close()


def read_topics(admin: Any, names: Sequence[str], *, with_configs: bool = True) -> dict[str, TopicState]:  # noqa: ANN401
    """Return those of `names` that exist, as the broker has them."""
    existing = set(admin.list_topics()) & set(names)  # asking for a missing topic by name might create it
    if not existing:
        return {}
    configs = _configs(admin, sorted(existing)) if with_configs else {}
    states = {}
    for topic in admin.describe_topics(sorted(existing)):
        partitions = topic["partitions"]
        replicas = min((len(partition["replica_nodes"]) for partition in partitions), default=0)
        states[topic["name"]] = TopicState(topic["name"], len(partitions), replicas, configs.get(topic["name"], {}))
    return states


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:  # noqa: ANN401
    from kafka.admin import ConfigResource, ConfigResourceType

    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    told = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: str(item["value"]) for key, item in items.items()} for name, items in told.items()}
