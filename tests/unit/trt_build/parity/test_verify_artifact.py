"""ONNX from a checkpoint: the same answers in any batch, nothing of the machine inside, and a check that can fail."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner

from model.checkpoint import Checkpoint, save_checkpoint
from model.contract import INPUTS, ITEMS_FILE, MODEL_FILE, OUTPUTS, SAMPLES_FILE
from tests.unit.model.small import score_head
from training.data.dataset import Dataset
from trt_build.__main__ import main
from trt_build.export.onnx_from_checkpoint import onnx_from_checkpoint
from trt_build.manifest import read_manifest
from trt_build.parity.verify import hard_rows, parity, torch_answers, verify_artifact


def test_the_model_has_the_contracts_tensors_with_a_free_batch(built_artifact: Path) -> None:
    session = ort.InferenceSession(str(built_artifact / MODEL_FILE), providers=["CPUExecutionProvider"])
    assert [arg.name for arg in session.get_inputs()] == [spec.name for spec in INPUTS]
    assert [arg.name for arg in session.get_outputs()] == [spec.name for spec in OUTPUTS]
    assert {arg.shape[0] for arg in (*session.get_inputs(), *session.get_outputs())} == {"batch"}


@pytest.mark.parametrize("rows", [1, 7, 256])
def test_onnx_answers_as_torch_does_in_batches_of(
    rows: int, built_artifact: Path, untrained: Checkpoint, made_up_dataset: Dataset
) -> None:
    inputs = {name: np.resize(value, (rows, *value.shape[1:])) for name, value in made_up_dataset.inputs.items()}
    session = ort.InferenceSession(str(built_artifact / MODEL_FILE), providers=["CPUExecutionProvider"])
    wanted = torch_answers(untrained, inputs)
    for spec, answer in zip(OUTPUTS, session.run(None, inputs), strict=True):
        assert answer.shape == (rows, *spec.shape)
        np.testing.assert_allclose(answer, wanted[spec.name], atol=1e-5)


def test_parity_holds_on_rows_that_are_as_bad_as_rows_can_be(
    built_artifact: Path, untrained: Checkpoint, made_up_dataset: Dataset
) -> None:
    hard = hard_rows(made_up_dataset.inputs)
    assert np.isnan(hard["dense"]).any()
    assert not np.isnan(made_up_dataset.inputs["dense"]).any()
    differences = parity(untrained, built_artifact / MODEL_FILE, made_up_dataset.inputs)
    assert [difference.task for difference in differences] == [spec.name for spec in OUTPUTS]
    assert all(difference.fine for difference in differences), differences


def test_parity_is_broken_by_one_changed_weight(built_artifact: Path, untrained: Checkpoint, made_up_dataset: Dataset) -> None:
    changed = copy.deepcopy(untrained)
    with torch.no_grad():
        score_head(changed.network, "click").tower.out.bias.add_(0.01)
    wrong = [d.task for d in parity(changed, built_artifact / MODEL_FILE, made_up_dataset.inputs) if not d.fine]
    assert wrong == ["click"]


def test_the_same_checkpoint_gives_the_same_bytes_and_no_path_of_this_machine(
    tmp_path: Path, built_artifact: Path, untrained: Checkpoint
) -> None:
    onnx_from_checkpoint(untrained, tmp_path / "again.onnx")
    content = (tmp_path / "again.onnx").read_bytes()
    assert content == (built_artifact / MODEL_FILE).read_bytes()
    assert str(Path(__file__).resolve().parents[4]).encode() not in content
    assert b"site-packages" not in content


def test_the_manifest_says_what_a_worker_and_a_person_need(built_artifact: Path) -> None:
    manifest = read_manifest(built_artifact)
    assert set(manifest.sha256) == {MODEL_FILE, ITEMS_FILE, SAMPLES_FILE}
    assert manifest.version.startswith("tiny-")
    assert len(manifest.feature_names) == len(manifest.feature_medians) == len(manifest.feature_scales) == 12
    assert min(manifest.feature_scales) > 0
    assert {"torch", "onnx", "onnxruntime", "python"} <= set(manifest.versions)


def test_a_whole_artefact_verifies(built_artifact: Path, untrained: Checkpoint, tmp_path: Path) -> None:
    assert verify_artifact(built_artifact, untrained) == []
    save_checkpoint(untrained, tmp_path / "checkpoint.pt")
    result = CliRunner().invoke(main, ["verify", str(built_artifact), "--checkpoint", str(tmp_path / "checkpoint.pt")])
    assert result.exit_code == 0
    assert '"fine": true' in result.output


@pytest.mark.parametrize("name", [MODEL_FILE, ITEMS_FILE, SAMPLES_FILE])
def test_a_changed_file_does_not_verify(artifact: Path, name: str) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[-1] ^= 1
    (artifact / name).write_bytes(content)
    result = CliRunner().invoke(main, ["verify", str(artifact)])
    assert result.exit_code == 1
    assert f"{name}: sha256 is" in result.output


def test_the_command_exports_a_checkpoint(tmp_path: Path, untrained: Checkpoint, built_artifact: Path) -> None:
    save_checkpoint(untrained, tmp_path / "checkpoint.pt")
    target = tmp_path / "made" / "model.onnx"
    result = CliRunner().invoke(main, ["onnx", str(tmp_path / "checkpoint.pt"), str(target)])
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == (built_artifact / MODEL_FILE).read_bytes()
