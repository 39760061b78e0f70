"""Compare an ONNX model with the network it came from, on the same inputs, task by task.

The inputs are those recorded from real features, and the same with hard rows mixed in: no history, NaN, infinities,
codes out of range, whatever of these the inputs can have. Batches of 1, 7 and all rows, so that a batch dimension that was
frozen by the export is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.contract import INPUTS, MODEL_FILE, OUTPUTS, SAMPLES_FILE
from model.network import ServingNetwork
from model.tasks import SHOP_TASKS, Task
from trt_build.manifest import file_sha256, read_manifest

__all__ = ["TOLERANCES", "Difference", "hard_rows", "parity", "torch_answers", "verify_artifact"]

Arrays = Mapping[str, NDArray[Any]]

# Largest absolute difference allowed by the kind of a task, fp32 ONNX on a CPU against fp32 torch. They sum in another order, and
# ONNX has no log1p (it takes log(1 + x)); seen is about 1e-7 for probabilities. A hundred times that, because CPUs differ:
TOLERANCES: Final[Mapping[str, float]] = {
    "binary": 1e-5,  # thresholds are given to two or three digits
    "classes": 1e-5,  # decided by the largest, whose lead is far beyond that
    "retrieval": 2e-4,  # not bounded by 1: coordinates reach 10, and inner products add 32 of them
}
_OF_CONTRACT: Final = {task.name: TOLERANCES[task.kind] for task in SHOP_TASKS}
_BATCHES: Final = (1, 7, 256)


@dataclass(frozen=True)
class Difference:
    """How far one output is from its source, over all inputs and batch sizes; infinite where either is not finite."""

    task: str
    largest: float
    allowed: float

    @property
    def fine(self) -> bool:
        """Whether it is within the tolerance."""
        return self.largest <= self.allowed


def hard_rows(inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Return a copy of `inputs` whose first rows are spoiled, one way each (needs five rows or more)."""
    hard = {name: value.copy() for name, value in inputs.items()}
    if "dense" in hard:
        hard["dense"][0, :] = np.nan
        hard["dense"][1, ::2], hard["dense"][1, 1::2] = np.inf, -np.inf
    for ids, gaps in (("sequence_ids", "sequence_gaps"), ("query_ids", "query_gaps"), ("grams", "gram_values")):
        if ids in hard:
            hard[ids][2], hard[gaps][2] = 0, 0.0  # a user without history, a text without n-grams
            hard[gaps][3] = np.inf
    for name in {"tokens", "sequence"} & set(hard):
        hard[name][2], hard[name][3] = 0, -1  # padding alone
    codes = {"context": 10_000, "item": -1, "query": 1_000_000}  # of a newer producer
    codes |= dict.fromkeys(("categories", "scene", "tokens", "grams", "sequence"), 2_000_000_000)
    for name in codes.keys() & set(hard):
        hard[name][4] = codes[name]
    return hard


def torch_answers(checkpoint: Checkpoint, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Score with the network itself: what is served, by task."""
    serving = ServingNetwork(checkpoint.network, checkpoint.temperatures).eval()
    with torch.no_grad():
        answers = serving(*(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in serving.names))
    return {name: answer.numpy() for name, answer in zip(serving.served, answers, strict=True)}


def parity(checkpoint: Checkpoint, model: Path, inputs: Arrays) -> list[Difference]:
    """Compare the ONNX file `model` with `checkpoint`, for each output, on `inputs` and on hard rows."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    tasks: dict[str, Task] = {task.name: task for task in checkpoint.network.tasks}
    worst: dict[str, float] = {}
    for rows in (inputs, hard_rows(inputs)):
        wanted = torch_answers(checkpoint, rows)
        names, count = list(wanted), len(next(iter(rows.values())))
        for size in _BATCHES:
            batches = [session.run(names, {k: v[at : at + size] for k, v in rows.items()}) for at in range(0, count, size)]
            for name, parts in zip(names, zip(*batches, strict=True), strict=True):
                gap = float(np.max(np.abs(np.concatenate(parts) - wanted[name])))
                worst[name] = max(worst.get(name, 0.0), gap if np.isfinite(gap) else float("inf"))
    return [Difference(name, gap, TOLERANCES[tasks[name].kind]) for name, gap in worst.items()]


def verify_artifact(folder: Path, checkpoint: Checkpoint | None = None) -> list[str]:
    """Check an artefact folder: checksums, recorded answers and, given its checkpoint, parity.

    Returns:
        What is wrong, one sentence each; empty when all is well.
    """
    manifest = read_manifest(folder)
    wrong = []
    for name, wanted in manifest.sha256.items():
        found = file_sha256(folder / name) if (folder / name).exists() else "no file"
        if found != wanted:
            wrong.append(f"{name}: sha256 is {found[:12]}, the manifest says {wanted[:12]}")
    if wrong:
        return wrong
    with np.load(folder / SAMPLES_FILE, allow_pickle=False) as samples:
        inputs = {spec.name: samples[f"in_{spec.name}"] for spec in INPUTS}
        recorded = {spec.name: samples[f"out_{spec.name}"] for spec in OUTPUTS}
    session = ort.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    for spec, answer in zip(OUTPUTS, session.run([s.name for s in OUTPUTS], inputs), strict=True):
        gap = float(np.max(np.abs(answer - recorded[spec.name])))
        if not gap <= _OF_CONTRACT[spec.name]:
            wrong.append(f"{spec.name}: {gap:.3g} from the recorded answer, allowed {_OF_CONTRACT[spec.name]:.0e}")
    if checkpoint is not None:
        wrong += [
            f"{d.task}: {d.largest:.3g} from the checkpoint's answer, allowed {d.allowed:.0e}"
            for d in parity(checkpoint, folder / MODEL_FILE, inputs)
            if not d.fine
        ]
    return wrong
