"""The verification of a model: torch, ONNX in each precision, and plans, on the same recorded rows.

The reference is torch if there is a checkpoint, else the fp32 ONNX file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.inputs import EventInputs, SequenceInputs
from model.plan import Precision
from model.tensorrt.protocols import TensorRt
from trt_build.artifact_source import ArtifactSource
from trt_build.engine.plan_runner import PlanRunner
from trt_build.engine.plans import check_fits, read_plan
from trt_build.engine.runtime import GpuDevice
from trt_build.errors import BuildError, RefusedError
from trt_build.export.ranges_from_rows import Ranges
from trt_build.manifest import weights_sha256
from trt_build.parity.compare import OutputDifference
from trt_build.parity.recorded import Arrays
from trt_build.parity.verify import Model, differences, onnx_answers, torch_answers

LEAST_ROWS: Final = 5  # `hard_rows` spoils five rows
_ITEMS: Final = 2_000  # for a model without an artefact's items


@dataclass(frozen=True)
class ParityVerdict:
    """One comparison: the names of both models, and the differences."""

    what: str
    precision: Precision
    differences: list[OutputDifference]

    @property
    def fine(self) -> bool:
        """Whether all tasks are within their limits."""
        return all(difference.fine for difference in self.differences)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as values for JSON."""
        tasks = {
            d.task: {
                "largest": d.largest,
                "largest_allowed": d.limits.largest,
                "mean": d.mean,
                "mean_allowed": d.limits.mean,
                "overlap": d.overlap,
                "fine": d.fine,
                "reason": d.limits.reason,
                "worst_rows": [row.row for row in d.worst],
            }
            for d in self.differences
        }
        return {"what": self.what, "precision": self.precision, "fine": self.fine, "tasks": tasks}


def verify_onnx(
    source: ArtifactSource,
    rows: Arrays,
    precisions: Sequence[Precision],
    checkpoint: Checkpoint | None = None,
    ranges: Ranges | None = None,
) -> Iterator[ParityVerdict]:
    """Compare the ONNX model in each of `precisions` with the network, or with the fp32 file, on five rows or more; needs no GPU.

    tf32, which is fp32 on a CPU, is left out; int8 needs `ranges`.

    Raises:
        RefusedError: The checkpoint is of another training.
        BuildError: There are too few rows, or a precision cannot be written.
    """
    reference, name = reference_of(source, rows, checkpoint)
    items = items_of(source, checkpoint)
    for precision in precisions:
        if precision == "tf32" or (precision == source.manifest.precision and checkpoint is None):
            continue  # the same arithmetic as the reference
        model = onnx_answers(source.in_precision(precision, ranges).content)
        compared = differences(reference, model, rows, source.manifest.kinds, precision, items)
        yield ParityVerdict(f"{name} against ONNX {precision} on CPU", precision, compared)


def verify_plan(
    trt: TensorRt,
    device: GpuDevice,
    source: ArtifactSource,
    path: Path,
    rows: Arrays,
    checkpoint: Checkpoint | None = None,
) -> ParityVerdict:
    """Compare a plan with the network, or with the fp32 ONNX model.

    Raises:
        RefusedError: The plan is damaged, of another model, or not for this machine.
    """
    plan, manifest = read_plan(path, source)
    check_fits(manifest, trt, device)
    runner = PlanRunner(trt, plan, manifest)
    reference, name = reference_of(source, rows, checkpoint)
    items = items_of(source, checkpoint)
    compared = differences(reference, runner.score, rows, source.manifest.kinds, manifest.precision, items)
    return ParityVerdict(f"{name} against {path.name}", manifest.precision, compared)


def reference_of(source: ArtifactSource, rows: Arrays, checkpoint: Checkpoint | None) -> tuple[Model, str]:
    """Return the reference model and its name."""
    count = len(next(iter(rows.values())))
    if count < LEAST_ROWS:
        raise BuildError(f"{count} rows to verify with, at least {LEAST_ROWS} are needed. Fix: record more, see docs/engines.md")
    if checkpoint is None:
        return onnx_answers(source.in_precision("fp32").content), "ONNX fp32"
    digest = weights_sha256(checkpoint)
    if source.manifest.weights_sha256 not in {"", digest}:
        raise RefusedError(
            f"the model was made of the weights {source.manifest.weights_sha256[:12]}, the checkpoint has {digest[:12]}. "
            "Fix: name the checkpoint that it was made of, or export this one"
        )
    return lambda batch: torch_answers(checkpoint, batch), "torch"


def items_of(source: ArtifactSource, checkpoint: Checkpoint | None) -> NDArray[Any] | None:
    """Return item vectors to rank: the artefact's, else the network's for the first 2,000 codes; None = no ranking."""
    if source.items is not None or checkpoint is None:
        return source.items
    network = checkpoint.network
    if not any(task.kind == "retrieval" for task in network.tasks):
        return None
    with torch.no_grad():
        if isinstance(network.inputs, EventInputs):
            codes = torch.arange(1, _ITEMS + 1, dtype=torch.int32)
            return np.asarray(network.item_vectors(codes, codes % 500 + 1).numpy())
        if isinstance(network.inputs, SequenceInputs):
            return np.asarray(network.item_table().numpy())
    return None
