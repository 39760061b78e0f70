"""Hot swaps under load on real services: lost answers, mixed commits, and the latency during a swap.

A worker follows a registry of two models that differ. A load generator sends events at a steady rate; after a while without
swaps the champion is changed again and again, each time as soon as the worker has taken the one before. Then every topic is read
back: an answer for every event, each commit of one champion, as the journal says (`verification.harness.swap_audit`).

`p99_ms_before` is of events that came before the first swap, `p99_ms_during` of those that came while a swap was under way, from
the change in the registry to the worker's report that it serves; both by the broker's clock alone (`benchmarks.live.latency`).

The last line is JSON.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from benchmarks.live.latency import Appends, read_appends
from benchmarks.live.perturbed_model import perturbed
from devservices import real
from stream_app.clock import SystemClock
from stream_app.events import ANSWER_TOPICS, SOURCE_TOPICS
from stream_app.inference.registry.directory import DirectoryBackend
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.harness.answer_audit import ALERTS, CANDIDATES, DEAD, LABELS, LATE, AnswerAudit
from verification.harness.command import home_option, reporting
from verification.harness.namespace import MODEL, RunNamespace
from verification.harness.output_topics import OutputTopicReader
from verification.harness.processes import Fleet, FleetError, die_on_sigterm, log_tail, run_python
from verification.harness.results import print_figures, save_option
from verification.harness.swap_audit import SwapAudit

_PARTITIONS = 4
_POLL_MS = 200  # of the worker; a swap begins so long after it was asked for
_POLL_S = 0.05
_SWAP_LIMIT_S = 60.0
_START_LIMIT_S = 120.0
_SETTLE_S = 60.0
_WARM_UP_MS = 3_000


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """How much to measure.

    Attributes:
        swaps: How often the champion changes.
        rate: Events a second.
        before_s: How long without a swap.
        pause_s: From the end of a swap to the next one.
    """

    swaps: int = 20
    rate: float = 2_000.0
    before_s: float = 20.0
    pause_s: float = 0.7


_FIRST_ANSWER_S = 8.0  # the load goes on that much longer, so that answers follow the last swap of a worker that starts slowly

FULL = SwapPlan()


@dataclass(slots=True)
class SwapRun:
    """One run in a space of its own."""

    plan: SwapPlan
    reporter: Reporter
    space: RunNamespace
    registry: ModelRegistry
    pair: tuple[str, str]

    @classmethod
    def prepare(cls, plan: SwapPlan, reporter: Reporter, space: RunNamespace, models: Path) -> SwapRun:
        """Make the registry `models` with two models, and let the first one serve."""
        registry = ModelRegistry(DirectoryBackend(models), SystemClock())
        first = registry.add(MODEL)
        perturbed(MODEL, models.parent / "other")
        second = registry.add(models.parent / "other")
        registry.promote(first, by="benchmark", why="the first one")
        return cls(plan, reporter, space, registry, (first, second))

    @staticmethod
    def settings(models: Path) -> dict[str, str]:
        """Return the settings that make a worker follow the registry `models`."""
        return {
            "MILLRACE_MODEL_REGISTRY": str(models),
            "MILLRACE_MODEL_REGISTRY_POLL_MS": str(_POLL_MS),
            "MILLRACE_MODEL_COMPARISONS": "",
        }

    def run(self, fleet: Fleet) -> dict[str, Any]:
        """Load, swap, wait, read back; return the figures."""
        self.space.create_topics()
        fleet.start("worker", ["stream_app", "worker"], self.space.settings())
        self._await_worker(fleet, 1, _START_LIMIT_S)
        seconds = _FIRST_ANSWER_S + self.plan.before_s + self.plan.swaps * (self.plan.pause_s + 1.5)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(self._load, seconds)
            self._await_first_answer(fleet)
            time.sleep(self.plan.before_s)
            windows = self._swap_all(fleet)
            sent = json.loads(load.result().splitlines()[-1])
        self._await_answers(fleet, sent["sent"])
        return self._figures(windows, sent, fleet.self_exits)

    def _load(self, seconds: float) -> str:
        arguments = ["--bootstrap", self.space.services.kafka.bootstrap, "--prefix", self.space.topic_prefix]
        arguments += ["--rate", f"{self.plan.rate:.1f}", "--seconds", f"{seconds:.1f}"]
        return run_python(["benchmarks.live.load", *arguments], {}, self.space.folder / "load.log", seconds * 4 + 60)

    def _swap_all(self, fleet: Fleet) -> list[tuple[int, int]]:
        """Change the champion again and again; return when each change began and ended, epoch milliseconds."""
        clock, windows = SystemClock(), []
        for number in range(self.plan.swaps):
            began = clock.now_ms()
            stages = self.registry.promote(self.pair[(number + 1) % 2], by="benchmark", why=f"swap {number + 1}")
            self._await_worker(fleet, stages.revision, _SWAP_LIMIT_S)
            windows.append((began, clock.now_ms()))
            self.reporter.at("swaps", number + 1, self.plan.swaps)
            time.sleep(self.plan.pause_s)
        return windows

    def _await_worker(self, fleet: Fleet, revision: int, limit_s: float) -> None:
        """Wait until the worker serves the champion of the registry.

        Raises:
            FleetError: It does not within `limit_s` seconds, or has refused it.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            fleet.tend()
            for status in self.registry.workers():
                if status.revision >= revision:
                    if status.outcome != "served":
                        raise FleetError(f"change {revision} was {status.outcome}: {status.reason}")
                    return
            time.sleep(_POLL_S)
        log = log_tail(fleet.log("worker"))
        raise FleetError(f"the worker has not taken change {revision} within {limit_s:.0f} s; its log ends:\n{log}")

    def _await_first_answer(self, fleet: Fleet) -> None:
        meter, deadline = self.space.meter(), time.monotonic() + _SWAP_LIMIT_S
        while not meter.count(self.space.topic("intent-labels")) and time.monotonic() < deadline:
            fleet.tend()
            time.sleep(_POLL_S)

    def _await_answers(self, fleet: Fleet, sent: int) -> None:
        meter, deadline = self.space.meter(), time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            fleet.tend()
            answered = meter.count(self.space.topic("intent-labels"), self.space.topic("late-events")) or 0
            self.reporter.at("answers", answered, sent)
            if answered >= sent:
                break
            time.sleep(_POLL_S)
        fleet.terminate("worker")  # what is in flight is finished and the journal complete

    def _figures(self, windows: list[tuple[int, int]], sent: dict[str, Any], restarts: int) -> dict[str, Any]:
        books, swaps, events = self._read_back()
        appends = read_appends(
            self.space.services.kafka.bootstrap, {}, self.space.meter().ends([self.space.topic(n) for n in ANSWER_TOPICS])
        )
        mixed = swaps.mixed(len(windows))
        before = _p99(appends, _outside(appends, windows[0][0]))
        during = _p99(appends, _inside(appends, windows))
        for kind, count in mixed.items():
            self.reporter.say(f"mixed: {kind}: {count}")
        return {
            "events": events,
            "lost": books.problems.counts["missing"],
            "problems": dict(books.problems.counts),
            "mixed": sum(mixed.values()),
            "swaps": len(windows),
            "swaps_seen": swaps.swaps_seen(),
            "degraded": swaps.degraded(),
            "p99_ms_before": before,
            "p99_ms_during": during,
            "ratio": round(during / before, 2),
            "swap_ms": {
                name: round(float(np.percentile([end - start for start, end in windows], q)))
                for name, q in (("p50", 50), ("max", 100))
            },
            "rate": sent["rate"],
            "asked_rate": self.plan.rate,
            "worker_restarts": restarts,
            "clock": "broker, LogAppendTime at both ends",
            **origin(),
        }

    def _read_back(self) -> tuple[AnswerAudit, SwapAudit, int]:
        meter, prefix = self.space.meter(), len(self.space.topic_prefix)
        books, swaps = AnswerAudit(self.space.topic_prefix), SwapAudit()
        with OutputTopicReader(self.space.services.kafka.bootstrap) as reader:
            sources = reader.read_to(meter.ends([self.space.topic(name) for name in SOURCE_TOPICS]))
            places = [(record.topic[prefix:], record.partition, record.offset) for record in sources]
            answers = [self.space.topic(name) for name in (ALERTS, LABELS, CANDIDATES, DEAD, LATE)]
            for record in reader.read_to(meter.ends(answers)):
                books.enter(record.topic[prefix:], record.value)
                if record.topic[prefix:] in ANSWER_TOPICS:
                    swaps.enter_answer(record.value)
            for record in reader.read_to(meter.ends([self.space.topic("journal")])):
                swaps.enter_line(record.value)
        books.close(places)
        return books, swaps, len(places)


def _outside(appends: Appends, until_ms: int) -> NDArray[np.bool_]:
    warm = appends.source_ms >= appends.source_ms.min() + _WARM_UP_MS
    chosen: NDArray[np.bool_] = warm & (appends.source_ms < until_ms)
    return chosen


def _inside(appends: Appends, windows: list[tuple[int, int]]) -> NDArray[np.bool_]:
    chosen = np.zeros(len(appends.source_ms), np.bool_)
    for start, end in windows:
        chosen |= (appends.source_ms >= start) & (appends.source_ms <= end)
    return chosen


def _p99(appends: Appends, chosen: NDArray[np.bool_]) -> float:
    if not chosen.any():
        raise FleetError("no event came within the time that is measured: raise --rate, or the pauses")
    return round(float(np.percentile((appends.answer_ms - appends.source_ms)[chosen], 99)), 1)


@click.command()
@click.option("--swaps", type=click.IntRange(1), default=FULL.swaps, show_default=True)
@click.option("--rate", type=click.FloatRange(10), default=FULL.rate, show_default=True, help="Events a second.")
@click.option(
    "--before", "before_s", type=click.FloatRange(5), default=FULL.before_s, show_default=True, help="Seconds without a swap."
)
@save_option
@home_option
def main(swaps: int, rate: float, before_s: float, save: bool, home: Path) -> None:
    """Swap models under load on real Kafka and Redis; the last line is JSON. Exit status 1 if anything was lost or mixed.

    Example: python -m benchmarks.swap --swaps 20
    """
    die_on_sigterm()
    with reporting(KafkaException, ValueError) as reporter:
        services = real.up(home, reporter.say)
        blank = RunNamespace.fresh("swap-", services, home, partitions=_PARTITIONS)
        models = blank.folder / "models"
        space = RunNamespace(blank.name, services, blank.folder, SwapRun.settings(models), _PARTITIONS)
        try:
            run = SwapRun.prepare(SwapPlan(swaps, rate, before_s), reporter, space, models)
            with Fleet(space.folder, 0) as fleet:
                figures = run.run(fleet)
        finally:
            space.remove()
    print_figures("swap", figures, save=save)
    click.get_current_context().exit(1 if figures["lost"] or figures["mixed"] else 0)


if __name__ == "__main__":
    main()
