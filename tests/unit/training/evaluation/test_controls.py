"""Controls: they learn what is there, are judged as the network is, and share nothing between tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.tasks import SHOP_TASKS
from stream_app.errors import ContractError
from tests.unit.training.data.rows_of_tables import sequences, table
from training.data.dataset import Dataset
from training.evaluation.baselines import fit_baselines
from training.evaluation.controls import lightgbm_control, single_task_control, single_task_sets
from training.evaluation.protocol import EvaluationProtocol


def test_boosted_trees_learn_both_tasks_and_the_same_seed_gives_the_same_figures() -> None:
    dataset = table(3_000)
    found = lightgbm_control(dataset, rounds=60)
    floor = fit_baselines(dataset)
    assert found["fraud"]["auc"] > 0.7
    assert found["kind"]["accuracy"] > floor["kind"]["majority_accuracy"] + 0.2
    assert found["fraud"]["rows"] == len(dataset.known("fraud", "test"))
    assert lightgbm_control(dataset, rounds=60) == found
    assert set(lightgbm_control(dataset, EvaluationProtocol(card_budget=3), rounds=5)["fraud"]) > {"card_precision_at_3"}


def test_rows_without_columns_are_refused() -> None:
    with pytest.raises(ContractError, match="these rows have sequence only"):
        lightgbm_control(sequences())


def test_a_task_that_is_given_another_is_trained_with_it() -> None:
    names = [[task.name for task in alone] for alone in single_task_sets(SHOP_TASKS)]
    assert names == [["fraud"], ["intent"], ["next_action"], ["click"], ["click", "conversion"], ["user_vector"]]


def test_each_task_is_trained_alone_and_its_own_figures_are_kept() -> None:
    dataset, trained = table(), []

    def train_and_judge(alone: Dataset) -> dict[str, dict[str, float]]:
        trained.append([task.name for task in alone.tasks])
        return {task.name: {"auc": float(len(trained))} for task in alone.tasks}

    found = single_task_control(dataset, train_and_judge)
    assert trained == [["fraud"], ["kind"]]
    assert found == {"fraud": {"auc": 1.0}, "kind": {"auc": 2.0}}
    assert single_task_control(replace(dataset, tasks=dataset.tasks[:1]), train_and_judge)["fraud"] == {"auc": 3.0}
