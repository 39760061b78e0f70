"""Events a second and milliseconds, end to end on real services, beside an ordinary Faust application in the same run.

1. *Drain*: a backlog is written, then the worker is started. The rate is answers a second from the end of the first
   tenth (threads and caches are warm) to the last answer, by the broker's clock.
2. The same without a model (`MILLRACE_MODEL_ENGINE=none`), and the same with `benchmarks.live.idiomatic_app`.
3. *Steady state* at 10, 40 and 70 % of the drain rate: for every answer the time from its event's append to its own
   append, by the broker's clock alone (`benchmarks.live.latency`). Load generator and services share the machine's cores.

The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException

from benchmarks.live.latency import drain_rate, percentiles, read_appends
from benchmarks.live.load import fill
from benchmarks.live.workload import Workload
from devservices import real
from stream_app.events import ANSWER_TOPICS
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.harness.command import home_option, reporting
from verification.harness.namespace import MODEL, RunNamespace
from verification.harness.processes import Fleet, FleetError, die_on_sigterm, log_tail, run_python
from verification.harness.results import print_figures, save_option

_PARTITIONS = 4  # a machine of two cores; each partition costs the broker an append for every batch and answer topic
_LOADS = (10, 40, 70)  # percent of the drain rate
_BACKLOG_SPAN_MS = 3_600_000  # event times of a backlog cover the hour before now
_WARM_UP_MS = 3_000  # of a steady phase: the jump in rate itself is not steady state
_SETTLE_S = 30.0
_START_S = 60.0  # until the first answer: a worker compiles and loads first
_POLL_S = 0.2
_MAX_CRASHES = 2  # a figure from workers that crash is worth nothing


@dataclass(frozen=True, slots=True)
class LiveBenchPlan:
    """How much to measure.

    Attributes:
        events: Backlog of the drain with the model; half as much again without it would finish as soon.
        idiomatic_events: Backlog of the ordinary application, which does some hundreds a second.
        steady_s: Length of each steady phase.
        drain_limit_s: After so long a drain is measured by what has come until then.
        workers: Millrace's worker processes.
    """

    events: int
    idiomatic_events: int
    steady_s: float
    drain_limit_s: float
    workers: int


FULL = LiveBenchPlan(events=150_000, idiomatic_events=4_000, steady_s=20.0, drain_limit_s=60.0, workers=1)
QUICK = LiveBenchPlan(events=40_000, idiomatic_events=1_200, steady_s=8.0, drain_limit_s=20.0, workers=1)


@dataclass(slots=True)
class LiveBench:
    """One run of all measurements on the services of `home`."""

    plan: LiveBenchPlan
    reporter: Reporter
    home: Path
    self_exits: int = 0

    def run(self) -> dict[str, Any]:
        """Measure everything and return the figures."""
        services = real.up(self.home, self.reporter.say)
        spaces = {
            kind: RunNamespace.fresh(f"bench-{kind}-", services, self.home, extra, partitions=_PARTITIONS)
            for kind, extra in (("model", {}), ("bare", {"MILLRACE_MODEL_ENGINE": "none"}), ("idiomatic", {}))
        }
        try:
            rate, latency = self._with_model(spaces["model"])
            bare = self._drain_of_workers(spaces["bare"], "without the model")
            idiomatic = self._idiomatic(spaces["idiomatic"])
        finally:
            for space in spaces.values():
                space.remove()
        return {
            "events_per_s": round(rate, 1),
            "events_per_s_no_model": round(bare, 1),
            "idiomatic_events_per_s": round(idiomatic, 1),
            "ratio": round(rate / idiomatic, 1),
            "latency_ms": {load: phase["latency_ms"] for load, phase in latency.items()},
            "steady": {load: {k: v for k, v in phase.items() if k != "latency_ms"} for load, phase in latency.items()},
            "clock": "broker, LogAppendTime at both ends",
            "events": self.plan.events,
            "workers": self.plan.workers,
            "partitions": _PARTITIONS,
            "worker_restarts": self.self_exits,
            **origin(),
        }

    def _with_model(self, space: RunNamespace) -> tuple[float, dict[str, dict[str, Any]]]:
        with Fleet(space.folder, _MAX_CRASHES) as fleet:
            rate = self._drain(space, fleet, self.plan.events, lambda: self._start_workers(space, fleet), "with the model")
            phases = {str(load): self._steady(space, fleet, rate * load / 100, load) for load in _LOADS}
            self.self_exits += fleet.self_exits
        return rate, phases

    def _drain_of_workers(self, space: RunNamespace, what: str) -> float:
        with Fleet(space.folder, _MAX_CRASHES) as fleet:
            rate = self._drain(space, fleet, self.plan.events, lambda: self._start_workers(space, fleet), what)
            self.self_exits += fleet.self_exits
        return rate

    def _idiomatic(self, space: RunNamespace) -> float:
        arguments = [
            *("benchmarks.live.idiomatic_app", "--bootstrap", space.services.kafka.bootstrap),
            *("--redis-url", space.services.redis.url, "--prefix", space.topic_prefix),
            *("--model", str(MODEL)),
        ]
        with Fleet(space.folder, _MAX_CRASHES) as fleet:

            def start() -> None:
                fleet.start("idiomatic", arguments, {})

            return self._drain(space, fleet, self.plan.idiomatic_events, start, "ordinary Faust application")

    def _start_workers(self, space: RunNamespace, fleet: Fleet) -> None:
        for number in range(self.plan.workers):
            settings = {**space.settings(), "MILLRACE_WORKER_INSTANCE": f"bench-{number}"}
            fleet.start(f"worker-{number}", ["stream_app", "worker"], settings)

    def _drain(self, space: RunNamespace, fleet: Fleet, count: int, start: Callable[[], None], what: str) -> float:
        """Write a backlog of `count` events, start the workers, return the rate they answer at."""
        space.create_topics()
        workload = Workload(time.time_ns() // 1_000_000 - _BACKLOG_SPAN_MS, _BACKLOG_SPAN_MS / count)
        filled = fill(space.services.kafka.bootstrap, space.topic_prefix, workload, count)
        self.reporter.say(f"{what}: backlog of {count:,} events written at {filled:,.0f} a second")
        start()
        labels = [space.topic("intent-labels")]
        answered = self._await_answers(space, fleet, count, self.plan.drain_limit_s, what)
        ends = space.meter().ends(labels)
        if not answered:
            logs = "\n".join(log_tail(log) for log in sorted(space.folder.glob("*.log")))
            raise FleetError(f"{what}: no answer within {self.plan.drain_limit_s:.0f} s; the ends of the logs:\n{logs}")
        appends = read_appends(space.services.kafka.bootstrap, {}, ends)
        rate = drain_rate(appends.answer_ms)
        self.reporter.say(f"{what}: {rate:,.0f} events a second over {answered:,} events")
        return rate

    def _await_answers(self, space: RunNamespace, fleet: Fleet, count: int, limit_s: float, what: str) -> int:
        """Wait until `count` labels stand in their topic, or `limit_s` seconds after the first; return how many do."""
        meter, labels = space.meter(), space.topic("intent-labels")
        deadline, answered = time.monotonic() + max(limit_s, _START_S), 0
        while answered < count and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            fleet.tend()
            before = answered
            answered = meter.count(labels) or answered
            if answered and not before:
                deadline = time.monotonic() + limit_s  # start-up (compilation, loading) is not the drain's
            self.reporter.at(what, answered, count)
        return answered

    def _steady(self, space: RunNamespace, fleet: Fleet, rate: float, load: int) -> dict[str, Any]:
        """Send `rate` events a second to the running workers and return latencies of their answers."""
        meter, bootstrap = space.meter(), space.services.kafka.bootstrap
        topics = [space.topic(name) for name in ANSWER_TOPICS]
        before = meter.ends(topics)
        labels_before = meter.count(space.topic("intent-labels")) or 0
        arguments = ["--bootstrap", bootstrap, "--prefix", space.topic_prefix, "--rate", f"{rate:.1f}"]
        arguments += ["--seconds", f"{self.plan.steady_s:.1f}", "--seed", str(load)]
        out = run_python(["benchmarks.live.load", *arguments], {}, space.folder / "load.log", self.plan.steady_s * 4 + 60)
        sent = json.loads(out.splitlines()[-1])
        target = labels_before + sent["sent"]
        answered = self._await_answers(space, fleet, target, _SETTLE_S, f"{load} % load")
        appends = read_appends(bootstrap, before, meter.ends(topics))
        latency = percentiles(appends, _WARM_UP_MS)
        self.reporter.say(f"{load} % load ({sent['rate']:,.0f} a second): {latency}")
        return {
            "latency_ms": latency,
            "asked_per_s": round(rate, 1),
            "sent_per_s": sent["rate"],
            "generator_lag_ms": sent["lag_ms"],
            "held_rate": sent["rate"] >= 0.98 * rate,
            "answers": len(appends.answer_ms),
            "unanswered": target - answered,
        }


@click.command()
@click.option("--events", type=click.IntRange(1_000), help="Backlog of the drain; default 150,000, with --quick 40,000.")
@click.option("--workers", type=click.IntRange(1, _PARTITIONS), default=1, show_default=True, help="Worker processes.")
@click.option("--quick", is_flag=True, help="About 90 s in place of 6 minutes; coarser figures.")
@save_option
@home_option
def main(events: int | None, workers: int, quick: bool, save: bool, home: Path) -> None:
    """Measure drain rate and latency on real Kafka and Redis; the last line is JSON.

    Example: python -m benchmarks.bench --quick
    """
    die_on_sigterm()
    base = QUICK if quick else FULL
    plan = LiveBenchPlan(events or base.events, base.idiomatic_events, base.steady_s, base.drain_limit_s, workers)
    with reporting(KafkaException, ValueError) as reporter:
        figures = LiveBench(plan, reporter, home).run()
    print_figures("bench", figures, save=save)


if __name__ == "__main__":
    main()
