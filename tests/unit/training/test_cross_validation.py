"""Cross-validation: every row is evaluated once, a metric is the mean over folds, and an ensemble answers as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # changes the environment when it is loaded, which no test may

from model.inputs import SequenceInputs, TableInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.tasks import Task
from stream_app.errors import ConfigError
from training.config import TrainingConfig, config_from_tree
from training.cross_validation import cross_validate
from training.jobs import TrainingJob
from training.outcome import Ensemble
from training.report.console import TrainingConsole

ROWS = 240


def tree(**split: Any) -> dict[str, Any]:
    return {
        "network": {"preset": "table_tiny"},
        "training": {"epochs": 2, "batch": 64, "learning_rate": 1e-2, "conflict_every": 0},
        "source": {
            "kind": "table",
            "numeric": ["size"],
            "categorical": ["colour"],
            "labels": [{"name": "sold", "column": "sold", "positive": ["1"]}],
            "split": {"kind": "folds", "folds": 3, "validation": 0.2, **split},
        },
    }


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    draw = np.random.default_rng(5)
    rows = [(size, "rgb"[int(draw.integers(3))], int(size + draw.normal() > 0)) for size in draw.normal(size=ROWS)]
    file = tmp_path / "things.csv"
    file.write_text("size,colour,sold\n" + "".join(f"{size:.4f},{colour},{sold}\n" for size, colour, sold in rows))
    config: TrainingConfig = config_from_tree(tree(), "things")
    return TrainingJob(config=config, folder=tmp_path / "run", data=(file,), results=tmp_path / "results.json", command="train")


def test_each_fold_is_evaluated_and_a_metric_is_their_mean(job: TrainingJob) -> None:
    short = cross_validate(replace(job, members=2), TrainingConsole(quiet=True))
    auc = short["metrics"]["sold"]["auc"]
    assert len(auc["folds"]) == 3
    assert auc["mean"] == pytest.approx(np.mean(auc["folds"]))
    assert auc["spread"] == pytest.approx(np.std(auc["folds"], ddof=1))
    assert auc["mean"] > 0.6  # the data can be learnt, and two epochs are enough to show it
    written = json.loads((job.folder / "folds.json").read_text())
    assert [fold["sold"]["auc"] for fold in written["of_folds"]] == auc["folds"]
    assert job.results is not None
    rows = {row["metric"]: row for row in json.loads(job.results.read_text())["rows"]}
    assert rows["sold.auc"]["value"] == pytest.approx(auc["mean"])
    assert rows["sold.auc"]["seeds"] == 3
    assert "2 networks" in rows["sold.auc"]["name"]


def test_every_scene_is_trained_alone_with_only_each(job: TrainingJob) -> None:
    changes = {"source.split.kind": "random", "source.only": "each", "source.scene": "colour", "source.categorical": []}
    alone = TrainingJob(config=job.config.changed(changes), folder=job.folder, data=job.data)
    short = cross_validate(alone, TrainingConsole(quiet=True))
    assert short["folds"] == 3  # red, green and blue
    assert len(short["metrics"]["sold"]["auc"]["folds"]) == 3


def test_a_split_that_is_not_by_folds_is_refused_with_the_fix(job: TrainingJob) -> None:
    config = job.config.changed({"source.split.kind": "random"})
    with pytest.raises(ConfigError, match=r"kind is 'random'.*--set source\.split\.kind=folds"):
        cross_validate(TrainingJob(config=config, folder=job.folder, data=job.data), TrainingConsole(quiet=True))


def test_an_ensemble_answers_the_mean_of_its_networks_logits() -> None:
    tasks = (Task(name="a", kind="binary", label="a"), Task(name="b", kind="classes", label="b", classes=("x", "y", "z")))
    spec = TableInputs(dense=2)
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        networks.append(MultiTaskNetwork(PRESETS["table_tiny"], spec, tasks).eval())
    inputs = {"dense": torch.randn(7, 2)}
    together = Ensemble(networks)(inputs)
    for name in ("a", "b"):
        each = torch.stack([network(inputs)[name] for network in networks])
        assert torch.allclose(together[name], each.mean(dim=0))


def test_vectors_of_retrieval_are_not_averaged() -> None:
    task = Task(name="next", kind="retrieval", label="next")
    network = MultiTaskNetwork(PRESETS["sequence_tiny"], SequenceInputs(items=9, length=4), (task,))
    with pytest.raises(ValueError, match="task next: retrieval vectors cannot be averaged"):
        Ensemble([network, network])
