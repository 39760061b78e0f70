"""A simulated shop with late truth, as a log: what backtests of the tests are run on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from stream_app.backtest.config import DAY_MS
from stream_app.events import Event, Label
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import arrivals
from tests.scoring import topic_of

__all__ = ["BEGIN_MS", "DEMO", "simulated", "write_log"]

DEMO: Final = Path(__file__).resolve().parents[4] / "model" / "artifacts" / "demo"
BEGIN_MS: Final = 1_767_225_600_000  # of the simulation: 2026-01-01


@cache
def simulated() -> tuple[Event | Label, ...]:
    """Four days of 150 users."""
    options = SimulatorOptions(
        events=4_000, users=150, items=300, events_per_s=4_000 / (4 * 86_400), fraud_share=0.1, malformed_share=0.0,
        label_delay_ms=DAY_MS // 4, intent_labels=True, rhythm=False,
    )  # fmt: skip
    return tuple(arrival.message for arrival in arrivals(options))


def write_log(path: Path, messages: list[Event | Label] | tuple[Event | Label, ...]) -> Path:
    """Write a log as JSON lines."""
    with JsonlSink(path) as sink:
        for message in messages:
            if isinstance(message, Label):
                sink.send("labels", message.user.encode(), msgspec.json.encode(message), message.label_time_ms)
            else:
                sink.send(topic_of(message), message.user.encode(), msgspec.json.encode(message), message.event_time_ms)
        sink.flush()
    return path
