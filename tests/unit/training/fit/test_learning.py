"""Training learns: on a small shop it beats every baseline, repeatably, and the command leaves an artefact that serves.

What dominates the time is the one training that all tests here share.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from model.encoders.dense import DenseEncoder
from model.encoders.event import EventEncoder
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from stream_app.inference.engines.selection import open_scorer
from training.cli import main
from training.config import load_config
from training.data.dataset import Dataset
from training.data.simulated_shops import SimulatedShop, shops_from
from training.data.sources.simulated import dataset_from_shops
from training.evaluation.evaluate import MUST_BEAT, not_beaten
from training.fit.loop import train
from trt_build.parity.verify import verify_artifact


def small(events: int) -> Dataset:
    [shop] = shops_from(load_config("tiny").source)
    return dataset_from_shops([SimulatedShop(replace(shop.options, events=events))])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["--preset", "tiny", "--out", str(folder / "tiny"), "--runs", str(folder / "runs")]
    return folder, CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def report(built: tuple[Path, Result]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(built[1].stdout.splitlines()[-1])
    return report


def test_a_small_training_beats_every_baseline(built: tuple[Path, Result], report: dict[str, Any]) -> None:
    assert report["not_beaten"] == []
    assert built[1].exit_code == 0
    for task, metric, floor, _ in MUST_BEAT:
        assert {metric, f"floor_{floor}"} <= set(report["metrics"][task])


def test_the_artefact_it_leaves_is_whole_and_serves(built: tuple[Path, Result], report: dict[str, Any]) -> None:
    folder = built[0] / "tiny"
    assert verify_artifact(folder) == []
    scorer = open_scorer(folder, "onnxruntime")
    assert scorer.version == report["version"]
    assert sorted(path.name for path in folder.iterdir()) == ["items.npz", "manifest.json", "model.onnx", "samples.npz"]
    assert not list(built[0].glob(".tiny*"))


def test_a_baseline_that_is_not_beaten_is_named(report: dict[str, Any]) -> None:
    metrics: dict[str, dict[str, float]] = report["metrics"]
    floors = {
        task: {name.removeprefix("floor_"): value for name, value in values.items() if name.startswith("floor_")}
        for task, values in metrics.items()
    }
    floors["fraud"]["logistic_average_precision"] = 0.9999
    [sentence] = not_beaten(metrics, floors)
    assert sentence.startswith("fraud: average_precision")


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    dataset, config = small(2_000), load_config("tiny", {"training.epochs": 1})

    def weights(seed: int) -> torch.Tensor:
        network = train(dataset, config.changed({"training.seed": seed})).network
        return torch.cat([weight.flatten() for weight in network.parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))


def scaling_of(network: MultiTaskNetwork) -> DenseEncoder:
    encoder = network.parts[0].encoder
    assert isinstance(encoder, EventEncoder)
    return encoder.numbers.dense


def test_scaling_comes_from_the_training_range_alone() -> None:
    dataset, config = small(2_000), load_config("tiny", {"training.epochs": 1})
    trained = train(dataset, config).network
    alone = MultiTaskNetwork(PRESETS["tiny"], dataset.spec, dataset.tasks)
    alone.fit_scaling(dataset.inputs["dense"][dataset.rows("train")])
    shifted = np.where((dataset.split > 0)[:, None], np.float32(1e6), dataset.inputs["dense"])
    other = train(replace(dataset, inputs={**dataset.inputs, "dense": shifted}), config).network
    for network in (trained, other):
        scaling, expected = scaling_of(network), scaling_of(alone)
        assert torch.equal(scaling.median, expected.median)
        assert torch.equal(scaling.spread, expected.spread)
        assert float(scaling.spread.min()) > 0
