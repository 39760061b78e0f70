"""The worker's TensorRT adapter on a real GPU: real plans, real streams and graphs, against ONNX Runtime on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from model.contract import OUTPUTS
from stream_app.errors import EngineLostError, EngineNotHereError
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines.cuda_runtime import CudaRuntime
from stream_app.inference.engines.fallback import FallbackScorer
from stream_app.inference.engines.selection import open_scorer, show_engine
from stream_app.inference.engines.self_test import TOLERANCES
from stream_app.inference.engines.tensorrt_engine import load_tensorrt
from stream_app.inference.engines.tensorrt_scorer import TensorRTScorer
from stream_app.metrics import Metrics
from trt_build.__main__ import main

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1_800)]

SHIPPED = Path(__file__).resolve().parents[2] / "model" / "artifacts" / "demo"
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped artefact with a plan of each precision, built here."""
    try:
        CudaRuntime()
        load_tensorrt()
    except EngineNotHereError as err:
        pytest.skip(str(err))
    folder = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("gpu") / "demo"))
    for precision in PRECISIONS:
        done = CliRunner().invoke(main, ["engine", str(folder), "--precision", precision])
        assert done.exit_code == 0, done.output
    return folder


def rows_of(folder: Path, rows: int) -> dict[str, NDArray[Any]]:
    inputs, _ = load_samples(folder, load_manifest(folder))
    return {name: np.resize(tensor, (rows, *tensor.shape[1:])) for name, tensor in inputs.items()}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_size_of_batch_is_answered_as_by_the_cpu_within_the_precisions_tolerance(precision: str, planned: Path) -> None:
    registry = CollectorRegistry()
    on_gpu = open_scorer(planned, "tensorrt", precision=precision)
    show_engine(on_gpu, Metrics(registry))
    labels = {"engine": "tensorrt", "precision": precision, "why": "configured"}
    assert registry.get_sample_value("millrace_engine_info", labels) == 1
    on_cpu, allowed = open_scorer(planned, "onnxruntime"), TOLERANCES[precision]  # type: ignore[index]  # a precision's name
    for rows in (1, 2, 15, 16, 17, 64, 65, 256, 300, 1_024, 5_000, 8_192, 20_000):
        inputs = rows_of(planned, rows)
        found, wanted = on_gpu.score(inputs), on_cpu.score(inputs)
        for spec in OUTPUTS:
            largest = allowed.user_vector if spec.name == "user_vector" else allowed.probability
            assert np.abs(found[spec.name] - wanted[spec.name]).max() <= largest, (rows, spec.name)
        again = on_gpu.score(inputs)  # the same buffers and graphs
        assert all(np.array_equal(again[spec.name], found[spec.name]) for spec in OUTPUTS)
    on_gpu.close()
    on_cpu.close()


def test_auto_takes_the_fastest_plan(planned: Path) -> None:
    scorer = open_scorer(planned)
    assert isinstance(scorer, FallbackScorer)
    scorer.close()
    opened = TensorRTScorer.open(planned)
    assert opened.precision == "fp16"
    opened.close()


def test_a_lost_engine_is_given_up_for_the_cpu(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    scorer = open_scorer(planned, "tensorrt", metrics=Metrics(registry))
    inputs = rows_of(planned, 100)

    def lost(*_: object) -> None:
        raise EngineLostError("device_lost", "on purpose")

    monkeypatch.setattr(CudaRuntime, "launch", lost)
    wanted = open_scorer(planned, "onnxruntime").score(inputs)
    found = scorer.score(inputs)
    assert all(np.array_equal(found[spec.name], wanted[spec.name]) for spec in OUTPUTS)
    assert registry.get_sample_value("millrace_engine_fallbacks_total", {"reason": "device_lost"}) == 1
