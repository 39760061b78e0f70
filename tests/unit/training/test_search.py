"""The search: finds the better of two values, is repeatable, and resumes an interrupted study."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from stream_app.errors import ConfigError, ContractError
from tests.unit.training.toy import config, table
from training.config import TrainingConfig
from training.fit.gbdt import BoostedTrees, grow_trees
from training.fit.loop import TrainedNetwork, train
from training.search import SearchTrial, search


def searching(trials: int = 4, **ranges: Any) -> TrainingConfig:
    search_ranges = ranges or {"training.learning_rate": {"choices": [1e-6, 1e-2]}}
    return config(epochs=1).changed({"search.trials": trials, "search.ranges": search_ranges})


def test_it_finds_the_learning_rate_that_learns(tmp_path: Path) -> None:
    reported: list[SearchTrial] = []
    result = search(table(), searching(), tmp_path, reported.append)
    assert result.best == {"training.learning_rate": 0.01}
    assert {trial.values["training.learning_rate"] for trial in reported} == {1e-6, 1e-2}
    assert result.trials == tuple(reported)
    assert result.value == max(trial.value for trial in reported)
    assert json.loads((tmp_path / "search.json").read_text())["best"] == result.best


def test_the_same_seed_tries_the_same_values() -> None:
    varied = searching(
        3, **{"training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "network.tower": {"low": 4, "high": 8}}
    )
    first, second = (search(table(300), varied) for _ in range(2))
    assert [trial.values for trial in first.trials] == [trial.values for trial in second.trials]
    assert all(isinstance(trial.values["network.tower"], int) for trial in first.trials)


def test_the_share_of_soft_labels_can_be_searched_and_all_trials_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    trained_tasks = []

    def counted(*arguments: Any, **options: Any) -> BoostedTrees:
        trained_tasks.append(arguments[0].name)
        return grow_trees(*arguments, **options)

    monkeypatch.setattr("training.fit.distillation.grow_trees", counted)
    result = search(table(300), searching(4, **{"training.distil": {"choices": [0.0, 0.5]}}))
    assert {trial.values["training.distil"] for trial in result.trials} == {0.0, 0.5}
    assert len(trained_tasks) == 5 * 3  # folds of the three tasks, once


def test_a_later_search_in_the_same_folder_goes_on(tmp_path: Path) -> None:
    search(table(300), searching(2), tmp_path)
    reported: list[SearchTrial] = []
    result = search(table(300), searching(3), tmp_path, reported.append)
    assert [trial.number for trial in reported] == [2]
    assert len(result.trials) == 3


def test_a_later_search_of_other_data_or_another_configuration_is_refused(tmp_path: Path) -> None:
    search(table(300), searching(1), tmp_path)
    with pytest.raises(ContractError, match=r"data\.labels was \d+, is \d+"):
        search(table(300, seed=1), searching(2), tmp_path)
    with pytest.raises(ContractError, match=r"config\.training\.batch was 64, is 32"):
        search(table(300), searching(2).changed({"training.batch": 32}), tmp_path)


def test_a_trial_without_a_value_is_null_in_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[TrainedNetwork] = []

    def diverging(*arguments: Any) -> TrainedNetwork:
        if not tried:
            tried.append(train(*arguments[:2]))
            raise ContractError("diverged")
        return train(*arguments)

    monkeypatch.setattr("training.search.train", diverging)
    result = search(table(300), searching(2), tmp_path)
    assert math.isnan(result.trials[0].value)
    first, second = json.loads((tmp_path / "search.json").read_text())["trials"]
    assert first["value"] is None
    assert second["value"] == result.value


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ConfigError, match="search: each process of torchrun would do all of it"):
        search(table(300), searching(1))


def test_values_that_diverge_are_no_end_of_the_search() -> None:
    varied = searching(2, **{"training.learning_rate": {"choices": [10.0, 0.01]}})
    result = search(table(300), varied.changed({"training.largest_gradient": 0.0, "training.weight_decay": 10.0}))
    assert result.best["training.learning_rate"] == 0.01


def test_one_task_can_decide_alone() -> None:
    result = search(table(), searching(1).changed({"search.task": "third"}))
    assert 0 < result.value <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"search.ranges": {}}, "is empty"), ({"search.task": "thrd"}, "did you mean third")],
)
def test_a_search_for_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search(table(), searching().changed(changes))
