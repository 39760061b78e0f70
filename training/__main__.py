"""Train a network and build its artefact: `python -m training --help`."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.plan import PLANS

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.plan import TrainingPlan

__all__ = ["main"]

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--preset", type=click.Choice(sorted(PLANS)), default="demo", show_default=True, help="What to train, on what.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the artefact; replaced when the new one is verified.")
@click.option("--runs", type=_FOLDER, default=Path("runs"), show_default=True, help="Where checkpoint and report go.")
@click.option("--data", type=_FILE, help="Keep the training set in this .npz file, or take it from there.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data at most, in place of the preset's.")
@click.option("--seed", type=int, help="Of initial weights and batch order, in place of the preset's.")
@click.option("--balance", type=click.Choice(["fixed", "uncertainty"]), help="How task losses are added up.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="More only pays on idle cores.")
def main(  # noqa: PLR0913, PLR0917  # one parameter for each option
    preset: str,
    out: Path,
    runs: Path,
    data: Path | None,
    epochs: int | None,
    seed: int | None,
    balance: str | None,
    threads: int,
) -> None:
    r"""Train, judge on held-out data, export to ONNX, verify, and write an artefact that a worker loads.

    Prints one line of JSON last. The exit status is 1 when the model does not beat its floors; then nothing is written.

    \b
    Examples:
      python -m training --preset demo --out model/artifacts/demo
      python -m training --preset demo --out /tmp/m --data runs/demo.npz --balance uncertainty
    """
    changes = {"epochs": epochs, "seed": seed, "balance": balance}
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    plan = replace(PLANS[preset], **given)
    command = f"python -m training --preset {preset} --out {out}"
    command += "".join(f" --{name} {value}" for name, value in given.items())
    report = _run(plan, out, runs / preset, data, command, threads)
    (runs / preset / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    click.echo(json.dumps(report))
    sys.exit(0 if report["beats_floors"] else 1)


def _run(plan: TrainingPlan, out: Path, run: Path, data: Path | None, command: str, threads: int) -> dict[str, Any]:
    import torch

    from model.checkpoint import Checkpoint
    from training.artifact import Trained, keep_checkpoint, write_artifact
    from training.evaluate import choose_threshold, evaluate, not_beaten
    from training.floors import floors

    torch.set_num_threads(threads)
    dataset = _dataset(plan, data)
    network, epochs = _train(plan, dataset)
    shift = -math.log(plan.fraud_weight)
    threshold = choose_threshold(network, shift, dataset, plan.alert_precision)
    metrics, floor = evaluate(network, shift, dataset, threshold), floors(dataset, network)
    worse = not_beaten(metrics, floor)
    checkpoint = Checkpoint(network, plan.preset, dataset.feature_names, dataset.catalogue_hash, shift)
    keep_checkpoint(checkpoint, run / "checkpoint.pt")
    beside = {task: values | {f"floor_{name}": value for name, value in floor[task].items()} for task, values in metrics.items()}
    report: dict[str, Any] = {
        "preset": plan.preset,
        "events": len(dataset),
        "epochs": epochs,
        "metrics": beside,
        "beats_floors": not worse,
        "not_beaten": worse,
    }
    if not worse:
        trained = Trained(checkpoint, threshold, beside, command, _description(plan, dataset))
        manifest = write_artifact(trained, dataset, out)
        size = sum(file.stat().st_size for file in out.iterdir())
        report |= {"version": manifest.version, "bytes": size, "parity": manifest.metrics["onnx_largest_difference"]}
    return report


def _dataset(plan: TrainingPlan, data: Path | None) -> Dataset:
    from training.dataset import build_dataset, load_dataset, save_dataset

    if data is not None and data.exists():
        return load_dataset(data)
    dataset = build_dataset(plan.shops, lambda sentence: click.echo(sentence, err=True))
    if data is not None:
        save_dataset(dataset, data)
    return dataset


def _train(plan: TrainingPlan, dataset: Dataset) -> tuple[Any, int]:
    """Train with a progress bar; return the network and the number of epochs."""
    from rich.console import Console
    from rich.progress import Progress

    from training.loop import EpochReport, train

    done: list[EpochReport] = []
    with Progress(console=Console(stderr=True)) as bar:
        work = bar.add_task("training", total=None)

        def told(report: EpochReport) -> None:
            done.append(report)
            losses = "  ".join(f"{task} {value:.4f}" for task, value in report.validation.items())
            bar.console.print(f"epoch {report.epoch}: validation {losses}{'  (best)' if report.best else ''}")

        network = train(dataset, plan, lambda step, steps: bar.update(work, completed=step, total=steps), told)
    return network, len(done)


def _description(plan: TrainingPlan, dataset: Dataset) -> dict[str, str]:
    shops = ", ".join(shop.text() for shop in plan.shops)
    frauds = int((dataset.labels["fraud"] == 1).sum())
    return {
        "events": f"{len(dataset):,} ({frauds:,} known frauds)",
        "source": f"simulated shops ({shops})",
        "split": "by time within each shop: 70 % train, 15 % validation, 15 % test, but for shops that are all for validation",
    }


if __name__ == "__main__":
    main()
