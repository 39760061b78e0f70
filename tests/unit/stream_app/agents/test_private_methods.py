"""Pins the private parts of Faust and aiokafka that the transport uses, so that an upgrade fails here and not in production.

When one of these fails: read what changed upstream, adapt `stream_app/agents`, run the fault tests of
`tests/integration/test_transport_*.py`, then pin anew.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.app.base import App
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.consumer import ConsumerThread
from faust.transport.consumer import Fetcher as FaustFetcher
from faust.transport.drivers import aiokafka as driver
from faust.worker import Worker
from mode.services import Service
from mode.threads import ServiceThread

if TYPE_CHECKING:
    from collections.abc import Callable


def names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_versions_are_the_ones_the_transport_was_written_for() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka") == "0.14.0"


OVERRIDDEN: dict[type, dict[str, list[str]]] = {
    driver.AIOKafkaConsumerThread: {
        "__post_init__": ["self"],
        "_create_worker_consumer": ["self", "transport"],
        "on_start": ["self"],
        "on_partitions_revoked": ["self", "revoked"],
        "on_partitions_assigned": ["self", "assigned", "generation_id"],
        "_commit": ["self", "offsets"],
    },
    driver.Consumer: {
        "_new_consumer_thread": ["self"],
        "perform_seek": ["self"],
        "on_partitions_revoked": ["self", "revoked"],
        "wait_empty": ["self"],
        "getmany": ["self", "timeout"],
        "_add_gap": ["self", "tp", "offset_from", "offset_to"],
        "ack": ["self", "message"],
        "_new_offset": ["self", "tp"],
        "_should_commit": ["self", "tp", "offset"],
        "_commit_offsets": ["self", "offsets", "start_new_transaction"],
        "verify_all_partitions_active": ["self"],
    },
    PartitionRecords: {"_unpack_records": ["self"]},
    Worker: {"_setproctitle": ["self", "info", "ident"], "_on_sigint": ["self"], "_on_sigterm": ["self"]},
    Service: {"_crash": ["self", "reason"]},
}
CALLED: dict[type, dict[str, list[str]]] = {
    driver.Consumer: {"stop_flow": ["self"], "commit": ["self", "topics", "start_new_transaction"]},
    BaseConsumer: {"_get_active_partitions": ["self"], "_filter_tps_with_pending_acks": ["self", "topics"]},
    driver.AIOKafkaConsumerThread: {"_ensure_consumer": ["self"]},
    GroupCoordinator: {"_push_error_to_user": ["self", "exc"]},
    Fetcher: {"fetched_records": ["self", "partitions", "timeout", "max_records"]},
    SubscriptionState: {"fetch_context": ["self"]},
    Assignment: {"state_value": ["self", "tp"]},
    AIOKafkaConsumer: {"seek": ["self", "partition", "offset"], "committed": ["self", "partition"]},
}


@pytest.mark.parametrize("owner", [*OVERRIDDEN, *CALLED], ids=lambda owner: owner.__name__)
def test_methods_overridden_or_called_have_the_signatures_we_know(owner: type) -> None:
    for table in (OVERRIDDEN, CALLED):
        for name, parameters in table.get(owner, {}).items():
            assert names(getattr(owner, name)) == parameters, name


def test_the_threads_loop_attributes_are_there() -> None:
    source = inspect.getsource(ServiceThread.__init__)
    assert "self.parent_loop = " in source
    assert "self.thread_loop = " in source


def test_the_fetchers_private_state_is_there() -> None:
    assert "self._subscriptions = subscriptions" in inspect.getsource(Fetcher.__init__)
    assert "self._closed = False" in inspect.getsource(Fetcher.__init__)
    assert "self._fetcher = Fetcher(" in inspect.getsource(AIOKafkaConsumer.start)
    assert {"position", "has_valid_position"} <= vars(TopicPartitionState).keys()
    assert "self.highwater" in inspect.getsource(TopicPartitionState.__init__)


def test_the_position_is_moved_in_the_same_step_in_which_records_are_taken() -> None:
    # The range of a chunk is [position before, position after): nothing may be awaited in between.
    assert not inspect.iscoroutinefunction(FetchResult.getall)
    assert "_update_position" in inspect.getsource(FetchResult.getall)
    source = inspect.getsource(Fetcher.fetched_records)
    assert "await" not in source[source.index("res_or_error.getall(") : source.index("if drained or not timeout")]


def test_the_fetcher_reads_a_fetch_response_through_the_name_we_replace() -> None:
    source = inspect.getsource(Fetcher._proc_fetch_request)
    assert "records = MemoryRecords(part_data[-1])" in source
    assert set(re.findall(r"\brecords\.(\w+)", source)) == {"has_next", "size_in_bytes"}
    assert "PartitionRecords(" in source
    source = inspect.getsource(PartitionRecords._unpack_records)
    assert set(re.findall(r"\brecords\.(\w+)", source)) == {"has_next", "next_batch"}
    assert "if record.offset < self.next_fetch_offset:" in source  # a batch may be read again from its start


def test_a_record_knows_its_sizes() -> None:
    assert {"serialized_key_size", "serialized_value_size"} <= set(ConsumerRecord.__dataclass_fields__)


def test_the_producer_and_its_batches_are_as_the_publisher_needs_them() -> None:
    assert names(AIOKafkaProducer.send_batch) == ["self", "batch", "topic", "partition"]
    assert '"Unrecognized partition"' in inspect.getsource(AIOKafkaProducer._partition)
    assert "if self._buffer is None:" in inspect.getsource(BatchBuilder._build)  # a batch may be sent again
    assert not getattr(KafkaTimeoutError, "retriable", False)


def test_a_seek_throws_away_what_was_fetched_from_elsewhere() -> None:
    assert "del self._records[tp]" in inspect.getsource(Fetcher.seek_to)


def test_the_coordinator_waits_for_our_callbacks_and_keeps_its_heartbeat_while_we_drain() -> None:
    source = inspect.getsource(GroupCoordinator.ensure_active_group)
    assert source.index("await self._on_join_prepare(") < source.index("await self._stop_heartbeat_task()")
    for step in (GroupCoordinator._on_join_prepare, GroupCoordinator._on_join_complete):
        assert "await res" in inspect.getsource(step)


def test_faust_calls_our_hooks_where_we_rely_on_it() -> None:
    listener = inspect.getsource(driver.ConsumerRebalanceListener)
    assert "thread.on_partitions_revoked(" in listener
    assert "_thread.on_partitions_assigned(" in listener
    assert "await self.consumer.threadsafe_partitions_revoked(" in inspect.getsource(ConsumerThread.on_partitions_revoked)
    assert "await consumer.wait_empty()" in inspect.getsource(App._consumer_wait_empty)
    assert "_consumer_wait_empty" in inspect.getsource(App._stop_consumer)
    assert "consumer.perform_seek()" in inspect.getsource(Recovery._resume_streams)
    assert "consumer._drain_messages(self)" in inspect.getsource(FaustFetcher._fetcher.fun)
    assert "offset >= r_offset" in inspect.getsource(BaseConsumer._drain_messages)
    assert "message.tp" in inspect.getsource(Conductor._compile_message_handler)
