"""Training learns: on a small shop it beats every floor, repeatably, and the command leaves an artefact that serves.

What dominates the time is the one training that all tests here share.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from stream_app.inference.onnx_scorer import OnnxScorer
from training.__main__ import main
from training.dataset import build_dataset
from training.evaluate import MUST_BEAT, not_beaten
from training.loop import fit_scaling, train
from training.plan import PLANS, Shop
from trt_build.verify import verify_artifact


def small(events: int) -> Shop:
    return Shop(replace(PLANS["tiny"].shops[0].options, events=events))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--preset", "tiny", "--out", str(folder / "tiny"), "--runs", str(folder / "runs")]
    return folder, CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def report(built: tuple[Path, Result]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built[1].stdout.splitlines()[-1])
    return found


def test_a_small_training_beats_every_floor(built: tuple[Path, Result], report: dict[str, Any]) -> None:
    assert report["not_beaten"] == []
    assert built[1].exit_code == 0
    for task, metric, floor, _ in MUST_BEAT:
        assert {metric, f"floor_{floor}"} <= set(report["metrics"][task])


def test_the_artefact_it_leaves_is_whole_and_serves(built: tuple[Path, Result], report: dict[str, Any]) -> None:
    folder = built[0] / "tiny"
    assert verify_artifact(folder) == []
    scorer = OnnxScorer(folder)
    assert scorer.self_test() < 1e-4
    assert scorer.version == report["version"]
    assert sorted(path.name for path in folder.iterdir()) == ["items.npz", "manifest.json", "model.onnx", "samples.npz"]
    assert not list(built[0].glob(".tiny*"))
    assert json.loads((built[0] / "runs" / "tiny" / "report.json").read_text()) == report


def test_a_floor_that_is_not_beaten_is_named(report: dict[str, Any]) -> None:
    metrics: dict[str, dict[str, float]] = report["metrics"]
    floors = {
        task: {name.removeprefix("floor_"): value for name, value in values.items() if name.startswith("floor_")}
        for task, values in metrics.items()
    }
    floors["fraud"]["logistic_average_precision"] = 0.9999
    [said] = not_beaten(metrics, floors)
    assert said.startswith("fraud: average_precision")


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    dataset = build_dataset([small(2_000)])
    plan = replace(PLANS["tiny"], epochs=1)

    def weights(seed: int) -> torch.Tensor:
        network = train(dataset, replace(plan, seed=seed), lambda *_: None, lambda _: None)
        return torch.cat([weight.flatten() for weight in network.parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def test_scaling_comes_from_the_training_range_alone() -> None:
    from model.network import MultiTaskNetwork
    from model.presets import PRESETS

    dataset = build_dataset([small(1_000)])
    network, other = (MultiTaskNetwork(PRESETS["tiny"], len(dataset.feature_names)) for _ in range(2))
    fit_scaling(network, dataset)
    dense = dataset.inputs["dense"].copy()
    dense[dataset.split > 0] = 1e6
    fit_scaling(other, replace(dataset, inputs=dataset.inputs | {"dense": dense}))
    assert torch.equal(network.dense.median, other.dense.median)
    assert torch.equal(network.dense.spread, other.dense.spread)
    assert float(network.dense.spread.min()) > 0
