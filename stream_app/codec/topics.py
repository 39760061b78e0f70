"""The topics: role, key, payload type, retention. Documents and administration follow this table.

Every topic has the same partition count, and its key puts everything about a user into one partition. No topic is compacted: the
answers and labels are a history, and events may be replayed; compaction would keep only the last one of each user. Retention uses
the broker's clock (`LogAppendTime`), so that an imported log of another year is not deleted on arrival and latency is the
difference of two readings of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from stream_app.events import (
    Click,
    DeadLetter,
    FeatureRow,
    FraudAlert,
    IntentLabel,
    JournalLine,
    Label,
    LateEvent,
    Order,
    RecommendationCandidates,
    Search,
)

_DAY_MS: Final = 86_400_000
_MB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic without its prefix. `max_message_bytes` 0 leaves the broker's own limit (1 MB)."""

    name: str
    role: Literal["source", "answer", "side"]
    key: str
    payload: type[msgspec.Struct]
    retention_ms: int
    description: str
    max_message_bytes: int = 0

    def configs(self) -> dict[str, str]:
        """Return the topic's settings at the broker, as Kafka writes them."""
        configs = {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_ms),
            "message.timestamp.type": "LogAppendTime",
        }
        if self.max_message_bytes:
            configs["max.message.bytes"] = str(self.max_message_bytes)
        return configs


_USER: Final = "user id, UTF-8"
_SAME: Final = "key of the source record"

TOPICS: Final = (
    TopicSpec("searches", "source", _USER, Search, 7 * _DAY_MS, "The users' searches, with the items shown."),
    TopicSpec("clicks", "source", _USER, Click, 7 * _DAY_MS, "The users' actions on items: view, click, cart, favourite."),
    TopicSpec("orders", "source", _USER, Order, 7 * _DAY_MS, "The users' purchases."),
    TopicSpec(
        "fraud-alerts",
        "answer",
        _USER,
        FraudAlert,
        7 * _DAY_MS,
        "Events that the fraud team must look at, with the reasons.",
    ),
    TopicSpec("intent-labels", "answer", _USER, IntentLabel, 7 * _DAY_MS, "The user's present intent, for every event."),
    TopicSpec(
        "recommendation-candidates",
        "answer",
        _USER,
        RecommendationCandidates,
        7 * _DAY_MS,
        "The items to show the user next, best first, for every event.",
    ),
    TopicSpec(
        "dead-letters",
        "side",
        _SAME,
        DeadLetter,
        30 * _DAY_MS,
        "Invalid records: the reason, the step that refused them, the original bytes.",
        4 * _MB,  # holds a record of the broker's limit in base64, and its headers
    ),
    TopicSpec(
        "late-events",
        "side",
        _SAME,
        LateEvent,
        30 * _DAY_MS,
        "Valid events that came later than the allowed lateness; they changed nothing.",
        2 * _MB,  # holds an event of the broker's limit and the fields of LateEvent
    ),
    TopicSpec("labels", "side", _USER, Label, 400 * _DAY_MS, "Labels that become known later: chargebacks, verdicts, purchases."),
    TopicSpec(
        "journal",
        "side",
        "partition group, decimal",
        JournalLine,
        30 * _DAY_MS,
        "One line for each committed batch: enough to replay the live run in its own order.",
    ),
    TopicSpec(
        "features",
        "side",
        _SAME,
        FeatureRow,
        _DAY_MS,
        "The model's inputs of each scored event, if features.record is on; to compare a replay with.",
    ),
)
