"""Counts the answers of a running worker, their latency, and the precision of its alerts against the simulator's labels.

Pure arithmetic over records: no clock and no client. An alert is right when a label marks its event as fraud. A label comes later
than its event, so alerts younger than `label_delay_ms` are left out, not counted as wrong.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

import msgspec

from stream_app.events import ANSWER_TOPICS, FraudAlert, IntentLabel, Label

_LATENCIES: Final = 200_000  # newest answers of the percentiles: minutes at a demo's rate, bounded memory
_RECENT: Final = 100_000  # newest answers by topic among which repeats are detected
_SHOWN: Final = 6  # alerts on the screen


class _Identified(msgspec.Struct):
    answer_id: str


_decode_identified = msgspec.json.Decoder(_Identified).decode
_decode_label = msgspec.json.Decoder(Label).decode
_decode_alert = msgspec.json.Decoder(FraudAlert).decode
_decode_intent = msgspec.json.Decoder(IntentLabel).decode


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures so far. Latency is from the event's Kafka timestamp to the reader; None without records."""

    answers: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    alerts_judged: int
    alerts_right: int
    fraud_known: int

    @property
    def precision(self) -> float | None:
        """Share of right alerts among those old enough to have a label."""
        return self.alerts_right / self.alerts_judged if self.alerts_judged else None

    @property
    def recall(self) -> float | None:
        """Share of known fraud events with an alert."""
        return self.alerts_right / self.fraud_known if self.fraud_known else None


@dataclass
class Scoreboard:
    """The counts; `add` takes records of the answer and side topics, in any order."""

    label_delay_ms: int
    counts: Counter[str] = field(default_factory=Counter)
    intents: Counter[str] = field(default_factory=Counter)
    latest_alerts: deque[FraudAlert] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    _latencies_ms: deque[int] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    _recent: dict[str, dict[str, None]] = field(default_factory=dict)  # topic -> answer ids, oldest first
    _alerts: dict[str, int] = field(default_factory=dict)  # event id -> ingest time
    _truth: dict[str, float] = field(default_factory=dict)  # event id -> fraud

    def add(self, topic: str, value: bytes, seen_ms: int) -> None:
        """Count one record of `topic` (its name without prefix), read at `seen_ms`."""
        if topic == "labels":
            label = _decode_label(value)
            if label.task == "fraud":
                self._truth[label.event_id] = label.value
            return
        if self._is_repeat(topic, value):
            return
        self.counts[topic] += 1
        if topic == "intent-labels":
            answer = _decode_intent(value)
            self.intents[answer.intent] += 1
            self._latencies_ms.append(seen_ms - answer.ingest_time_ms)
        elif topic == "fraud-alerts":
            alert = _decode_alert(value)
            self.latest_alerts.append(alert)
            self._alerts[alert.event_id] = alert.ingest_time_ms

    def _is_repeat(self, topic: str, value: bytes) -> bool:
        """Return whether a recent answer has the same id: answers are published at least once."""
        recent, identifier = self._recent.setdefault(topic, {}), _decode_identified(value).answer_id
        if identifier in recent:
            return True
        recent[identifier] = None
        if len(recent) > _RECENT:
            del recent[next(iter(recent))]
        return False

    def truth_of(self, event_id: str) -> float | None:
        """Return the label of an event: 1.0 fraud, 0.0 honest, None without a label."""
        return self._truth.get(event_id)

    def summary(self, now_ms: int) -> Summary:
        """Return the figures as of `now_ms`."""
        latencies = sorted(self._latencies_ms)
        judged = [event for event, ingest_ms in self._alerts.items() if ingest_ms + self.label_delay_ms <= now_ms]
        frauds = {event for event, value in self._truth.items() if value >= 0.5}
        return Summary(
            answers={topic: self.counts[topic] for topic in ANSWER_TOPICS},
            p50_ms=_percentile(latencies, 0.50),
            p99_ms=_percentile(latencies, 0.99),
            alerts_judged=len(judged),
            alerts_right=sum(event in frauds for event in judged),
            fraud_known=len(frauds),
        )


def _percentile(ascending: list[int], share: float) -> float | None:
    # Nearest rank: the smallest value that at least `share` of all values do not exceed.
    if not ascending:
        return None
    return float(ascending[max(0, math.ceil(share * len(ascending)) - 1)])
