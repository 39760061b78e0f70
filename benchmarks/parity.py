"""Every preset exports, and its ONNX file answers as torch does on 10,000 rows. Prints one line of JSON last.

For each preset (benchmarks/parity_cases.py) a network is trained briefly: one pass over some thousand rows, so that its weights
are no longer those that it begins with. It is exported in fp32 and compared with torch on rows that went through the code that
makes them in use, on the same in small batches, and on hard rows, each task within trt_build/parity/tolerances.py. The exit
status is 1 where one is not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import torch

from benchmarks.parity_cases import CASES, ParityInputs, few, material_of
from model.checkpoint import Checkpoint
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from training.fit.loop import train
from training.jobs import apply_task_choice
from trt_build.export.onnx_files import source_of_checkpoint
from trt_build.parity.parity_report import ParityVerdict, verify_onnx
from verification.harness.command import reporting
from verification.harness.processes import ROOT
from verification.harness.results import print_figures, save_option

_COMMAND: Final = "python -m benchmarks.parity"
_BRIEFLY: Final[dict[str, Any]] = {  # what costs time and changes no shape of the network
    "training.epochs": 1,
    "training.patience": 1,
    "training.stop_on": "loss",
    "training.distil": 0.0,
    "training.spectral_start": False,
    "training.conflict_every": 0,
    "training.device": "cpu",
}
_EXAMPLES: Final = """\b
Examples:
  python -m benchmarks.parity
  python -m benchmarks.parity --only tiny --only uci --rows 1000
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=ROOT.parent / "shared" / "data",
    help="Folder of the real data sets; absent: a simulated shop, and rows made up.",
)
@click.option("--rows", type=click.IntRange(5), default=10_000, show_default=True, help="Rows to compare on, for each preset.")
@click.option("--train-rows", type=click.IntRange(100), default=20_000, show_default=True, help="To train on, at most.")
@click.option("--only", type=click.Choice(sorted(CASES)), multiple=True, help="This preset; may be repeated.  [default: all]")
@save_option
def main(data: Path, rows: int, train_rows: int, only: tuple[str, ...], save: bool) -> None:
    """Compare ONNX with torch for every preset, on rows as they are in use."""
    torch.set_num_threads(1)
    figures = {}
    with reporting() as reporter:
        for name in only or CASES:
            reporter.say(f"{name}: reading")
            figures[name] = _case(name, data, rows, train_rows, reporter)
    within = all(one["within"] for one in figures.values())
    line = {"within": within, "presets": figures, "train_rows": train_rows, "torch": torch.__version__, **origin()}
    print_figures("parity", line, save=save)
    sys.exit(0 if within else 1)


def _case(name: str, data: Path, rows: int, train_rows: int, reporter: Reporter) -> dict[str, Any]:
    began = time.monotonic()
    material = material_of(CASES[name], data, rows, lambda sentence: reporter.say(f"{name}: {sentence}"))
    reporter.say(f"{name}: training, exporting, comparing on {_count(material):,} rows ({material.rows_of})")
    said = compared(material, train_rows)
    for sentence in said.pop("wrong"):
        reporter.say(f"{name}: NOT within what is allowed: {sentence}")
    return {**said, "seconds": round(time.monotonic() - began, 1)}


def compared(material: ParityInputs, train_rows: int) -> dict[str, Any]:
    """Train briefly, export, compare; return the figures of a preset, with the differences out of tolerance in `wrong`."""
    checkpoint = _trained(material, train_rows)
    source = source_of_checkpoint(checkpoint, _COMMAND)
    [verdict] = verify_onnx(source, material.rows, ["fp32"], checkpoint)
    return {"network": checkpoint.preset, "rows": _count(material), "rows_of": material.rows_of, **_figures(verdict)}


def _trained(material: ParityInputs, train_rows: int) -> Checkpoint:
    dataset = few(material.dataset, train_rows)
    dataset, config, _ = apply_task_choice(dataset, material.config.changed(_BRIEFLY))
    network = train(dataset, config).network
    return Checkpoint(network, config.network.preset, list(dataset.feature_names), dataset.catalogue_hash)


def _figures(verdict: ParityVerdict) -> dict[str, Any]:
    differences = verdict.differences
    overlaps = [each.overlap for each in differences if each.overlap is not None]
    return {
        "largest_difference": {each.task: each.largest for each in differences},
        "mean_difference": {each.task: each.mean for each in differences},
        "allowed": {each.task: each.limits.largest for each in differences},
        "best_items_agree": min(overlaps, default=None),
        "within": verdict.fine,
        "wrong": [each.text() for each in differences if not each.fine],
    }


def _count(material: ParityInputs) -> int:
    return len(next(iter(material.rows.values())))


if __name__ == "__main__":
    main()
