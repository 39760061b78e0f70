"""Publishes answers in whole record batches and waits for the broker's acknowledgement.

`create_batch` + `send_batch` cost a fifth of `send` (docs/architecture.md, "publish"). All messages of a group go to the
partition with the group's number, so that one user's answers stay in order and in one partition of every topic.

Invariant: at most one record batch of a partition is in flight, within a call and from call to call; the next one follows its
acknowledgement. This keeps the order, also when a batch is sent again. And aiokafka counts the time that a batch waits behind
others of its partition many times over: with 75 batches at once, its half minute runs out after 0.6 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerNotAvailableError,
    BrokerResponseError,
    KafkaError,
    ProducerClosed,
    UnknownError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from stream_app.codec.outbox import Messages
from stream_app.errors import BrokerUnavailableError, ContractError

log = logging.getLogger(__name__)

# Below the broker's default message.max.bytes (1,048,588), which bounds a whole record batch. A single larger message
# (a dead letter) travels alone in its batch; its topic allows 4 MB.
_BATCH_BYTES: Final = 900_000
_REQUEST_BYTES: Final = 8_000_000
# A broker restart takes 4-16 s here, a repair longer. After this time without an acknowledgement the answers stay in the outbox
# and the worker restarts.
_PATIENCE_S: Final = 90.0
_PAUSE_S: Final = 0.5
# How long aiokafka waits for one answer and sends again by itself: a broker that hangs is tried several times within
# `_PATIENCE_S`, and giving up is at most this much late.
_ATTEMPT_MS: Final = 20_000
# Errors that may pass by themselves (a starting broker does not know its topics yet); final after `_PATIENCE_S`. (aiokafka maps
# every newer error code to UnknownError.)
_DOUBTFUL: Final = (BrokerNotAvailableError, UnknownError, UnknownTopicOrPartitionError)
_OPERATOR_ACTION: Final = (
    "Operator action: run `millrace topics check` (partition counts, max.message.bytes) and check this client's rights (ACL)."
)

Place = tuple[str, int]  # topic, with its prefix, and partition


class Publisher:
    """One producer; start, use and stop it on one loop.

    Args:
        bootstrap: `host:port` of the broker(s).
        topic_prefix: Prefix of each topic's name.
        client_id: Name shown in the broker's logs.
    """

    def __init__(self, bootstrap: str, *, topic_prefix: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._topic_prefix = topic_prefix
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._last: dict[Place, asyncio.Future[bool]] = {}  # by place: the result of the last call that publishes there

    async def start(self) -> None:
        """Connect; does nothing if connected.

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
            request_timeout_ms=_ATTEMPT_MS,
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
        """Publish the messages of each group to its partition; return when the broker has acknowledged all.

        Calls keep their order: in one partition, a later call's messages come after those of an earlier call. Sending again
        after an error may repeat messages with the same bytes.

        Returns:
            Topic (without prefix) -> number of messages.

        Raises:
            BrokerUnavailableError: No acknowledgement in time, here or in an earlier call. The answers are still in the outbox.
            ContractError: The broker refuses a message or does not have the partition; sending again does not help.
        """
        assert self._producer is not None, "start() comes first"
        counts: dict[str, int] = {}
        batches_by_place: dict[Place, list[BatchBuilder]] = {}
        for group, topics in groups:
            for topic, messages in topics.items():
                counts[topic] = counts.get(topic, 0) + len(messages.values)
                if messages.values:
                    _append(self._producer, batches_by_place.setdefault((self._topic_prefix + topic, group), []), messages)
        if batches_by_place:  # no await up to here: calls queue in the order of their start
            await self._deliver_in_order(batches_by_place)
        return counts

    async def _deliver_in_order(self, batches_by_place: Mapping[Place, list[BatchBuilder]]) -> None:
        """Deliver after all earlier calls that share a place with this one."""
        before = {self._last[place] for place in batches_by_place if place in self._last}
        delivered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._last.update(dict.fromkeys(batches_by_place, delivered))
        ok = True
        try:
            await _wait_for(before)
            for number in range(max(map(len, batches_by_place.values()))):
                await self._deliver(
                    {place: batches[number] for place, batches in batches_by_place.items() if number < len(batches)}
                )
        except Exception:
            ok = False  # a cancelled call delays no other: its batch was abandoned
            raise
        finally:
            waiting = [earlier for earlier in before if not earlier.done()]
            if waiting:  # cancelled: later calls must still wait for the earlier ones
                asyncio.gather(*waiting).add_done_callback(lambda _: self._end_call(batches_by_place, delivered, ok=ok))
            else:
                self._end_call(batches_by_place, delivered, ok=ok)

    def _end_call(self, places: Iterable[Place], delivered: asyncio.Future[bool], *, ok: bool) -> None:
        if not delivered.done():  # done if the loop is being closed
            delivered.set_result(ok)
        for place in places:
            if self._last.get(place) is delivered:
                del self._last[place]

    async def _deliver(self, batches: Mapping[Place, BatchBuilder]) -> None:
        """Send one batch for each place until all are acknowledged."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE_S
        while errors := await self._send(batches):
            for place, error in errors.items():
                _raise_if_final(place, error, out_of_patience=loop.time() >= give_up)
            (topic, partition), error = next(iter(errors.items()))
            log.warning("publishing to %d partitions again; %s-%d: %r", len(errors), topic, partition, error)
            batches = {place: batches[place] for place in errors}
            await asyncio.sleep(_PAUSE_S)

    async def _send(self, batches: Mapping[Place, BatchBuilder]) -> dict[Place, KafkaError]:
        """Send each batch once, without a task for each (they are many and small); return the errors."""
        sent: dict[Place, asyncio.Future[object]] = {}
        errors: dict[Place, KafkaError] = {}
        try:
            for place, batch in batches.items():
                try:
                    sent[place] = await self._enqueue(place, batch)
                except KafkaError as error:
                    # The other batches would wait as long for the same broker, one after the other.
                    errors = {place: error} | {other: error for other in batches if other not in sent and other != place}
                    break
            if sent:
                await asyncio.wait(sent.values())
        except BaseException:
            for delivery in sent.values():
                delivery.cancel()  # nothing waits for its outcome
            raise
        for place, delivery in sent.items():
            failure = delivery.exception()
            if isinstance(failure, KafkaError):
                errors[place] = failure
            elif failure is not None:
                raise failure
        return errors

    async def _enqueue(self, place: Place, batch: BatchBuilder) -> asyncio.Future[object]:
        assert self._producer is not None, "start() comes first"
        topic, partition = place
        try:
            delivery: asyncio.Future[object] = await self._producer.send_batch(batch, topic, partition=partition)
        except AssertionError as error:  # aiokafka does not know the partition
            await self._producer.client.force_metadata_update()  # it may be a new one
            known = self._producer.client.cluster.partitions_for_topic(topic) or set()
            if partition not in known:
                raise ContractError(
                    f"topic {topic} has no partition {partition}, only {len(known)} partitions; the source topics have more. "
                    f"{_OPERATOR_ACTION}"
                ) from error
            delivery = await self._producer.send_batch(batch, topic, partition=partition)
        return delivery


async def _wait_for(earlier: set[asyncio.Future[bool]]) -> None:
    if earlier:
        await asyncio.wait(earlier)
    if not all(call.result() for call in earlier):
        raise BrokerUnavailableError("answers that come before these were not acknowledged; these keep their place behind them")


def _raise_if_final(place: Place, error: KafkaError, *, out_of_patience: bool) -> None:
    """Raise if sending again does not help; timeouts and lost connections are not BrokerResponseErrors."""
    doubtful = isinstance(error, _DOUBTFUL)
    if isinstance(error, BrokerResponseError) and (out_of_patience if doubtful else not error.retriable):
        _refused(place, error)
    if out_of_patience or isinstance(error, ProducerClosed):
        raise BrokerUnavailableError(
            f"no acknowledgement for {place[0]}-{place[1]} within {_PATIENCE_S:.0f} s, or the publisher was stopped: {error!r}"
        ) from error


def _refused(place: Place, error: KafkaError) -> NoReturn:
    raise ContractError(f"the broker refuses answers for {place[0]}-{place[1]}: {error!r}. {_OPERATOR_ACTION}") from error


def _append(producer: AIOKafkaProducer, batches: list[BatchBuilder], messages: Messages) -> None:
    """Append to the last batch and, when it is full, to new batches."""
    if not batches:
        batches.append(producer.create_batch())
    for key, value in zip(messages.keys, messages.values, strict=True):
        if batches[-1].append(key=key, value=value, timestamp=None) is None:
            batches.append(producer.create_batch())
            appended = batches[-1].append(key=key, value=value, timestamp=None)
            assert appended is not None, "an empty batch takes any message"
