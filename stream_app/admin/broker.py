"""Connections to the broker for operators: topics as dataclasses, kafka-python's errors as ours.

kafka-python is imported inside the functions: its import takes a tenth of a second, which `--help` does not need.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
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


def require_listener(bootstrap: str) -> None:
    """Fail at once where nothing listens: a client would retry for seconds, and kafka-python leaves sockets open.

    Raises:
        BrokerUnavailableError: None of the brokers takes a connection.
    """
    refusals = []
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_MS / 1000).close()
        except OSError as err:
            refusals.append(str(err))
        else:
            return
    raise _no_answer(bootstrap, "; ".join(refusals))


def _no_answer(bootstrap: str, why: str) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        f"the broker at {bootstrap} did not answer as expected ({why}); start one with `millrace services up`, or "
        "set kafka.bootstrap (MILLRACE_KAFKA_BOOTSTRAP) to one that runs"
    )


@contextmanager
def connect(bootstrap: str, client_api_version: str = "") -> Iterator[Any]:
    """Yield a connected kafka-python admin client and close it after.

    Args:
        bootstrap: `host:port`, comma separated.
        client_api_version: As the setting `kafka.client_api_version`.

    Raises:
        BrokerUnavailableError: The broker does not answer in five seconds, or refuses a request.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the error below has the same content
    require_listener(bootstrap)
    with ExitStack() as stack:

        def client(**options: Any) -> Any:  # noqa: ANN401
            # kafka-python 3.0 starts a thread before it connects, and leaves it behind when connecting fails.
            connecting = KafkaAdminClient.DEFAULT_CONFIG["kafka_client"](**options)
            stack.callback(connecting.close)
            return connecting

        try:
            admin = KafkaAdminClient(
                bootstrap_servers=bootstrap.split(","), request_timeout_ms=2 * _CONNECT_MS, kafka_client=client,
                bootstrap_timeout_ms=_CONNECT_MS, **version_option(client_api_version),
            )  # fmt: skip
            yield stack.enter_context(closing(admin))
        except (KafkaError, OSError) as err:
            raise _no_answer(bootstrap, str(err) or type(err).__name__) from err


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


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:  # noqa: ANN401
    from kafka.admin import ConfigResource, ConfigResourceType

    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: str(item["value"]) for key, item in items.items()} for name, items in configs.items()}


class QuietLogger:
    """Discards librdkafka's log lines, which would go to stderr; its errors reach the caller in another way."""

    def log(self, *_args: object, **_kwargs: object) -> None:
        """Drop one line."""
