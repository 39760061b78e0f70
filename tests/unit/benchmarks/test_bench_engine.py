"""The benchmark of the engines runs from end to end and has every promised figure; its counts are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.bench_engine import QUICK, main, measured, same_in_any_batch
from benchmarks.engine.engine_rows import batch_of, larger_catalogue, replayed_rows
from benchmarks.engine.engines import serving_network
from benchmarks.engine.roofline import cost_of, roof
from model.contract import INPUTS
from stream_app.inference.engines.port import Tensors
from stream_app.reporting.progress import Reporter

FOLDER = Path(__file__).resolve().parents[3] / "model" / "artifacts" / "demo"


def test_a_quick_run_tells_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # torch sets it where nobody has
    done = CliRunner().invoke(main, ["--quick"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    for figure in ("rows_per_s", "p50_ms", "p99_ms"):
        assert figures[figure].keys() == {"onnxruntime", "torch", "torch_compile", "openvino"}
        assert figures[figure]["torch_compile"] is None
        assert all(value > 0 for name in ("onnxruntime", "torch", "openvino") for value in figures[figure][name].values())
        assert figures[figure]["onnxruntime"].keys() == {str(size) for size in QUICK.sizes}
    assert figures["reasons"] == {"torch_compile": "left out by --quick"}
    assert figures["same_in_any_batch"]["onnxruntime"]
    assert figures["candidates_per_s"] > 0
    assert figures["candidates_recall"] >= 0.95
    assert figures["candidates"]["looked_at"] < figures["candidates"]["items"] == QUICK.items
    assert {"gpu", "commit", "machine", "cores", "date", "model", "cost"} <= figures.keys()


def test_rows_are_the_last_of_a_shop_and_have_a_past() -> None:
    rows = replayed_rows(1_500, 200)
    assert rows.keys() == {spec.name for spec in INPUTS}
    assert {len(tensor) for tensor in rows.values()} == {200}
    assert (rows["sequence_ids"][:, -1, 2] > 0).any()
    assert len(np.unique(rows["dense"], axis=0)) > 190


def test_batches_begin_anew_behind_the_last_row() -> None:
    rows = {"x": np.arange(5)}
    assert [batch_of(rows, 3, number)["x"].tolist() for number in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_an_engine_whose_rows_look_at_each_other_is_found() -> None:
    rows = {"x": np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)}
    assert same_in_any_batch(lambda inputs: {"y": inputs["x"] * 2}, rows)
    assert not same_in_any_batch(lambda inputs: {"y": inputs["x"] - inputs["x"].mean()}, rows)


def test_an_engine_that_is_not_here_has_no_figures_but_a_reason() -> None:
    calls: list[int] = []

    def score(inputs: Tensors) -> Tensors:
        calls.append(len(inputs["x"]))
        return inputs

    figures = measured(
        {"here": score, "gone": "no such library"}, {"x": np.zeros((4, 1))}, replace(QUICK, seconds=1e-4), Reporter(elapsed=True)
    )
    assert figures["rows_per_s"]["gone"] is None
    assert figures["reasons"] == {"gone": "no such library"}
    assert set(calls) == set(QUICK.sizes)


def test_operations_are_those_of_the_layers_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = serving_network(FOLDER, None)
    one, two = (cost_of(network, replayed_rows(300, rows)) for rows in (16, 64))
    assert one["operations_per_row"] == pytest.approx(two["operations_per_row"])
    experts = network.network.parts[0].sharing
    assert experts is not None
    first = 2 * experts.get_submodule("experts.first").get_parameter("weight").numel()
    assert first < one["operations_per_row"] < 4 * first
    assert one["weight_bytes"] < (FOLDER / "model.onnx").stat().st_size


def test_the_roof_is_the_memory_in_small_batches_and_the_arithmetic_in_large_ones() -> None:
    cost = {"operations_per_row": 670e3, "row_bytes": 0.0, "weight_bytes": 3.35e6}
    figures = roof(cost, "NVIDIA H100 80GB HBM3", (1, 1_000_000), "fp32")
    assert figures == {"1": pytest.approx(1e6), "1000000": pytest.approx(1e8)}
    assert roof(cost, "another", (1,), "fp32") is None


def test_a_larger_catalogue_is_the_same_each_time_and_has_the_spread_of_the_real_one() -> None:
    real = np.random.default_rng(2).normal(size=(500, 32)).astype(np.float32)
    made = larger_catalogue(real, 5_000)
    assert made.shape == (5_000, 32)
    assert np.array_equal(made, larger_catalogue(real, 5_000))
    np.testing.assert_allclose(made.std(axis=0), real.std(axis=0) * 1.25**0.5, rtol=0.1)
