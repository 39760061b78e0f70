"""Write a trained network as an artefact that a worker loads: model, items, samples, manifest.

The artefact is written to a folder beside the target, verified, and moved into place, so a failed build leaves the previous
artefact unchanged.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.checkpoint import Checkpoint
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

_SAMPLES: Final = 64  # recorded rows: enough for every kind, scene and platform, 30 kB
_MIN_SCALE: Final = 1e-6


@dataclass(frozen=True)
class ArtifactContents:
    """What an artefact is written from.

    Attributes:
        checkpoint: the network.
        threshold: of fraud alerts.
        metrics: task -> metric -> value on the test range, with the baselines.
        command: command line that rebuilds the artefact.
        trained_on: description of the data.
    """

    checkpoint: Checkpoint
    threshold: float
    metrics: dict[str, dict[str, float]]
    command: str
    trained_on: dict[str, str]


def unservable_reason(dataset: Dataset, names: Collection[str]) -> str:
    """Return in one sentence why a worker cannot serve a network of these tasks; an empty text if it can."""
    if not isinstance(dataset.spec, EventInputs):
        return f"a worker serves a shop's events, and these rows are of {type(dataset.spec).__name__}"
    served = [spec.name for spec in OUTPUTS]
    absent = [name for name in served if name not in names]
    return f"a worker serves {', '.join(served)}, and {', '.join(absent)} is not trained" if absent else ""


def check_artifact_folder(folder: Path) -> None:
    """Refuse a folder that holds other files than an artefact, because the whole folder is replaced.

    Raises:
        ConfigError: It holds other files, or it is a file.
    """
    if not folder.exists() or (folder.is_dir() and ((folder / MANIFEST_FILE).exists() or not any(folder.iterdir()))):
        return
    raise ConfigError(
        f"{folder} would be replaced by an artefact, but holds other files (it has no {MANIFEST_FILE}); name a new folder"
    )


def write_artifact(contents: ArtifactContents, dataset: Dataset, folder: Path) -> Manifest:
    """Export, sample, describe and verify a network of all served tasks (`unservable_reason`); replace `folder`.

    Raises:
        ContractError: The exported model does not answer as the network does; `folder` is unchanged.
        ConfigError: `folder` holds other files.
    """
    check_artifact_folder(folder)
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        manifest = _write(contents, dataset, temporary)
        faults = verify_artifact(temporary, contents.checkpoint)
        if faults:
            raise ContractError(
                f"the exported model differs from the trained one: {'; '.join(faults)}. Operator action: build with the library "
                f"versions of the last good manifest; here are {manifest.versions}."
            )
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _write(contents: ArtifactContents, dataset: Dataset, folder: Path) -> Manifest:
    checkpoint = contents.checkpoint
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
        feature_scales=[float(value) for value in np.maximum(scales, _MIN_SCALE)],
        sha256={name: file_sha256(folder / name) for name in (MODEL_FILE, ITEMS_FILE, SAMPLES_FILE)},
        fraud_threshold=contents.threshold,
        preset=checkpoint.preset,
        command=contents.command,
        commit=commit(),
        trained_on=contents.trained_on,
        metrics=contents.metrics | {"onnx_largest_difference": gaps},
        versions=library_versions(),
        samples=SAMPLES_FILE,
        weights_sha256=weights_sha256(checkpoint),
    )
    write_manifest(folder / MANIFEST_FILE, manifest)
    return manifest
