"""Connections to the broker for operators: topics as dataclasses, kafka-python's errors as ours.

kafka-python is imported inside the functions: its import takes a tenth of a second, which `--help` does not need.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from stream_app.errors import BrokerUnavailableError

_CONNECT_MS: Final = 5_000  # a running broker answers in milliseconds; a person waits for this


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic at the broker; `configs` is empty for the embedded broker, which does not report them."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


def version_option(text: str) -> dict[str, tuple[int, ...]]:
    """Return the option of a kafka-python client for a protocol version as "2.3"; empty: negotiate with the broker."""
    return {"api_version": tuple(int(part) for part in text.split("."))} if text else {}


@contextmanager
def closed_on_failure(kind: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 (KafkaAdminClient or KafkaConsumer)
    """Yield options for a client of `kind`: a bounded time to connect, and no thread left behind if that fails.

    kafka-python 3.0 starts a thread before it connects, and does not end the thread when connecting fails.
    """
    clients = []

    def client(**options: Any) -> Any:  # noqa: ANN401
        clients.append(kind.DEFAULT_CONFIG["kafka_client"](**options))
        return clients[-1]

    try:
        yield {"kafka_client": client, "bootstrap_timeout_ms": _CONNECT_MS}
    except BaseException:
        for opened in clients:
            opened.close()
        raise


@contextmanager
def speaking_to(bootstrap: str) -> Iterator[None]:
    """Translate the errors that kafka-python raises inside into ours.

    Raises:
        BrokerUnavailableError: The broker does not answer, or refuses; the message names the broker and the fix.
    """
    from kafka.errors import KafkaError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the error below has the same content
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
    # Without a listener this fails at once; kafka-python would retry for seconds, and leaves sockets open.
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
        BrokerUnavailableError: The broker does not answer in five seconds, or refuses a request.
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
    """Return the existing topics of `names`."""
    existing = set(admin.list_topics()) & set(names)  # a request for a missing topic might create it
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
    """Return the first offset and the end of each partition of the existing `topics`, by (topic, partition).

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    with speaking_to(bootstrap):
        from kafka import KafkaConsumer, TopicPartition

        with closed_on_failure(KafkaConsumer) as options:
            consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), **options, **version_option(client_api_version))
        try:
            existing = consumer.topics() & set(topics)
            partitions = [TopicPartition(name, number) for name in existing for number in consumer.partitions_for_topic(name)]
            first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        finally:
            consumer.close()
    return {(at.topic, at.partition): (first[at], end[at]) for at in partitions}


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:  # noqa: ANN401
    from kafka.admin import ConfigResource, ConfigResourceType

    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: str(item["value"]) for key, item in items.items()} for name, items in configs.items()}


class QuietLogger:
    """Discards librdkafka's log lines, which would go to stderr; its errors reach the caller in another way."""

    def log(self, *_args: object, **_kwargs: object) -> None:
        """Drop one line."""
