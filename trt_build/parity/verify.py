"""Compare models with their network on the same inputs, task by task: torch, ONNX in each precision, plans.

Inputs are recorded rows, and the same with hard rows mixed in: no history, NaN, infinities, codes out of range, as far as the
inputs can have them. Batches of 1, 7 and 256 rows reveal a batch dimension that the export froze.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.contract import INPUTS, MODEL_FILE, OUTPUTS, SAMPLES_FILE
from model.digest import file_sha256
from model.network import ServingNetwork
from model.plan import Precision
from model.tasks import SHOP_TASKS
from trt_build.errors import RefusedError
from trt_build.export.sessions import session_of
from trt_build.manifest import read_manifest, weights_sha256
from trt_build.parity.compare import OutputDifference, compare, merged
from trt_build.parity.recorded import Arrays
from trt_build.parity.tolerances import TOLERANCES

Model = Callable[[Arrays], Mapping[str, NDArray[Any]]]

_OF_CONTRACT: Final = {task.name: TOLERANCES["fp32"][task.kind].largest for task in SHOP_TASKS}
_SMALL_BATCHES: Final = (1, 7)
_SMALL_ROWS: Final = 128  # rows that are also scored in small batches
_BATCH: Final = 256
_TORCH_ROWS: Final = 2_048  # in one batch, which bounds the memory


def hard_rows(inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Return a copy of `inputs` (five rows or more) whose first rows are spoiled, each in another way."""
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
    """Score with the network itself; returns the served outputs by task."""
    serving = ServingNetwork(checkpoint.network, checkpoint.temperatures).eval()
    count = len(next(iter(inputs.values())))
    parts = []
    with torch.no_grad():
        for at in range(0, count, _TORCH_ROWS):
            rows = [torch.from_numpy(np.ascontiguousarray(inputs[name][at : at + _TORCH_ROWS])) for name in serving.names]
            parts.append([answer.numpy() for answer in serving(*rows)])
    return {name: np.concatenate(answers) for name, answers in zip(serving.served, zip(*parts, strict=True), strict=True)}


def onnx_answers(model: bytes) -> Model:
    """Return a function that scores with an ONNX file of any precision on the CPU."""
    session = session_of(model)
    names = [value.name for value in session.get_outputs()]
    return lambda rows: dict(zip(names, session.run(names, dict(rows)), strict=True))


def differences(
    reference: Model,
    candidate: Model,
    inputs: Arrays,
    kinds: Mapping[str, str],
    precision: Precision,
    items: NDArray[Any] | None = None,
) -> list[OutputDifference]:
    """Compare two models on `inputs`, five rows or more, and on hard rows, the second in batches of 1, 7 and 256.

    For `kinds`, `precision` and `items` see `compare`.
    """
    parts = []
    few = {name: value[:_SMALL_ROWS] for name, value in inputs.items()}
    for rows, sizes in ((inputs, (_BATCH,)), (few, _SMALL_BATCHES), (hard_rows(few), (*_SMALL_BATCHES, _BATCH))):
        expected = reference(rows)
        parts += [compare(expected, _in_batches(candidate, rows, size), kinds, precision, items) for size in sizes]
    return merged(parts)


def parity(checkpoint: Checkpoint, model: Path, inputs: Arrays) -> list[OutputDifference]:
    """Compare the fp32 ONNX file `model` with `checkpoint`, for each output, on `inputs` and on hard rows."""
    kinds = {task.name: task.kind for task in checkpoint.network.tasks}
    return differences(
        lambda rows: torch_answers(checkpoint, rows), onnx_answers(model.read_bytes()), inputs, kinds, precision="fp32"
    )


def verify_artifact(folder: Path, checkpoint: Checkpoint | None = None) -> list[str]:
    """Check an artefact folder: checksums, recorded answers and, given its checkpoint, parity.

    Returns:
        Problems, one sentence each; empty for a good artefact.
    """
    try:
        manifest = read_manifest(folder)
    except RefusedError as err:
        return [str(err)]
    wrong = []
    for name, sha256 in manifest.sha256.items():
        digest = file_sha256(folder / name) if (folder / name).exists() else "no file"
        if digest != sha256:
            wrong.append(
                f"{name}: sha256 is {digest[:12]}, the manifest says {sha256[:12]}. Fix: restore it from a good copy, or build"
            )
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
        if manifest.weights_sha256 not in {"", weights_sha256(checkpoint)}:
            wrong.append("the checkpoint's weights are not those of the artefact. Fix: name its own checkpoint")
        far = [d for d in parity(checkpoint, folder / MODEL_FILE, inputs) if not d.fine]
        wrong += [f"{d.task}: {d.largest:.3g} from the checkpoint's answer, allowed {d.limits.largest:.0e}" for d in far]
    return wrong


def _in_batches(model: Model, rows: Arrays, size: int) -> dict[str, NDArray[Any]]:
    count = len(next(iter(rows.values())))
    parts: Sequence[Mapping[str, NDArray[Any]]] = [
        model({name: value[at : at + size] for name, value in rows.items()}) for at in range(0, count, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
