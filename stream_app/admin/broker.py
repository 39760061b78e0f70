"""The broker as the console sees it: one admin connection, topics read as plain values, errors in our words.

kafka-python is imported only inside, since it costs a tenth of a second that `--help` has no use for.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from stream_app.errors import BrokerUnavailableError

__all__ = ["TopicState", "closed_on_failure", "connect", "log_bounds", "read_topics", "speaking_to", "version_option"]

_CONNECT_MS: Final = 5_000  # a broker that is there answers in milliseconds; a person waits for this


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it; `configs` is empty where the broker does not tell (the embedded one)."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


def version_option(text: str) -> dict[str, tuple[int, ...]]:
    """Return the option of a kafka-python client that speaks version "2.3"; an empty text gives none: ask the broker."""
    return {"api_version": tuple(int(part) for part in text.split("."))} if text else {}


@contextmanager
def closed_on_failure(kind: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 (KafkaAdminClient or KafkaConsumer)
    """Yield options for making a client of `kind`: wait a bounded time, and leave no thread behind if that fails.

    kafka-python 3.0 starts a thread before it connects, and does not end it when connecting fails.
    """
    inner = []

    def made(**options: Any) -> Any:  # noqa: ANN401
        inner.append(kind.DEFAULT_CONFIG["kafka_client"](**options))
        return inner[0]

    try:
        yield {"kafka_client": made, "bootstrap_timeout_ms": _CONNECT_MS}
    except BaseException:
        for client in inner:
            client.close()
        raise


@contextmanager
def speaking_to(bootstrap: str) -> Iterator[None]:
    """Translate what kafka-python raises inside into our errors.

    Raises:
        BrokerUnavailableError: The broker does not answer, or refuses; the message names it and what to do.
    """
    from kafka.errors import KafkaError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the error below says it once, in words
    try:
        _require_listener(bootstrap)
        yield
    except (KafkaError, OSError) as err:
        why = str(err) or type(err).__name__
        msg = (
            f"the broker at {bootstrap} did not answer as expected ({why}); start one with `millrace services up`, or "
            "set kafka.bootstrap (MILLRACE_KAFKA_BOOTSTRAP) to one that runs"
        )
        raise BrokerUnavailableError(msg) from err


def _require_listener(bootstrap: str) -> None:
    # A broker that is not there is told at once; kafka-python would try again for seconds, and leaves sockets open.
    refusals = []
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_MS / 1000).close()
        except OSError as err:
            refusals.append(str(err))
        else:
            return
    raise ConnectionError("; ".join(refusals))


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

        with closed_on_failure(KafkaAdminClient) as options:
            admin = KafkaAdminClient(
                bootstrap_servers=bootstrap.split(","),
                request_timeout_ms=2 * _CONNECT_MS,
                **options,
                **version_option(client_api_version),
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


def log_bounds(bootstrap: str, client_api_version: str, topics: Sequence[str]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return the first offset and the end of each partition of those of `topics` that exist, by (topic, partition).

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    with speaking_to(bootstrap):
        from kafka import KafkaConsumer, TopicPartition

        with closed_on_failure(KafkaConsumer) as options:
            consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), **options, **version_option(client_api_version))
        try:
            existing = consumer.topics() & set(topics)
            places = [TopicPartition(name, number) for name in existing for number in consumer.partitions_for_topic(name)]
            first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
        finally:
            consumer.close()
    return {(place.topic, place.partition): (first[place], end[place]) for place in places}


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:  # noqa: ANN401
    from kafka.admin import ConfigResource, ConfigResourceType

    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    told = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: str(item["value"]) for key, item in items.items()} for name, items in told.items()}
