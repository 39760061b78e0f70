"""Real plans on a real GPU: every precision within its tolerance, refit, formats of other machines refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.progress import Progress

from trt_build.artifact_source import open_source
from trt_build.engine.plans import check_fits, plans_of, read_plan
from trt_build.engine.runtime import GpuDevice, require_gpu, require_tensorrt
from trt_build.errors import BuildError
from trt_build.gpu_run import GpuRun, run_on_gpu
from trt_build.parity.recorded import read_rows

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1_800)]

SHIPPED = Path(__file__).resolve().parents[2] / "model" / "artifacts" / "demo"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped artefact, without plans."""
    folder = tmp_path_factory.mktemp("gpu") / "demo"
    folder.mkdir()
    for name in ("manifest.json", "model.onnx", "items.npz", "samples.npz"):
        (folder / name).write_bytes((SHIPPED / name).read_bytes())
    return folder


def test_every_precision_builds_verifies_refits_and_is_timed(shipped: Path, tmp_path: Path) -> None:
    try:
        trt, device = require_tensorrt(), require_gpu()
    except BuildError as err:
        pytest.skip(str(err))
    source = open_source(shipped)
    rows = read_rows(shipped / "samples.npz", source.tensors)
    run = GpuRun(source, shipped, rows, tmp_path, "pytest tests/gpu", timing_cache=tmp_path / "cache")
    report = run_on_gpu(trt, device, run, Progress(disable=True), lambda _line: None)
    assert report["failures"] == []
    assert report["fine"], report["verify"]
    for path in plans_of(shipped):
        _, manifest = read_plan(path, source)
        check_fits(manifest, trt, device)
        with pytest.raises(BuildError, match="build it again here"):
            check_fits(manifest, trt, GpuDevice("another", "0.1"))
