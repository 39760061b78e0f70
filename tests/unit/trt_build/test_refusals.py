"""What is damaged, cut short, of something else or too new is refused, with what to do: artefacts, ONNX files, plans, ranges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from rich.progress import Progress

from model.checkpoint import Checkpoint
from model.contract import ITEMS_FILE, MANIFEST_FILE, MODEL_FILE
from model.digest import file_sha256
from model.plan import PlanManifest
from tests.unit.trt_build.double import DEVICE, Double
from trt_build.__main__ import main
from trt_build.artifact_source import open_source
from trt_build.engine.engine_from_onnx import EngineOptions
from trt_build.engine.plan_from_refit import check_refit
from trt_build.engine.plans import build_plan, check_fits, read_plan, write_plan
from trt_build.engine.runtime import GpuDevice, require_tensorrt
from trt_build.errors import NoTensorRTError, RefusedError
from trt_build.export.onnx_files import source_of_checkpoint, write_onnx
from trt_build.export.ranges_from_rows import read_ranges
from trt_build.manifest import manifest_beside
from trt_build.parity.recorded import read_rows


@pytest.fixture(scope="module")
def made_file(tmp_path_factory: pytest.TempPathFactory, untrained: Checkpoint) -> Path:
    path = tmp_path_factory.mktemp("made") / "model.onnx"
    write_onnx(source_of_checkpoint(untrained, "the command"), path, "fp32", None, "the command")
    return path


@pytest.fixture
def onnx_file(tmp_path: Path, made_file: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(made_file.read_bytes())
    manifest_beside(path).write_bytes(manifest_beside(made_file).read_bytes())
    return path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def newer_opset(path: Path) -> None:
    model = onnx.load(path)
    model.opset_import[0].version = 21
    onnx.save(model, path)
    edit(manifest_beside(path), sha256=file_sha256(path))


def no_model(path: Path) -> None:
    path.write_bytes(b"\x0a\xff")
    edit(manifest_beside(path), sha256=file_sha256(path))


ARTEFACT: list[tuple[str, Callable[[Path], None], str]] = [
    ("flipped", lambda f: flip(f / MODEL_FILE), "is not what its manifest says.*restore it from a good copy, or build it again"),
    ("cut", lambda f: cut_short(f / MODEL_FILE), "is not what its manifest says"),
    ("items", lambda f: flip(f / ITEMS_FILE), "items.npz is not what its manifest says"),
    ("gone", lambda f: (f / MODEL_FILE).unlink(), "cannot be read"),
    ("no manifest", lambda f: (f / MANIFEST_FILE).unlink(), "half copied"),
    ("broken manifest", lambda f: cut_short(f / MANIFEST_FILE), "is damaged or none of ours"),
    (
        "newer manifest",
        lambda f: edit(f / MANIFEST_FILE, format=99),
        "has format 99, this program knows up to 1.*use the release",
    ),
    ("other features", lambda f: edit(f / MANIFEST_FILE, feature_names=["one"]), "other tensors.*dense"),
]


@pytest.mark.parametrize(("spoil", "text"), [case[1:] for case in ARTEFACT], ids=[case[0] for case in ARTEFACT])
def test_an_artefact_that_is_not_whole_is_refused_by_source_and_by_verify(
    spoil: Callable[[Path], None], text: str, artifact: Path
) -> None:
    spoil(artifact)
    with pytest.raises(RefusedError, match=text):
        open_source(artifact)
    result = CliRunner().invoke(main, ["verify", str(artifact)])
    assert result.exit_code == 1
    assert "Fix: " in result.output or "restore" in result.output
    assert CliRunner().invoke(main, ["engine", str(artifact)]).exit_code == 1  # before anybody looks for TensorRT


FILES: list[tuple[str, Callable[[Path], None], str]] = [
    ("flipped", flip, "is not what its manifest says"),
    ("cut", cut_short, "is not what its manifest says"),
    ("no manifest", lambda p: manifest_beside(p).unlink(), "cannot be read"),
    ("newer manifest", lambda p: edit(manifest_beside(p), format=7), "has format 7"),
    (
        "newer opset",
        newer_opset,
        "opset 21, this program and TensorRT 10 know up to 20.*opset_version=20",
    ),
    ("no model", no_model, "no whole ONNX model"),
    ("other outputs", lambda p: edit(manifest_beside(p), outputs=["yes"]), "other tensors"),
]


@pytest.mark.parametrize(("spoil", "text"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_an_onnx_file_that_is_not_what_its_manifest_says_is_refused(
    spoil: Callable[[Path], None], text: str, onnx_file: Path
) -> None:
    assert open_source(onnx_file).version.startswith("model-")
    spoil(onnx_file)
    with pytest.raises(RefusedError, match=text):
        open_source(onnx_file)


@pytest.fixture
def plan(artifact: Path) -> Path:
    source = open_source(artifact)
    order, path = EngineOptions("fp32", refittable=True), artifact / "plans" / "fp32.plan"
    made, manifest, report = build_plan(
        Double().api(), DEVICE, source, source.in_precision("fp32"), order, "the command", Progress(disable=True)
    )
    write_plan(path, made, manifest, report)
    return path


PLANS: list[tuple[str, Callable[[Path], None], str]] = [
    ("flipped", flip, "is not what its manifest says.*the command"),
    ("cut", cut_short, "is not what its manifest says"),
    ("gone", lambda p: p.unlink(), "cannot be read"),
    ("newer manifest", lambda p: edit(manifest_beside(p), format=2), "has format 2, this program knows up to 1"),
    ("other model", lambda p: edit(manifest_beside(p), model_sha256="0" * 64), "of another model: its model 000000000000, here"),
    ("other catalogue", lambda p: edit(manifest_beside(p), catalogue_hash="f"), "its feature catalogue f, here 0123456789abcdef"),
    ("other tensors", lambda p: edit(manifest_beside(p), inputs=[]), "its inputs"),
]


@pytest.mark.parametrize(("spoil", "text"), [case[1:] for case in PLANS], ids=[case[0] for case in PLANS])
def test_a_plan_that_is_damaged_or_of_another_model_is_refused_without_a_gpu(
    spoil: Callable[[Path], None], text: str, plan: Path
) -> None:
    source = open_source(plan.parent.parent)
    read_plan(plan, source)
    spoil(plan)
    with pytest.raises(RefusedError, match=text):
        read_plan(plan, source)


@pytest.mark.parametrize(
    ("changes", "version", "device", "text"),
    [
        ({}, "10.15.1.29", DEVICE, ""),
        ({}, "10.16.0.1", DEVICE, "built by TensorRT 10.15.1.29, here is 10.16.0.1"),
        ({"version_compatible": True}, "10.16.0.1", DEVICE, ""),
        ({"version_compatible": True}, "10.14.0.1", DEVICE, "built by TensorRT 10.15.1.29, here is 10.14.0.1"),
        ({"version_compatible": True}, "11.4.0.106", DEVICE, "here is 11.4.0.106"),
        ({}, "10.15.1.29", GpuDevice("old", "8.6"), r"compute capability 9\.0 \(NVIDIA Double 9000\), here is 8\.6"),
        ({"hardware_compatible": True}, "10.15.1.29", GpuDevice("old", "8.6"), "--hardware-compatible"),
        ({"hardware_compatible": True}, "10.15.1.29", GpuDevice("new", "12.0"), ""),
    ],
)
def test_a_plan_for_another_release_or_gpu_is_refused_with_the_option_that_helps(
    changes: dict[str, Any], version: str, device: GpuDevice, text: str, plan: Path
) -> None:
    manifest = msgspec.structs.replace(read_plan(plan)[1], **changes)
    if not text:
        check_fits(manifest, Double(version).api(), device)
        return
    with pytest.raises(RefusedError, match=text):
        check_fits(manifest, Double(version).api(), device)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"refittable": False}, "--refittable"),
        ({"precision": "int8"}, "calibrate and build again"),
        ({"precision": "fp16"}, "make it with --precision fp16"),
        ({"structure_sha256": "0" * 64}, "another network, other sizes"),
        ({"catalogue_hash": "f"}, "this release's features"),
    ],
)
def test_weights_that_cannot_go_into_a_plan_are_refused_without_a_gpu(changes: dict[str, Any], text: str, plan: Path) -> None:
    manifest: PlanManifest = read_plan(plan)[1]
    weights = open_source(plan.parent.parent).in_precision("fp32").manifest
    check_refit(manifest, weights)
    with pytest.raises(RefusedError, match=text):
        check_refit(msgspec.structs.replace(manifest, **changes), weights)


def test_the_structure_is_that_of_the_network_and_not_of_its_training(untrained: Checkpoint, made_file: Path) -> None:
    import copy

    import torch

    other = copy.deepcopy(untrained)
    with torch.no_grad():
        for weight in other.network.parameters():
            weight.mul_(0.9)
    a, b = open_source(made_file).manifest, source_of_checkpoint(other, "").manifest
    assert a.structure_sha256 == b.structure_sha256
    assert a.weights_sha256 != b.weights_sha256
    assert a.sha256 != b.sha256


def test_rows_of_another_catalogue_or_too_few_of_them_are_refused(artifact: Path, tmp_path: Path) -> None:
    source = open_source(artifact)
    samples = artifact / "samples.npz"
    assert len(read_rows(samples, source.tensors, 8)["dense"]) == 8
    with pytest.raises(RefusedError, match="has 64 rows, 65 are asked for"):
        read_rows(samples, source.tensors, 65)
    with np.load(samples) as saved:
        arrays = dict(saved)
    np.savez(tmp_path / "narrow.npz", **arrays | {"in_dense": arrays["in_dense"][:, 1:]})
    with pytest.raises(RefusedError, match=r"rows of dense are float32\[11\], the model reads float32\[12\]"):
        read_rows(tmp_path / "narrow.npz", source.tensors)
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(RefusedError, match="holds no recorded rows"):
        read_rows(tmp_path / "empty.npz", source.tensors)
    (tmp_path / "ranges.json").write_text('{"format": 1}')
    with pytest.raises(RefusedError, match="no file of ranges"):
        read_ranges(tmp_path / "ranges.json")


def test_without_the_library_the_message_says_how_to_get_it_and_the_status_tells_it_from_a_failure(artifact: Path) -> None:
    try:
        require_tensorrt()
        pytest.skip("TensorRT is installed here")
    except NoTensorRTError:
        pass
    result = CliRunner().invoke(main, ["engine", str(artifact)])
    assert result.exit_code == 3
    assert "pip install 'millrace[gpu]'" in result.output
    assert CliRunner().invoke(main, ["library", "show"]).exit_code == 3
    assert CliRunner().invoke(main, ["gpu-run", str(artifact), "--precisions", "fp32"]).exit_code == 3
