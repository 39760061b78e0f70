"""The speed of a replay: features alone, with the model, its memory, and offline tools, each in its own process.

- `features_events_per_s`: a log that `millrace sort` has written, to all features, on one core (the process is bound to it):
  columns, digests, numbering, the fold; state in memory, nothing written;
- `decoded_events_per_s`: the same from events that were decoded before, on one core: the way of a worker and of any other log;
- `model_events_per_s`: a whole canonical replay on one core: JSON lines in, features, model, candidates, answers out;
- `peak_rss_mb`: peak memory of the features of so many events. The log is the real card log, repeated with its times shifted, so
  users come again and again; its columns are made once, as decoding holds nothing;
- `polars_events_per_s`, `duckdb_events_per_s`: 20 of the features, all at once, of a table in memory, one thread;
  `millrace_20_events_per_s`: the same 20 by a catalogue of those alone, from a table as above;
- `live_ratio`: features of such a log by the wall clock, on all cores (`features_wall_events_per_s`), to what one live worker
  does end to end without a model, on the same machine and its own workload: measured in the same run (`make bench`'s own drain,
  --quick), or given with --live.

The last line is JSON. `differences` counts values in which the tools differ from Millrace (0: equal, means within 1e-6).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.features.feature_logs import FeatureLog, batches, find_logs, write_jsonl
from benchmarks.features.offline_features import FEATURES, Transactions, by_duckdb, by_polars
from benchmarks.features.replay_features import BATCH, IDENTITY, LATENESS_MS, measured_decoded, measured_features
from stream_app.config import ModelSettings, Settings
from stream_app.events import Order
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.declarations import Catalogue
from stream_app.features.engine import FeatureEngine
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.replay.canonical import CanonicalReplay
from stream_app.replay.memory_state import MemoryState
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.harness.command import reporting
from verification.harness.processes import ROOT
from verification.harness.results import print_figures, save_option

_SHIFT_MS = 28 * 86_400_000  # whole weeks: hour and day of the week of a shifted event are its own
_FULL: dict[str, Any] = {
    "features": 1_600_000,
    "decoded": 400_000,
    "model": 40_000,
    "offline": 200_000,
    "memory": [1_000_000, 20_000_000],
    "base": 100_000,
}
_QUICK: dict[str, Any] = {
    "features": 6_000,
    "decoded": 6_000,
    "model": 1_500,
    "offline": 4_000,
    "memory": [10_000, 40_000],
    "base": 5_000,
}


def measured_model(logs: list[FeatureLog], events: int, model: Path) -> dict[str, Any]:
    """Replay JSON lines through the model, canonical order, one process; the answers are encoded and dropped."""
    settings = Settings(model=ModelSettings(engine="onnxruntime", path=str(model)))
    with tempfile.TemporaryDirectory() as folder, CanonicalReplay(settings) as replay:
        path = Path(folder) / "log.jsonl"
        write_jsonl(path, chain.from_iterable(islice(log.events(), events // len(logs)) for log in logs))
        start, count = time.process_time(), 0
        for batch in replay.batches(chunks_of(open_log([path]), 1_024)):
            count += len(batch.decoded.events)
        seconds = time.process_time() - start
    return {"events_per_s": round(count / seconds, 1), "events": count}


def measured_memory(logs: list[FeatureLog], events: int, base: int) -> dict[str, Any]:
    """Fold `base` events of the last log again and again, each time later, until there were `events`."""
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=LATENESS_MS)
    engine.warm()
    state = MemoryState(engine)
    once = list(islice(logs[-1].events(), base))
    columns = [engine.columns(part, [0] * len(part), IDENTITY) for part in batches(iter(once), BATCH)]
    period_ms = -(-(once[-1].event_time_ms - once[0].event_time_ms + 1) // _SHIFT_MS) * _SHIFT_MS
    done = 0
    start = time.process_time()
    for round_ in range(-(-events // len(once))):
        for part in columns:
            state.fold(_shifted(part, round_ * period_ms), done + 1 + np.arange(len(part), dtype=np.int64))
            done += len(part)
    seconds = time.process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    return {"peak_rss_mb": round(peak_mb, 1), "events": done, "events_per_s": round(done / seconds, 1)}


def measured_offline(logs: list[FeatureLog], events: int) -> dict[str, Any]:
    """Compute 20 features by Polars, DuckDB and a catalogue of these alone, and compare them."""
    orders = [event for event in islice(logs[-1].events(), events) if isinstance(event, Order)]
    orders.sort(key=lambda event: event.event_time_ms)
    data = _transactions(orders)
    small = replace(CATALOGUE, features=tuple(f for f in CATALOGUE.features if f.name in FEATURES))
    ours = measured_features([FeatureLog("cards", logs[-1].kind, len(orders), lambda: iter(orders))], len(orders), small)
    expected = _ours(orders, small)
    figures: dict[str, Any] = {"millrace_20_events_per_s": ours["events_per_s"]}
    for name, make in (("polars", by_polars), ("duckdb", by_duckdb)):
        run = make(data)
        start = time.process_time()
        theirs = run()
        figures[f"{name}_events_per_s"] = round(len(data) / (time.process_time() - start), 1)
        off = {
            feature: int(np.sum(~np.isclose(values.astype(np.float32), expected[feature], rtol=1e-6, atol=0)))
            for feature, values in theirs.items()
        }
        figures[f"{name}_differences"] = sum(off.values())
    return {**figures, "events": len(data)}


def _shifted(columns: EventColumns, by_ms: int) -> EventColumns:
    # The hash that names an event is of another event now.
    return replace(columns, time_ms=columns.time_ms + by_ms, event=(columns.event + by_ms) % (1 << 48) | 1)


def _transactions(orders: list[Order]) -> Transactions:
    numbers: dict[str, int] = {}

    def column(of: Callable[[Order], str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([numbers.setdefault(of(order), len(numbers)) for order in orders], np.int64)

    times = np.array([order.event_time_ms for order in orders], np.int64)
    cents = np.array([round(order.amount * 100) for order in orders], np.int64)
    return Transactions(times, column(lambda order: order.user), column(lambda order: order.device), cents)


def _ours(orders: list[Order], catalogue: Catalogue) -> dict[str, Any]:
    engine = FeatureEngine(catalogue, allowed_lateness_ms=LATENESS_MS)
    state = MemoryState(engine)
    parts = [state.fold(engine.columns(part, [0] * len(part), IDENTITY)).dense for part in batches(iter(orders), BATCH)]
    dense = np.concatenate(parts)
    return {name: dense[:, column] for column, name in enumerate(engine.feature_names)}


def _live(quick: bool, reporter: Reporter) -> float:
    """Measure one live worker without a model, as `make bench` does."""
    reporter.say("a live worker without a model (benchmarks.bench), to compare with")
    events = ["--events", "5000"] if quick else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench", "--quick", *events], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1])["events_per_s_no_model"])


def _in_child(what: str, data: Path, model: Path, *, quick: bool, events: int = 0) -> dict[str, Any]:
    """Measure one thing in a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "benchmarks.bench_replay", "--measure", what, "--data", str(data), "--model", str(model)]
    command += ["--events", str(events)] * bool(events) + ["--quick"] * quick
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure(what: str, data: Path, model: Path, sizes: dict[str, Any], events: int | None) -> dict[str, Any]:
    logs = find_logs(data, 110_300, 1_466_282, 60_000)
    if what in {"features", "decoded"}:
        measured = measured_features if what == "features" else measured_decoded
        return measured(logs, events or sizes[what])
    if what == "model":
        return measured_model(logs, events or sizes["model"], model)
    if what == "offline":
        return measured_offline(logs, events or sizes["offline"])
    return measured_memory(logs, events or sizes["memory"][0], sizes["base"])


_EXAMPLES = """\b
Examples:
  python -m benchmarks.bench_replay
  python -m benchmarks.bench_replay --quick --live 9000
  python -m benchmarks.bench_replay --measure memory --events 20000000
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data", type=click.Path(path_type=Path), default=ROOT.parent / "shared" / "data", help="Real logs; absent: a shop."
)
@click.option(
    "--model", type=click.Path(path_type=Path), default=ROOT / "model" / "artifacts" / "demo", help="The model's folder."
)
@click.option(
    "--measure", type=click.Choice(["features", "decoded", "model", "memory", "offline"]), help="Only this, in this process."
)
@click.option("--events", type=click.IntRange(min=1), help="With --measure: so many.")
@click.option("--live", type=click.FloatRange(min=1), help="Events a second of a live worker without a model; default: measured.")
@click.option("--quick", is_flag=True, help="Some thousand events: seconds, and coarser figures.")
@save_option
def main(data: Path, model: Path, measure: str | None, events: int | None, live: float | None, quick: bool, save: bool) -> None:
    """Measure replay; the last line is JSON."""
    sizes = _QUICK if quick else _FULL
    if measure is not None:
        click.echo(json.dumps(_measure(measure, data, model, sizes, events)))
        return
    with reporting() as reporter:
        figures = {}
        for what in ("features", "decoded", "model", "offline"):
            reporter.say(f"measuring: {what}")
            figures[what] = _in_child(what, data, model, quick=quick)
        memory = {}
        for count in sizes["memory"]:
            reporter.say(f"measuring: memory of {count:,} events")
            memory[str(count)] = _in_child("memory", data, model, quick=quick, events=count)
        rate = live or _live(quick, reporter)
    features = figures["features"]
    line = {
        "features_events_per_s": features["events_per_s"],
        "model_events_per_s": figures["model"]["events_per_s"],
        "peak_rss_mb": {count: of["peak_rss_mb"] for count, of in memory.items()},
        **{name: value for name, value in figures["offline"].items() if name != "events"},
        "live_ratio": round(features["wall_events_per_s"] / rate, 1),
        "live_events_per_s": rate,
        "features_wall_events_per_s": features["wall_events_per_s"],
        "features_by_log": features["by_log"],
        "decoded_events_per_s": figures["decoded"]["events_per_s"],
        "decoded_us": figures["decoded"]["us"],
        "fold_events_per_s": {count: of["events_per_s"] for count, of in memory.items()},
        "events": {**{what: of["events"] for what, of in figures.items()}, "memory": sizes["memory"]},
        "features": len(CATALOGUE.features),
        "offline_features": list(FEATURES),
        **origin(),
    }
    print_figures("bench_replay", line, save=save)


if __name__ == "__main__":
    main()
