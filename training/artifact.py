"""From a trained network to a folder a worker can load: model, items, samples, manifest, verified before it is in place.

Everything is written to a folder beside the target and moved there at the end, so that a build that fails leaves the
artefact that was there.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.checkpoint import Checkpoint, save_checkpoint
from model.contract import INPUTS, ITEMS_FILE, MANIFEST_FILE, MODEL_FILE, OUTPUTS, SAMPLES_FILE, Manifest
from model.digest import file_sha256
from model.inputs import EventInputs
from stream_app.errors import ConfigError, ContractError
from stream_app.reporting.provenance import commit
from training.data.dataset import Dataset
from training.evaluation.evaluate import item_vectors
from trt_build.export.onnx_from_checkpoint import onnx_from_checkpoint
from trt_build.manifest import library_versions, version_of, weights_sha256, write_manifest
from trt_build.parity.verify import parity, torch_answers, verify_artifact

__all__ = ["FinishedTraining", "check_target", "keep_checkpoint", "missing_tasks", "write_artifact"]

_SAMPLES: Final = 64  # recorded rows: enough for every kind, scene and platform, 30 kB
_LEAST_SCALE: Final = 1e-6


@dataclass(frozen=True)
class FinishedTraining:
    """What a training ends with.

    Attributes:
        checkpoint: the network.
        threshold: of fraud alerts.
        metrics: by task, on the test range, floors beside.
        command: that rebuilds the artefact.
        trained_on: a description of the data for a person.
    """

    checkpoint: Checkpoint
    threshold: float
    metrics: dict[str, dict[str, float]]
    command: str
    trained_on: dict[str, str]


def missing_tasks(dataset: Dataset, names: Collection[str]) -> str:
    """Return why a worker could not serve a network of these tasks, in one sentence; an empty text if it can."""
    if not isinstance(dataset.spec, EventInputs):
        return f"a worker serves a shop's events, and these rows are of {type(dataset.spec).__name__}"
    served = [spec.name for spec in OUTPUTS]
    absent = [name for name in served if name not in names]
    return f"a worker serves {', '.join(served)}, and of these {', '.join(absent)} is not trained" if absent else ""


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something else than an artefact: it will be replaced as a whole.

    Raises:
        ConfigError: It does, or it is no folder.
    """
    if not folder.exists() or (folder.is_dir() and ((folder / MANIFEST_FILE).exists() or not any(folder.iterdir()))):
        return
    raise ConfigError(
        f"{folder} is to be replaced by an artefact, and is no artefact now (it has no {MANIFEST_FILE}); name a new folder"
    )


def write_artifact(finished: FinishedTraining, dataset: Dataset, folder: Path) -> Manifest:
    """Export, record, describe and verify; replace `folder`.

    Args:
        finished: a network of a shop's events with all tasks that are served, see `missing_tasks`.
        dataset: that it was trained on.
        folder: where the artefact goes.

    Raises:
        ContractError: What was exported does not answer as the network does. `folder` is as it was.
        ConfigError: `folder` holds something else.
    """
    check_target(folder)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        manifest = _write(finished, dataset, fresh)
        wrong = verify_artifact(fresh, finished.checkpoint)
        if wrong:
            raise ContractError(
                f"the exported model is not the trained one: {'; '.join(wrong)}. Operator action: build with the library "
                f"versions of the last good manifest; here are {manifest.versions}."
            )
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _write(finished: FinishedTraining, dataset: Dataset, folder: Path) -> Manifest:
    checkpoint = finished.checkpoint
    onnx_from_checkpoint(checkpoint, folder / MODEL_FILE)
    np.savez_compressed(
        folder / ITEMS_FILE,
        item_ids=np.array(dataset.table.ids if dataset.table else []),
        item_vectors=item_vectors(checkpoint.network, dataset),
    )
    test = dataset.rows("test")
    rows = test[np.linspace(0, len(test) - 1, _SAMPLES).astype(np.int64)]
    inputs = {spec.name: dataset.inputs[spec.name][rows] for spec in INPUTS}
    outputs = torch_answers(checkpoint, inputs)
    samples: dict[str, Any] = {f"in_{name}": value for name, value in inputs.items()}
    samples |= {f"out_{name}": value for name, value in outputs.items()}
    np.savez_compressed(folder / SAMPLES_FILE, **samples)
    low, middle, high = np.percentile(dataset.inputs["dense"][dataset.rows("train")], [25, 50, 75], axis=0)
    deviation = dataset.inputs["dense"][dataset.rows("train")].astype(np.float64).std(axis=0)
    scales = np.where(high > low, high - low, deviation)  # many counts are mostly zero: their quartiles agree
    gaps = {d.task: d.largest for d in parity(checkpoint, folder / MODEL_FILE, inputs)}
    manifest = Manifest(
        name=checkpoint.preset,
        version=version_of(checkpoint.preset, folder),
        catalogue_hash=checkpoint.catalogue_hash,
        feature_names=checkpoint.feature_names,
        feature_medians=[float(value) for value in middle],
        feature_scales=[float(value) for value in np.maximum(scales, _LEAST_SCALE)],
        sha256={name: file_sha256(folder / name) for name in (MODEL_FILE, ITEMS_FILE, SAMPLES_FILE)},
        fraud_threshold=finished.threshold,
        preset=checkpoint.preset,
        command=finished.command,
        commit=commit(),
        trained_on=finished.trained_on,
        metrics=finished.metrics | {"onnx_largest_difference": gaps},
        versions=library_versions(),
        samples=SAMPLES_FILE,
        weights_sha256=weights_sha256(checkpoint),
    )
    write_manifest(folder, manifest)
    return manifest


def keep_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Save the checkpoint for later exports; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(checkpoint, path)
