"""Every network exports: each kind of input with each way of sharing, in any batch, on rows as bad as rows can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
import torch

from model.checkpoint import Checkpoint
from model.contract import OUTPUTS
from model.presets import SHARINGS, Sharing
from model.tasks import SHOP_TASKS
from tests.unit.model.small import SMALL, score_head, small_network, small_rows
from trt_build.export.onnx_from_checkpoint import onnx_from_checkpoint
from trt_build.parity.verify import parity

CASES = [(kind, sharing) for kind in SMALL for sharing in SHARINGS if (kind, sharing) != ("sequence", "star")]
# The other half of every switch is exported once too.
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("event", "mmoe"): {},
    ("event", "ple"): {"scene_gate": True},
    ("event", "single"): {"tasks": (SHOP_TASKS[0], SHOP_TASKS[-1]), "knees": 3},  # fewer tasks: each has an encoder of its own
    ("table", "shared_bottom"): {"knees": 0},
    ("table", "mmoe"): {"scene_gate": True},
    ("text", "shared_bottom"): {"layers": 0},
    ("text", "mmoe"): {"scene_gate": True},
    ("sequence", "shared_bottom"): {"layers": 0},
    ("sequence", "single"): {"temperature": 0.0},
}


@pytest.mark.parametrize(("kind", "sharing"), CASES)
def test_onnx_answers_as_torch_does_and_not_as_another_network_would(kind: str, sharing: Sharing, tmp_path: Path) -> None:
    network, path = small_network(kind, sharing=sharing, **CHANGES.get((kind, sharing), {})), tmp_path / "model.onnx"
    checkpoint = Checkpoint(network, kind, temperatures={"yes": 2.0, "fraud": 0.7})
    onnx_from_checkpoint(checkpoint, path)
    rows = {name: value.numpy() for name, value in small_rows(kind, 64).items()}
    differences = parity(checkpoint, path, rows)
    assert all(difference.fine for difference in differences), differences
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    tasks = [task.name for task in network.tasks]
    served = [spec.name for spec in OUTPUTS] if "conversion" in tasks else tasks
    assert [difference.task for difference in differences] == [arg.name for arg in session.get_outputs()] == served
    assert [arg.name for arg in session.get_inputs()] == [spec.name for spec in network.inputs.tensors()]
    assert {arg.shape[0] for arg in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    if sharing == "mmoe":
        changed = served[0] if kind == "event" else "yes"
        with torch.no_grad():
            score_head(network, changed).tower.out.bias.add_(0.01)
        assert [d.task for d in parity(checkpoint, path, rows) if not d.fine] == [changed]
