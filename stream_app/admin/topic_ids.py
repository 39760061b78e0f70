"""The ids that Kafka gives to topics: a topic that was deleted and made anew has another one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from stream_app.errors import ContractError

_TIMEOUT_S: Final = 2.0  # for all topics; a worker sends no heartbeat meanwhile
_NO_ID: Final = "A" * 22  # zeros in base64: from a broker before Kafka 2.8


def read_topic_ids(bootstrap: str, topics: Sequence[str]) -> dict[str, str]:
    """Return topic -> id, without the topics whose id the broker does not tell (no rights, no such topic, an old broker)."""
    from confluent_kafka import KafkaException, TopicCollection
    from confluent_kafka.admin import AdminClient

    admin, give_up_s = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}), time.monotonic() + _TIMEOUT_S
    ids = {}
    for topic, future in admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT_S).items():
        try:
            ids[topic] = str(future.result(max(0.0, give_up_s - time.monotonic())).topic_id)
        except (KafkaException, TimeoutError):
            continue
    return {topic: topic_id for topic, topic_id in ids.items() if topic_id != _NO_ID}


def refuse_new_topics(found: Mapping[str, str], stored: Mapping[str, str]) -> None:
    """Compare the ids of topics at the broker with those that the store has beside its fronts; both by topic.

    Raises:
        ContractError: A topic has another id.
    """
    for line in made_anew(found, stored):
        raise ContractError(
            f"{line}: the fronts of the old topic would hide the first events of the new one. Operator action: see 'A topic was "
            "made anew' in docs/runbook.md."
        )


def made_anew(found: Mapping[str, str], stored: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each topic whose id at the broker is not the stored one."""
    for topic, topic_id in found.items():
        if stored.get(topic, topic_id) != topic_id:
            yield f"topic {topic} was deleted and made anew (id {topic_id} at the broker, {stored[topic]} in the store)"
