"""Compare an ONNX model with the network it came from, on the same inputs, task by task.

The inputs are those recorded from real features, and the same with hard rows mixed in: no history, NaN, infinities,
codes out of range. Batches of 1, 7 and all rows, so that a batch dimension that was frozen by the export is found.
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
from trt_build.manifest import file_sha256, read_manifest

__all__ = ["TOLERANCES", "Difference", "hard_rows", "parity", "torch_answers", "verify_artifact"]

Arrays = Mapping[str, NDArray[Any]]

# Largest absolute difference allowed, fp32 ONNX on a CPU against fp32 torch. They sum in another order, and ONNX has no
# log1p (it takes log(1 + x)); seen is about 1e-7 for probabilities. A hundred times that, because CPUs differ:
TOLERANCES: Final[Mapping[str, float]] = {
    "fraud": 1e-5,  # thresholds are given to two or three digits
    "intent": 1e-5,  # decided by the largest, whose lead is far beyond that
    "next_action": 1e-5,
    "click": 1e-5,
    "user_vector": 2e-4,  # not bounded by 1: coordinates reach 10, and inner products add 32 of them
}
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
    hard["dense"][0, :] = np.nan
    hard["dense"][1, ::2], hard["dense"][1, 1::2] = np.inf, -np.inf
    for ids, gaps in (("sequence_ids", "sequence_gaps"), ("query_ids", "query_gaps")):
        hard[ids][2], hard[gaps][2] = 0, 0.0  # a user without history
        hard[gaps][3] = np.inf
    hard["context"][4], hard["item"][4], hard["query"][4] = 10_000, -1, 1_000_000  # codes of a newer producer
    return hard


def torch_answers(checkpoint: Checkpoint, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Score with the network itself."""
    serving = ServingNetwork(checkpoint.network, checkpoint.fraud_shift).eval()
    with torch.no_grad():
        answers = serving(*(torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in INPUTS))
    return {spec.name: answer.numpy() for spec, answer in zip(OUTPUTS, answers, strict=True)}


def parity(checkpoint: Checkpoint, model: Path, inputs: Arrays) -> list[Difference]:
    """Compare the ONNX file `model` with `checkpoint`, for each output, on `inputs` and on hard rows."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in OUTPUTS]
    worst = dict.fromkeys(names, 0.0)
    for rows in (inputs, hard_rows(inputs)):
        wanted = torch_answers(checkpoint, rows)
        for size in _BATCHES:
            batches = [
                session.run(names, {k: v[at : at + size] for k, v in rows.items()}) for at in range(0, len(rows["dense"]), size)
            ]
            for name, parts in zip(names, zip(*batches, strict=True), strict=True):
                gap = float(np.max(np.abs(np.concatenate(parts) - wanted[name])))
                worst[name] = max(worst[name], gap if np.isfinite(gap) else float("inf"))
    return [Difference(name, worst[name], TOLERANCES[name]) for name in names]


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
        if not gap <= TOLERANCES[spec.name]:
            wrong.append(f"{spec.name}: {gap:.3g} from the recorded answer, allowed {TOLERANCES[spec.name]:.0e}")
    if checkpoint is not None:
        wrong += [
            f"{d.task}: {d.largest:.3g} from the checkpoint's answer, allowed {d.allowed:.0e}"
            for d in parity(checkpoint, folder / MODEL_FILE, inputs)
            if not d.fine
        ]
    return wrong
