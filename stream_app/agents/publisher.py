"""Publishes answers in whole record batches and waits for the broker's acknowledgement.

`create_batch` + `send_batch` cost a fifth of `send` (docs/architecture.md, "publish"). All messages of a group go to the
partition with the group's number, so that one user's answers stay in order and in one place on every topic.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from stream_app.codec.outbox import Messages
from stream_app.errors import BrokerUnavailableError, ContractError

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

# Below the broker's default message.max.bytes (1,048,588), which bounds a whole record batch. A single larger message
# (a dead letter) travels alone in its batch; its topic allows 4 MB.
_BATCH_BYTES: Final = 900_000
_REQUEST_BYTES: Final = 8_000_000
# A broker restart takes 4-16 s here; after this the answers stay in the outbox and the worker starts over.
_PATIENCE_S: Final = 90.0
_PAUSE_S: Final = 0.5


class Publisher:
    """One producer; start and stop it on the loop that uses it.

    Args:
        bootstrap: `host:port` of the broker(s).
        topic_prefix: Put before each topic's name.
        client_id: Name shown in the broker's logs.
    """

    def __init__(self, bootstrap: str, *, topic_prefix: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._topic_prefix = topic_prefix
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect; does nothing when connected.

        Raises:
            BrokerUnavailableError: No broker answered.
        """
        if self._producer is not None:
            return
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            acks="all",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            request_timeout_ms=30_000,
        )
        try:
            await producer.start()
        except KafkaError as err:
            await producer.stop()
            raise BrokerUnavailableError(f"no broker answers at {self._bootstrap}: {err!r}") from err
        self._producer = producer

    async def stop(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def publish(self, groups: Iterable[tuple[int, Mapping[str, Messages]]]) -> dict[str, int]:
        """Publish the messages of each group to its partition; return when the broker has them all.

        Sending again after an error may repeat messages; they are the same to the byte.

        Returns:
            Topic (without prefix) -> number of messages.

        Raises:
            BrokerUnavailableError: No acknowledgement in time. The answers are still in the outbox.
        """
        counts: dict[str, int] = {}
        pending: list[tuple[str, int, BatchBuilder]] = []
        assert self._producer is not None, "start() comes first"
        for group, topics in groups:
            for topic, messages in topics.items():
                counts[topic] = counts.get(topic, 0) + len(messages.values)
                batches = _batches(self._producer, messages)
                pending.extend((self._topic_prefix + topic, group, batch) for batch in batches)
        await asyncio.gather(*(self._deliver(topic, group, batch) for topic, group, batch in pending))
        return counts

    async def _deliver(self, topic: str, partition: int, batch: BatchBuilder) -> None:
        assert self._producer is not None, "start() comes first"
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE_S
        while True:
            try:
                delivery = await self._producer.send_batch(batch, topic, partition=partition)
                await delivery
            except KafkaError as err:
                if not getattr(err, "retriable", False) and not isinstance(err, (ConnectionError, TimeoutError)):
                    raise ContractError(
                        f"the broker refuses answers for {topic}-{partition}: {err!r}. Operator action: run `millrace "
                        "topics check` (partition counts, max.message.bytes) and check this client's rights (ACL)."
                    ) from err
                if loop.time() >= give_up:
                    raise BrokerUnavailableError(
                        f"no acknowledgement for {topic}-{partition} within {_PATIENCE_S:.0f} s: {err!r}"
                    ) from err
                log.warning("publishing to %s-%d again after %r", topic, partition, err)
                await asyncio.sleep(_PAUSE_S)
            else:
                return


def _batches(producer: AIOKafkaProducer, messages: Messages) -> Sequence[BatchBuilder]:
    batches = [producer.create_batch()]
    for key, value in zip(messages.keys, messages.values, strict=True):
        if batches[-1].append(key=key, value=value, timestamp=None) is None:
            batches.append(producer.create_batch())
            appended = batches[-1].append(key=key, value=value, timestamp=None)
            assert appended is not None, "an empty batch takes any message"
    return batches
