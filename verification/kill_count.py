"""Kill a worker again and again (-9) under a steady load, then count every outcome.

A simulated shop sends events, late and malformed ones among them. The worker is killed at random moments, one in each equal part
of the time, each after new answers since its last start, and started again at once. When Kafka's group has acknowledged every
event, the worker ends in order, and `verification.outcome_count`, which shares no code with the product, reads all topics in a
process of its own. The load lasts until the last kill.

The last line is JSON: the keys of `outcome_count` and `kills`, `sent` (events by the producer's own account), `rate` (events/s),
`kill_seconds` (from the start of the load to the last kill), `worker_restarts` (crashes that were not kills), `clean_exit`,
`seconds`. Exit status 1 unless `ok`: every kill done, no fault counted, as many events as were sent, and all of answers, late
events and dead letters among them. Topics and keys then stay for inspection.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from confluent_kafka import Consumer, KafkaException, TopicPartition

from devservices import real
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.harness.command import home_option, reporting
from verification.harness.namespace import RunNamespace
from verification.harness.processes import ROOT, Fleet, FleetError, die_on_sigterm, log_tail
from verification.harness.results import print_figures, save_option
from verification.outcome_count import LABELS, SOURCES

_WORKER: Final = "worker"
_PRODUCER: Final = "producer"
_SHARES: Final = ("--late-share", "0.01", "--malformed-share", "0.005", "--duplicate-share", "0.005")
_POLL_S: Final = 0.1
_IDLE_LIMIT_S: Final = 120.0  # without a new answer or acknowledgement
_PRODUCER_LIMIT_S: Final = 60.0


@dataclass(slots=True)
class KillRun:
    """One run in its own namespace."""

    space: RunNamespace
    kills: int
    seconds: float
    rate: float
    reporter: Reporter
    started: float = field(default_factory=time.monotonic)
    figures: dict[str, Any] = field(default_factory=dict)

    def go(self) -> None:
        """Produce, kill, and wait until all is acknowledged; leaves `figures`.

        Raises:
            FleetError: The producer failed, the worker crashes in a loop, or nothing moved for two minutes.
        """
        self.space.create_topics()
        settings = self.space.settings()
        with Fleet(self.space.folder) as producers, Fleet(self.space.folder) as workers:
            # A static member that comes back under its name need not wait until the broker has missed it.
            workers.start(_WORKER, ["stream_app", "worker"], {**settings, "MILLRACE_WORKER_INSTANCE": _WORKER})
            producers.start(_PRODUCER, ["stream_app", "simulate", "--rate", str(self.rate), *_SHARES], settings)
            self._kill_all(workers, producers)
            sent = self._end_of_load(producers)
            self._wait_acknowledged(workers)
            self.figures |= {
                "sent": sent["events"],
                "rate": sent["events_per_s"],
                "worker_restarts": workers.self_exits,
                "clean_exit": workers.terminate(_WORKER),
            }

    def _kill_all(self, workers: Fleet, producers: Fleet) -> None:
        meter, labels = self.space.meter(), self.space.topic(LABELS)
        draws, part_s = random.Random(self.kills), self.seconds / self.kills
        answered, before = meter.count(labels) or 0, 0
        begin = moved = time.monotonic()
        for number in range(self.kills):
            due = begin + part_s * (number + draws.random())
            while time.monotonic() < due or answered == before:
                time.sleep(_POLL_S)
                self._check_producer(producers)
                workers.tend()
                count = meter.count(labels)
                if count is not None and count != answered:
                    answered, moved = count, time.monotonic()
                elif time.monotonic() - moved > _IDLE_LIMIT_S:
                    raise FleetError(f"no answer for {_IDLE_LIMIT_S:.0f} s:\n{log_tail(workers.log(_WORKER))}")
                self.reporter.at("killed", number, self.kills, "times", f"{answered:,} answers")
            workers.kill(_WORKER)
            workers.restart(_WORKER)
            before = answered
            self.figures |= {"kills": number + 1, "kill_seconds": round(time.monotonic() - begin, 1)}
        while time.monotonic() < begin + self.seconds:
            time.sleep(_POLL_S)

    def _check_producer(self, producers: Fleet) -> None:
        if producers.ended(_PRODUCER) is not None:
            raise FleetError(f"the producer has ended:\n{log_tail(producers.log(_PRODUCER))}")

    def _end_of_load(self, producers: Fleet) -> dict[str, Any]:
        """End the producer and return the last line of its output."""
        self._check_producer(producers)
        producers.terminate(_PRODUCER, _PRODUCER_LIMIT_S)
        lines = producers.log(_PRODUCER).read_text(errors="replace").splitlines()
        try:
            summary: dict[str, Any] = json.loads(lines[-1])
        except (IndexError, ValueError) as err:
            raise FleetError(f"the producer printed no summary:\n{log_tail(producers.log(_PRODUCER))}") from err
        return summary

    def _wait_acknowledged(self, workers: Fleet) -> None:
        """Wait until the group's committed offsets are the ends of the source topics."""
        ends = self.space.meter().ends([self.space.topic(name) for name in SOURCES])
        places = [TopicPartition(topic, partition) for (topic, partition), end in ends.items() if end]
        consumer = Consumer({"bootstrap.servers": self.space.services.kafka.bootstrap, "group.id": self.space.name})
        last, moved, total = -1, time.monotonic(), sum(ends.values())
        try:
            while last < total:
                time.sleep(_POLL_S)
                workers.tend()
                committed = sum(max(place.offset, 0) for place in consumer.committed(places, timeout=30))
                if committed != last:
                    last, moved = committed, time.monotonic()
                elif time.monotonic() - moved > _IDLE_LIMIT_S:
                    raise FleetError(f"{last:,} of {total:,} events acknowledged:\n{log_tail(workers.log(_WORKER))}")
                self.reporter.at("acknowledged", last, total, "events")
        finally:
            consumer.close()

    def count(self) -> None:
        """Count the outcomes in a process of its own, and judge."""
        arguments = ["--bootstrap", self.space.services.kafka.bootstrap, "--prefix", self.space.topic_prefix]
        command = [sys.executable, "-m", "verification.outcome_count", *arguments, "--partitions", str(self.space.partitions)]
        counted = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if not counted.stdout:
            raise FleetError(f"{' '.join(command)} ended with status {counted.returncode} and printed nothing")
        counts = json.loads(counted.stdout.splitlines()[-1])
        self.figures = {**counts, **self.figures, "seconds": round(time.monotonic() - self.started, 1), **origin()}
        self.figures["ok"] = is_proof(self.figures, self.kills)


def is_proof(figures: dict[str, Any], kills: int) -> bool:
    """Return whether the counts are right and the run met what it is about: the kills, and events of every outcome."""
    outcomes = ("answered", "alerts", "late_events", "dead_letters")
    return bool(
        figures["ok"]
        and figures["kills"] >= kills
        and figures["events"] == figures["sent"]
        and all(figures[outcome] for outcome in outcomes)
    )


@click.command()
@click.option("--kills", type=click.IntRange(1), default=20, show_default=True, help="How often the worker is killed.")
@click.option("--seconds", type=click.FloatRange(5), default=180.0, show_default=True, help="How long the load lasts, at least.")
@click.option("--rate", type=click.FloatRange(10), default=500.0, show_default=True, help="Events a second.")
@save_option
@home_option
def main(kills: int, seconds: float, rate: float, save: bool, home: Path) -> None:
    """Kill a worker under load and count every outcome by independent code; the last line is JSON.

    Example: python -m verification.kill_count --kills 5 --seconds 45
    """
    die_on_sigterm()
    with reporting(KafkaException) as reporter:
        space = RunNamespace.fresh("kills-", real.up(home, reporter.say), home)
        run = KillRun(space, kills, seconds, rate, reporter)
        run.go()
        reporter.say("all acknowledged; counting")
        run.count()
        if run.figures["ok"]:
            space.remove()
        else:
            reporter.say(f"topics {space.topic_prefix}* and keys {space.name}:* are left for inspection")
    print_figures("kill_count", run.figures, save=save)
    raise SystemExit(0 if run.figures["ok"] else 1)


if __name__ == "__main__":
    main()
