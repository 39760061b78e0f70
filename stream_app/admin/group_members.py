"""Who is a member of a consumer group, as the broker says: to name a program that does not belong there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_TIMEOUT_S: Final = 5.0
_MOST_PLACES: Final = 3  # of a member's partitions, in a message


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its client id, its address, and the partitions that it owns, as `topic-partition`."""

    client: str
    host: str
    owns: tuple[str, ...]

    def __str__(self) -> str:
        """Return the member as a part of a message."""
        rest = f" and {len(self.owns) - _MOST_PLACES} more" if len(self.owns) > _MOST_PLACES else ""
        return f"{self.client!r} at {self.host} (owns {', '.join(self.owns[:_MOST_PLACES]) or 'nothing'}{rest})"


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """A group's members. `assignor`: the protocol of all members; of a group of Kafka's newer protocol, the broker's assignor."""

    assignor: str
    newer_protocol: bool  # group.protocol=consumer (KIP-848): the broker assigns partitions, whatever the members offered
    members: tuple[Member, ...]

    def __str__(self) -> str:
        """Return the members as a part of a message."""
        return "; ".join(map(str, self.members)) or "none"


def read_group(bootstrap: str, group: str) -> GroupMembers | None:
    """Ask the broker for a group's members; None if it does not say (no rights, the embedded broker, no such group)."""
    from confluent_kafka import ConsumerGroupType, KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        described = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT_S)[group].result(_TIMEOUT_S)
    except (KafkaException, TimeoutError):
        return None
    members = (
        Member(
            member.client_id,
            member.host.removeprefix("/"),
            tuple(sorted(f"{place.topic}-{place.partition}" for place in member.assignment.topic_partitions)),
        )
        for member in described.members
    )
    return GroupMembers(
        described.partition_assignor,
        described.type == ConsumerGroupType.CONSUMER,
        tuple(sorted(members, key=lambda member: (member.client, member.host, member.owns))),
    )
