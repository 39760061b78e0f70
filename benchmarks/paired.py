"""Run a benchmark of two checkouts alternately on one machine; the last line is JSON with medians, spreads and ratios.

    python -m benchmarks.paired ../before . --runs 3 --short

The checkouts take turns (old, new, new, old, ...), so that a slow drift of the machine meets both alike. Both run under this
interpreter, each with its own PYTHONPATH, and use the services of this checkout.

`cpu_us_per_event` is the CPU time (user and system) per event of the worker with the model, between a tenth and nine tenths of
the drain; `cpu_us_per_event_no_model` that of the worker without one. Both are sampled from outside, so a checkout needs no
support for them. For each figure: `old` and `new` as {median, low, high}, and `ratio`, the new median over the old one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import psutil

from stream_app.reporting.provenance import origin
from verification.harness.offsets import Meter
from verification.harness.processes import ROOT, child_environment

_SAMPLE_S: Final = 0.2  # a short drain takes some three seconds
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


def order_of_runs(runs: int) -> list[str]:
    """Return "old" and "new" `runs` times each, every other pair turned round."""
    return [side for number in range(runs) for side in (("old", "new") if number % 2 == 0 else ("new", "old"))]


def compared(measured: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return medians, extremes and ratio of every figure that all runs of both sides have."""
    runs = [*measured["old"], *measured["new"]]
    names = [name for name in runs[0] if all(name in run for run in runs)]
    figures: dict[str, Any] = {}
    for name in names:
        values = {side: [run[name] for run in measured[side]] for side in ("old", "new")}
        spreads = {side: {"median": median(of), "low": min(of), "high": max(of)} for side, of in values.items()}
        old = spreads["old"]["median"]
        figures[name] = {**spreads, "ratio": round(spreads["new"]["median"] / old, 4) if old else None}
    return figures


class _WorkerSamples:
    """Answers and CPU seconds of the worker processes below a process, side by side; an ended process has no CPU time left."""

    def __init__(self, pid: int) -> None:
        self._parent = psutil.Process(pid)
        self._environments: dict[int, dict[str, str]] = {}
        self._meters: dict[str, Meter] = {}
        self._samples: dict[str, list[tuple[int, float]]] = {"model": [], "none": []}

    def sample(self) -> None:
        """Take one sample of every worker."""
        try:
            for process in self._parent.children(recursive=True):
                if process.cmdline()[-2:] == ["stream_app", "worker"]:
                    self._sample(process)
        except psutil.Error:
            return  # one of them ended during the look

    def cpu_us_per_event(self, engine: str, events: int) -> float | None:
        """Return the cost of the middle of the drain of `events` events, None where too few samples fall into it."""
        middle = [sample for sample in self._samples[engine] if events * 0.1 <= sample[0] <= events * 0.9]
        if len(middle) < 2 or middle[-1][0] == middle[0][0]:
            return None
        return round((middle[-1][1] - middle[0][1]) / (middle[-1][0] - middle[0][0]) * 1e6, 2)

    def _sample(self, process: psutil.Process) -> None:
        environment = self._environments.setdefault(process.pid, process.environ())
        bootstrap, prefix = environment["MILLRACE_KAFKA_BOOTSTRAP"], environment["MILLRACE_KAFKA_TOPIC_PREFIX"]
        partitions = int(environment["MILLRACE_KAFKA_PARTITIONS"])
        times = process.cpu_times()
        answers = self._meters.setdefault(prefix, Meter(bootstrap, partitions)).count(f"{prefix}intent-labels")
        engine = "none" if environment.get("MILLRACE_MODEL_ENGINE") == "none" else "model"
        if answers:
            self._samples[engine].append((answers, times.user + times.system))


def _run(checkout: Path, module: str, arguments: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-m", module, *arguments]
    environment = child_environment({"PYTHONPATH": str(checkout.resolve())})
    with subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True) as process:
        workers, output = _WorkerSamples(process.pid), process.stdout
        assert output is not None
        while process.poll() is None:  # it prints one line, at its end: the pipe does not fill
            workers.sample()
            time.sleep(_SAMPLE_S)
        text = output.read()
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} in {checkout} ended with status {process.returncode}")
    line = json.loads(text.splitlines()[-1])
    figures = {name: float(value) for name, value in line.items() if isinstance(value, float)}
    if module == "benchmarks.bench":
        costs = {
            "": workers.cpu_us_per_event("model", line["events"]),
            "_no_model": workers.cpu_us_per_event("none", line["events"]),
        }
        figures |= {f"cpu_us_per_event{name}": cost for name, cost in costs.items() if cost is not None}
    return figures


@click.command()
@click.argument("old", type=_FOLDER)
@click.argument("new", type=_FOLDER)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Of each checkout.")
@click.option("--module", default="benchmarks.bench", show_default=True, help="It must print one line of JSON last.")
@click.option("--short", is_flag=True, help="Pass --quick to the module.")
def main(old: Path, new: Path, runs: int, module: str, short: bool) -> None:
    """Compare a benchmark of the checkouts OLD and NEW.

    Example: python -m benchmarks.paired ../before . --runs 3 --short
    """
    arguments = ["--quick"] if short else []
    if module == "benchmarks.bench":
        arguments += ["--home", str(ROOT)]
    for checkout in (old, new):  # a checkout that never ran has nothing compiled yet
        environment = child_environment({"PYTHONPATH": str(checkout.resolve())})
        subprocess.run([sys.executable, "-m", "stream_app", "warm"], cwd=checkout, env=environment, stdout=sys.stderr, check=True)
    measured: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
    for number, side in enumerate(order_of_runs(runs), 1):
        click.echo(f"run {number} of {2 * runs}: {side}", err=True)
        measured[side].append(_run(old if side == "old" else new, module, arguments))
        click.echo(f"  {measured[side][-1]}", err=True)
    sides = {"old": _head(old), "new": _head(new)}
    click.echo(json.dumps({**compared(measured), "module": module, "runs": runs, "short": short, "checkouts": sides, **origin()}))


def _head(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
