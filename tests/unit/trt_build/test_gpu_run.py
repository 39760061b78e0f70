"""The script for a GPU machine goes on after what fails, and its report says all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from rich.progress import Progress

from tests.unit.trt_build.double import DEVICE, Double
from trt_build.artifact_source import open_source
from trt_build.engine.plans import plans_of
from trt_build.gpu_run import GpuRun, run_on_gpu
from trt_build.manifest import manifest_beside
from trt_build.parity.recorded import read_rows


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="the double's plans are no plans, and this machine has a GPU: see tests/gpu"
)
def test_every_precision_is_built_and_what_needs_a_device_is_reported_as_failed(artifact: Path, tmp_path: Path) -> None:
    source = open_source(artifact)
    rows = read_rows(artifact / "samples.npz", source.tensors)
    run = GpuRun(
        source, artifact, rows, tmp_path / "out", "python -m trt_build gpu-run", precisions=("fp32", "tf32", "fp16", "int8")
    )
    said: list[str] = []
    report = run_on_gpu(Double().api(), DEVICE, run, Progress(disable=True), said.append)
    assert list(report["builds"]) == ["fp32", "tf32", "fp16", "int8"]
    assert [path.name.partition("-")[0] for path in plans_of(artifact)] == ["fp16", "fp32", "int8", "tf32"]
    assert all(manifest_beside(path).exists() for path in plans_of(artifact))
    assert [verdict["precision"] for verdict in report["verify"]] == ["fp16", "int8"]  # against ONNX, on this CPU
    assert all(verdict["fine"] for verdict in report["verify"])
    assert [failure.partition(" ")[0].rstrip(":") for failure in report["failures"]] == [*["verify"] * 4, "refit", "bench"]
    assert report["fine"] is False
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    page = (tmp_path / "out" / "report.md").read_text()
    assert f"on {DEVICE.name} (compute capability 9.0), TensorRT 10.15.1.29" in page
    assert "| ONNX fp32 against ONNX fp16 on CPU | fraud |" in page
    assert "- verify fp16-sm90-trt10.15.1.29.plan: " in page
