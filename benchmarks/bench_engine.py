"""The model by itself: rows a second and latencies of each engine by batch size, and the best items of a larger catalogue.

Rows are those of a simulated shop, replayed through the feature engine. All engines of a batch size are measured in turns, batch
by batch, so that whatever else the machine does meets them alike; each call has other rows than the one before and is waited for.
On a CPU every engine has one thread.

The last line is JSON:

- `rows_per_s`, `p50_ms`, `p99_ms`: engine -> batch size -> figure; null for an engine that cannot run here, `reasons` says why;
- `same_in_any_batch`: engine -> whether a row's answer is the same to the last bit in batches of other sizes (what serves must);
- `candidates_per_s` and `candidates_recall`: 100 candidates each among 20,000 items, batches of 256 users, one core, and the
  share of the exact answer's items; `candidates` has the exact answer's rate and that of the 20 that a worker asks for;
- `cost`: operations and bytes of a row, counted; `gpu`: the same figures for the engines of a GPU and the rate that its peaks
  allow, null where there is none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.engine.engine_rows import batch_of, larger_catalogue, replayed_rows
from benchmarks.engine.engines import Engines, ScoreCall, cpu_engines, gpu_engines, serving_network
from benchmarks.engine.roofline import cost_of, roof
from stream_app.inference.artifact import load_items, load_manifest, load_samples
from stream_app.inference.engines.port import Tensors
from stream_app.inference.retrieval.item_index import ItemIndex
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.harness.command import reporting
from verification.harness.processes import ROOT
from verification.harness.results import print_figures, save_option

_SHIPPED: Final = ROOT / "model" / "artifacts" / "demo"
_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_WARM_UP: Final = 3  # calls of each engine at each size
_USERS: Final = 256  # a batch of questions for candidates
_BEST: Final = 100
_SHOWN: Final = 20
_ODD: Final = (1, 7, 50)  # batch sizes that a row must answer the same in


@dataclass(frozen=True, slots=True)
class EngineBenchPlan:
    """How much to measure.

    Attributes:
        events: of the shop, the last `rows` of which are scored.
        rows: see there.
        sizes: of batches.
        seconds: for each engine at each size.
        items: of the larger catalogue.
        compiled: whether torch.compile is measured.
    """

    events: int
    rows: int
    sizes: tuple[int, ...]
    seconds: float
    items: int
    compiled: bool


FULL: Final = EngineBenchPlan(events=40_000, rows=8_192, sizes=(1, 16, 64, 256, 1_024), seconds=3.0, items=20_000, compiled=True)
QUICK: Final = EngineBenchPlan(events=1_500, rows=512, sizes=(1, 16), seconds=0.05, items=12_000, compiled=False)


def measured(engines: Engines, rows: Tensors, plan: EngineBenchPlan, reporter: Reporter) -> dict[str, Any]:
    """Return `rows_per_s`, `p50_ms`, `p99_ms` and `reasons` of the engines."""
    figures: dict[str, dict[str, Any]] = {
        figure: {name: None if isinstance(score, str) else {} for name, score in engines.items()}
        for figure in ("rows_per_s", "p50_ms", "p99_ms")
    }
    able: dict[str, ScoreCall] = {name: score for name, score in engines.items() if not isinstance(score, str)}
    for size in plan.sizes:
        seconds = _in_turns(able, rows, size, plan.seconds)
        for name, durations in seconds.items():
            p50, p99 = np.percentile(durations, [50, 99]) * 1e3
            figures["rows_per_s"][name][str(size)] = round(size * len(durations) / float(np.sum(durations)), 1)
            figures["p50_ms"][name][str(size)], figures["p99_ms"][name][str(size)] = round(float(p50), 4), round(float(p99), 4)
        rates = {name: figures["rows_per_s"][name][str(size)] for name in able}
        reporter.say(f"batches of {size}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items()))
    return {**figures, "reasons": {name: score for name, score in engines.items() if isinstance(score, str)}}


def _in_turns(engines: dict[str, ScoreCall], rows: Tensors, size: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds of each call of each engine, which take turns until each has had its time."""
    for number in range(_WARM_UP):
        for score in engines.values():
            score(batch_of(rows, size, number))
    taken: dict[str, list[float]] = {name: [] for name in engines}
    spent, number = dict.fromkeys(engines, 0.0), _WARM_UP
    while any(used_s < seconds for used_s in spent.values()):
        batch = batch_of(rows, size, number)
        for name, score in engines.items():
            if spent[name] < seconds:
                began = time.perf_counter()
                score(batch)
                taken[name].append(time.perf_counter() - began)
                spent[name] += taken[name][-1]
        number += 1
    return taken


def same_in_any_batch(score: ScoreCall, rows: Tensors) -> bool:
    """Return whether the first rows' answers are the same to the last bit in batches of `_ODD` sizes and in one."""
    some = batch_of(rows, max(_ODD), 0)
    whole = {name: np.array(answer) for name, answer in score(some).items()}
    for size in _ODD:
        parts = [score({name: tensor[at : at + size] for name, tensor in some.items()}) for at in range(0, max(_ODD), size)]
        for name, answer in whole.items():
            if not np.array_equal(np.concatenate([part[name] for part in parts]), answer):
                return False
    return True


def candidates(folder: Path, users: NDArray[np.float32], plan: EngineBenchPlan) -> dict[str, Any]:
    """Return rates and recall of the best items of a catalogue of `plan.items` for `users` (R, D).

    It is made of the artefact's items, and laid out by its recorded users, which are other rows.
    """
    manifest = load_manifest(folder)
    ids = [str(number) for number in range(plan.items)]
    vectors = larger_catalogue(load_items(folder, manifest)[1], plan.items)
    began = time.perf_counter()
    index = ItemIndex(ids, vectors, load_samples(folder, manifest)[1]["user_vector"])
    built_s = time.perf_counter() - began
    every = ItemIndex(ids, vectors, exact=True)
    exact, approximate = every.top(users, _BEST)[0], index.top(users, _BEST)[0]
    first = index.top(users, _SHOWN)[0]
    return {
        "candidates_per_s": _asked_per_s(index, users, _BEST, plan.seconds),
        "candidates_recall": _recall(approximate, exact),
        "candidates": {
            "items": plan.items,
            "of": _BEST,
            "exact_per_s": _asked_per_s(every, users, _BEST, plan.seconds),
            "shown": _SHOWN,
            "shown_per_s": _asked_per_s(index, users, _SHOWN, plan.seconds),
            "shown_recall": _recall(first, exact[:, :_SHOWN]),
            "shown_exact_per_s": _asked_per_s(every, users, _SHOWN, plan.seconds),
            "looked_at": index.searched,
            "build_s": round(built_s, 3),
            "catalogue": "the artefact's items in turn, each moved by half the spread of all items",
        },
    }


def _recall(approximate: NDArray[np.int32], exact: NDArray[np.int32]) -> float:
    return round(float(np.mean([np.isin(best, row).mean() for row, best in zip(approximate, exact, strict=True)])), 4)


def _asked_per_s(index: ItemIndex, users: NDArray[np.float32], k: int, seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        at = done % max(1, len(users) - _USERS)
        done += len(index.top(users[at : at + _USERS], k)[0])
    return round(done / (time.perf_counter() - began), 1)


def run(folder: Path, checkpoint: Path | None, plan: EngineBenchPlan, reporter: Reporter) -> dict[str, Any]:
    """Measure everything and return the figures."""
    reporter.say(f"replaying {plan.events:,} events of a simulated shop")
    rows = replayed_rows(plan.events, plan.rows)
    network, sample = serving_network(folder, checkpoint), batch_of(rows, plan.sizes[-1], 0)
    reporter.say("opening the engines" + (" (torch.compile takes a minute)" if plan.compiled else ""))
    engines = cpu_engines(folder, network, sample, compiled=plan.compiled)
    figures = measured(engines, rows, plan, reporter)
    able = {name: score for name, score in engines.items() if not isinstance(score, str)}
    users = np.concatenate([able["onnxruntime"](batch_of(rows, _USERS, number))["user_vector"] for number in range(4)])
    cost = cost_of(network, sample)
    figures |= {"same_in_any_batch": {name: same_in_any_batch(score, rows) for name, score in able.items()}}
    figures |= candidates(folder, users, plan)
    figures |= {"cost": cost, "gpu": _on_gpu(folder, checkpoint, rows, plan, reporter)}
    notes = {"rows": plan.rows, "threads": 1, "torch_weights": "of the checkpoint" if checkpoint else "random"}
    return figures | notes | {"model": load_manifest(folder).version} | origin()


def _on_gpu(
    folder: Path, checkpoint: Path | None, rows: Tensors, plan: EngineBenchPlan, reporter: Reporter
) -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    network, device = serving_network(folder, checkpoint), torch.cuda.get_device_name()
    cost = cost_of(network, batch_of(rows, plan.sizes[-1], 0))
    engines = gpu_engines(folder, network, batch_of(rows, plan.sizes[-1], 0), compiled=plan.compiled)
    roofs: dict[str, Any] = {precision: roof(cost, device, plan.sizes, precision) for precision in ("fp32", "fp16")}
    return {"device": device, "roofline_rows_per_s": roofs, **measured(engines, rows, plan, reporter)}


_EXAMPLES = """\b
Examples:
  python -m benchmarks.bench_engine
  python -m benchmarks.bench_engine --quick
  python -m benchmarks.bench_engine --model runs/mine/artefact --checkpoint runs/mine/checkpoint.pt
"""


@click.command(epilog=_EXAMPLES)
@click.option("--model", type=_FOLDER, default=_SHIPPED, help="Artefact's folder; default: the one that ships.")
@click.option("--checkpoint", type=_FILE, help="Weights for torch.  [default: random ones]")
@click.option("--quick", is_flag=True, help="Two batch sizes, without torch.compile: seconds, and coarse figures.")
@save_option
def main(model: Path, checkpoint: Path | None, quick: bool, save: bool) -> None:
    """Measure every engine that runs the model here, and the index of items; the last line is JSON."""
    with reporting() as reporter:
        figures = run(model, checkpoint, QUICK if quick else FULL, reporter)
    print_figures("bench_engine", figures, save=save)


if __name__ == "__main__":
    main()
