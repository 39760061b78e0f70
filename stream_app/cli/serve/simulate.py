"""`millrace simulate`: sends the events of a simulated shop to Kafka or to a file, at a rate."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stream_app.cli.settings import cli_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from stream_app.logs.ingest.pace import Pace
    from stream_app.logs.ingest.sink import Sink
    from stream_app.reporting.progress import ProgressLine
    from stream_app.simulator.arrivals import Arrival
    from stream_app.simulator.options import SimulatorOptions

_DENSEST_PER_S: Final = 1_000.0  # beyond it simulated time outruns the clock, and open sessions would fill the memory
_USERS_PER_RATE: Final = 100  # live shoppers for each event/s, so that each pauses between events
_WARM_UP_MS: Final = 180_000  # sessions last about two minutes: after it as many end as begin
_SHARES: Final = ("fraud_share", "late_share", "out_of_order_share", "duplicate_share", "malformed_share")
_WARM_UP_EVENTS: Final = 150_000  # one or two seconds of work


@dataclass
class _Sent:
    by_topic: Counter[str] = field(default_factory=Counter)
    begin_s: float = 0.0
    malformed: int = 0
    duplicates: int = 0
    fraud: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> int:
        """Return the number of records on the source topics."""
        return self.by_topic.total() - self.by_topic["labels"]

    def seconds(self) -> float:
        """Return the time since the first record."""
        return time.monotonic() - self.begin_s if self.begin_s else 0.0

    def count(self, arrival: Arrival) -> None:
        """Count one record of a source topic."""
        self.begin_s = self.begin_s or time.monotonic()
        self.by_topic[arrival.topic] += 1
        self.malformed += bool(arrival.damage)
        self.duplicates += arrival.copy == 2
        if arrival.fraud_kind:
            self.fraud[arrival.fraud_kind] += 1


_EXAMPLES: Final = """\b
Examples:
  millrace simulate --rate 500 --seconds 60
  millrace simulate --to shop.jsonl --events 100000 --rate 0 --seed 7
  millrace simulate --rate 2000 --fraud-share 0.05 --malformed-share 0.01
"""


@click.command("simulate", epilog=_EXAMPLES)
@click.option(
    "--rate", type=click.FloatRange(min=0), default=500.0, show_default=True, help="Events a second; 0: as fast as it goes."
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds of real time.")
@click.option("--events", type=click.IntRange(min=1), help="Stop after so many events.")
@click.option("--to", "target", default="kafka", show_default=True, help="`kafka`, or a file for JSON lines.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed and options: same bytes.")
@click.option(
    "--live/--no-live",
    default=None,
    help="Event times are the present, or start at --start. Default: live to Kafka, not live to a file.",
)
@click.option("--start", type=click.DateTime(), help="First event time (UTC) without --live.  [default: 2026-01-01]")
@click.option(
    "--density",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Events a second of event time, without --live.",
)
@click.option(
    "--users", type=click.IntRange(min=10), help="Regular shoppers.  [default: 20000, live at least 100 for each event/s]"
)
@click.option("--items", type=click.IntRange(min=20), default=4_000, show_default=True, help="Items of the catalogue.")
@click.option("--fraud-share", type=click.FloatRange(0, 0.5), default=0.02, show_default=True)
@click.option("--late-share", type=click.FloatRange(0, 0.5), default=0.005, show_default=True)
@click.option("--out-of-order-share", type=click.FloatRange(0, 0.5), default=0.005, show_default=True)
@click.option("--duplicate-share", type=click.FloatRange(0, 0.5), default=0.005, show_default=True)
@click.option("--malformed-share", type=click.FloatRange(0, 0.5), default=0.001, show_default=True)
@click.option(
    "--label-delay", type=click.FloatRange(min=0), help="Typical delay of a label, in seconds.  [default: 10 live, else 7 days]"
)
@click.option("--intent-labels", is_flag=True, help="Put each event's intent on `labels` too.")
def command(**arguments: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Produce the events of a simulated shop with fraud, and their labels."""
    from stream_app.logs.ingest.pace import Pace
    from stream_app.logs.ingest.stopping import stop_on_signals
    from stream_app.reporting.progress import ProgressLine
    from stream_app.simulator.shop import arrivals

    live = arguments["target"] == "kafka" if arguments["live"] is None else bool(arguments["live"])
    options = _options(arguments, live=live)
    sent = _Sent()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        sink = _sink(str(arguments["target"]), stack)
        progress = stack.enter_context(ProgressLine("simulating", "events", _total(arguments), sys.stderr))
        ended = _ended(stop, arguments["seconds"])
        _produce(arrivals(options, ended), sink, sent, Pace(arguments["rate"]), progress, live=live)
        sink.flush()
        seconds = sent.seconds()
    click.echo(json.dumps(_summary(sent, seconds, interrupted=stop.is_set(), live=live, seed=options.seed)))


def _produce(events: Iterator[Arrival], sink: Sink, sent: _Sent, pace: Pace, progress: ProgressLine, *, live: bool) -> None:
    from stream_app.clock import SystemClock
    from stream_app.simulator.shop import LiveStamp, record_from_arrival

    clock, stamp = SystemClock(), LiveStamp()
    for arrival in events:
        if arrival.topic == "labels":
            sent.by_topic["labels"] += 1
        else:
            sent.count(arrival)
            pace.wait()
            progress.show(sent.events)
        sink.send(*record_from_arrival(stamp.stamp(arrival, clock.now_ms()) if live else arrival))


def _options(arguments: dict[str, Any], *, live: bool) -> SimulatorOptions:
    from stream_app.clock import SystemClock
    from stream_app.simulator.options import SimulatorOptions

    rate = arguments["rate"] or _DENSEST_PER_S
    chosen = {name: arguments[name] for name in _SHARES}
    delay_s = arguments["label_delay"]
    if live:
        density = min(rate, _DENSEST_PER_S)
        chosen |= {
            "events_per_s": density,
            "rhythm": False,  # the clock's rate holds at any hour
            "warm_up_ms": int(min(_WARM_UP_MS, _WARM_UP_EVENTS / density * 1_000)),
            "users": arguments["users"] or max(20_000, int(_USERS_PER_RATE * density)),
            "label_delay_ms": int(1_000 * (10 if delay_s is None else delay_s)),
            # Live runs share topics: each needs ids of its own.
            "id_prefix": f"sim{arguments['seed']}-{SystemClock().now_ms():x}-",
        }
    else:
        chosen |= {"events_per_s": arguments["density"], "users": arguments["users"] or 20_000}
        if delay_s is not None:
            chosen["label_delay_ms"] = int(1_000 * delay_s)
        if arguments["start"] is not None:
            chosen["start_ms"] = int(arguments["start"].replace(tzinfo=UTC).timestamp() * 1_000)
    return SimulatorOptions(
        seed=arguments["seed"],
        items=arguments["items"],
        events=arguments["events"],
        intent_labels=arguments["intent_labels"],
        **chosen,
    )


def _sink(target: str, stack: ExitStack) -> Sink:
    from stream_app.events import SOURCE_TOPICS
    from stream_app.logs.ingest.sink import JsonlSink, KafkaSink

    if target != "kafka":
        return stack.enter_context(JsonlSink(Path(target)))
    settings = cli_settings()
    return stack.enter_context(KafkaSink(settings.kafka.bootstrap, (*SOURCE_TOPICS, "labels"), settings.kafka.topic_prefix))


def _total(arguments: dict[str, Any]) -> int | None:
    """Return the expected number of events; None: no end."""
    ends = [arguments["events"]] if arguments["events"] else []
    if arguments["seconds"] and arguments["rate"]:
        ends.append(int(arguments["rate"] * arguments["seconds"]))
    return min(ends, default=None)


def _ended(stop: Event, seconds: float | None) -> Callable[[], bool]:
    if seconds is None:
        return stop.is_set
    end_s: float | None = None

    def ended() -> bool:
        nonlocal end_s
        if end_s is None:  # first call, before the first event: the warm-up does not count
            end_s = time.monotonic() + seconds
        return stop.is_set() or time.monotonic() >= end_s

    return ended


def _summary(sent: _Sent, seconds: float, *, interrupted: bool, live: bool, seed: int) -> dict[str, object]:
    return {
        "events": sent.events,
        "by_topic": dict(sorted(sent.by_topic.items())),
        "seconds": round(seconds, 3),
        "events_per_s": round(sent.events / seconds, 1) if seconds else 0.0,
        "labels": sent.by_topic["labels"],
        "malformed": sent.malformed,
        "duplicates": sent.duplicates,
        "fraud_events": dict(sorted(sent.fraud.items())),
        "live": live,
        "seed": seed,
        "interrupted": interrupted,
    }
