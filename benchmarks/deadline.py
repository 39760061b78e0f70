"""The effect of `worker.batch_deadline_ms` on the latency of answers and the size of batches, at rates that a worker can hold.

For each deadline a worker of its own on real services, warmed by a small backlog; then a steady phase at each rate, measured as
in `benchmarks.bench`: from an event's append to its answers' append, by the broker's clock. The last line is JSON.
"""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bench import LiveBench, LiveBenchPlan
from devservices import real
from devservices.ports import free_port
from stream_app.reporting.provenance import origin
from verification.harness.command import home_option, reporting
from verification.harness.namespace import RunNamespace
from verification.harness.processes import Fleet, die_on_sigterm
from verification.harness.results import print_figures, save_option

_WARM_UP_EVENTS = 4_000
_PARTITIONS = 4
_MAX_CRASHES = 0


@dataclass(slots=True)
class Deadlines(LiveBench):
    """Steady phases by deadline and rate."""

    def measure(self, deadlines_ms: list[int], rates: list[float]) -> dict[str, Any]:
        """Return {deadline: {rate: figures}}."""
        services = real.up(self.home, self.reporter.say)
        return {str(deadline): self._with_deadline(services, deadline, rates) for deadline in deadlines_ms}

    def _with_deadline(self, services: Any, deadline_ms: int, rates: list[float]) -> dict[str, Any]:  # noqa: ANN401 - of real.up
        port = free_port(f"deadline {deadline_ms}")
        extra = {"MILLRACE_WORKER_BATCH_DEADLINE_MS": str(deadline_ms), "MILLRACE_WORKER_WEB_PORT": str(port)}
        space = RunNamespace.fresh("bench-deadline-", services, self.home, extra, partitions=_PARTITIONS)
        latencies = {}
        try:
            with Fleet(space.folder, _MAX_CRASHES) as fleet:
                what = f"warm-up, deadline {deadline_ms} ms"
                self._drain(space, fleet, _WARM_UP_EVENTS, lambda: self._start_workers(space, fleet), what)
                for rate in rates:
                    batches, events = _batches(port)
                    phase = self._steady(space, fleet, rate, round(rate))
                    more_batches, more_events = _batches(port)
                    size = (more_events - events) / max(1.0, more_batches - batches)
                    latencies[f"{rate:g}"] = {
                        **phase["latency_ms"],
                        "events_in_a_batch": round(size, 1),
                        "held": phase["held_rate"],
                    }
        finally:
            space.remove()
        return latencies


def _batches(port: int) -> tuple[float, float]:
    """How many batches the worker has handled, and how many events were in them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = page.read().decode()
    values = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    return values["millrace_batch_events_count"], values["millrace_batch_events_sum"]


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


@click.command()
@click.option("--deadlines", default="0,10,50", show_default=True, help="Milliseconds, comma separated.")
@click.option("--rates", default="500,3000", show_default=True, help="Events a second, comma separated.")
@click.option("--seconds", type=click.FloatRange(5, 600), default=20.0, show_default=True, help="Length of a steady phase.")
@save_option
@home_option
def main(deadlines: str, rates: str, seconds: float, save: bool, home: Path) -> None:
    """Measure latency and batch size by deadline on real Kafka and Redis; the last line is JSON.

    Example: python -m benchmarks.deadline --deadlines 0,20 --rates 1000
    """
    die_on_sigterm()
    plan = LiveBenchPlan(events=_WARM_UP_EVENTS, idiomatic_events=1, steady_s=seconds, drain_limit_s=60.0, workers=1)
    with reporting(KafkaException, ValueError) as reporter:
        latencies = Deadlines(plan, reporter, home).measure([round(d) for d in _numbers(deadlines)], _numbers(rates))
    figures = {"latency_ms": latencies, "clock": "broker, LogAppendTime at both ends", **origin()}
    print_figures("deadline", figures, save=save)


if __name__ == "__main__":
    main()
