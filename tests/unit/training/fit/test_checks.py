"""Data that cannot be learnt from are refused, with the task's name and the fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stream_app.errors import ConfigError, ContractError
from tests.unit.training.toy import config, sequences, table
from training.data.dataset import Dataset
from training.fit.checks import check_dataset
from training.fit.loop import train


def with_labels(name: str, values: Any, split: int | None = None) -> Dataset:
    dataset = table()
    labels = dataset.labels[name].copy()
    labels[slice(None) if split is None else dataset.split == split] = values
    return replace(dataset, labels={**dataset.labels, name: labels})


def test_good_data_are_let_through() -> None:
    for dataset in (table(), sequences()):
        check_dataset(dataset, dataset.tasks, needs_metrics=True)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (with_labels("c", -1), "task third: all 420 labels 'c' of the train range are missing"),
        (with_labels("a", 0), "task first: all 420 known labels 'a' of the train range are 0, there is nothing to tell apart"),
        (with_labels("c", 3), "task third: its labels 'c' are 3 to 3, and as classes with 3 answers they must be -1"),
        (with_labels("ab", 2), "task both: its labels 'ab' are 2 to 2, and as binary with 2 answers"),
    ],
)
def test_labels_of_one_value_are_refused(dataset: Dataset, message: str) -> None:
    with pytest.raises(ContractError, match="Operator action: ") as refused:
        train(dataset, config())
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (with_labels("a", 1, 1), "task first: all 90 known labels 'a' of the validation range are 1"),
        (with_labels("c", -1, 1), "task third: all 90 labels 'c' of the validation range are missing"),
    ],
)
def test_validation_labels_of_one_value_are_refused_only_where_a_metric_decides(dataset: Dataset, message: str) -> None:
    train(dataset, config(epochs=1))
    with pytest.raises(ContractError, match=message):
        train(dataset, config(epochs=1, stop_on="metric"))


def test_a_metric_that_cannot_decide_is_refused_where_it_decides() -> None:
    options = config(epochs=1).changed({"tasks.first.metric": "card_precision_at_100"})
    train(table(), options)
    with pytest.raises(ConfigError, match=r"task first: metric 'card_precision_at_100' .* set tasks.first.metric .*auc"):
        train(table(), options.changed({"training.stop_on": "metric"}))


def test_a_task_that_is_left_out_may_lack_its_labels() -> None:
    trained = train(with_labels("c", -1), config(epochs=1, tasks=["first", "both"]))
    assert [task.name for task in trained.tasks] == ["first", "both"]
    assert set(trained.history[0].validation) == {"first", "both"}


@pytest.mark.parametrize(("split", "name"), [(0, "train"), (1, "validation")])
def test_an_empty_range_is_refused(split: int, name: str) -> None:
    dataset = table()
    without = replace(dataset, split=np.where(dataset.split == split, 2, dataset.split).astype(np.int8))
    with pytest.raises(ContractError, match=f"the {name} range is empty: the data set has"):
        train(without, config())


def test_nan_is_refused_with_the_name_of_the_input() -> None:
    dataset = table()
    gaps = np.zeros((len(dataset), 3), np.float32)
    gaps[4, 1] = np.nan
    with pytest.raises(ContractError, match="input 'gaps' has 1 values of 1,800 that are NaN or infinite"):
        check_dataset(replace(dataset, inputs={**dataset.inputs, "gaps": gaps}), dataset.tasks)
