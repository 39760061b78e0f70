"""The loop: seeded, repeatable, stopped in time, and every way of training learns.

What dominates the time is a dozen trainings of half a second.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stream_app.errors import ConfigError, ContractError
from tests.unit.training.toy import config, sequences, table, weights
from training.evaluation.evaluate import evaluate
from training.fit.loop import train
from training.fit.progress import EpochReport, TrainingCallbacks
from training.fit.schedule import learning_rate
from training.fit.spectral import initialise_items


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    dataset = table()
    first = weights(train(dataset, config(seed=1)).network)
    assert torch.equal(first, weights(train(dataset, config(seed=1)).network))
    assert not torch.equal(first, weights(train(dataset, config(seed=2)).network))


def test_earlier_random_numbers_do_not_matter() -> None:
    torch.manual_seed(5)
    first = weights(train(table(), config()).network)
    torch.manual_seed(6)
    np.random.default_rng(3).normal(size=10)
    assert torch.equal(first, weights(train(table(), config()).network))


@pytest.mark.parametrize("balance", ["fixed", "uncertainty", "dwa", "gradnorm", "pcgrad", "torchjd:alignedmtl"])
def test_every_balance_learns_every_task(balance: str) -> None:
    dataset = table(1_500)
    trained = train(dataset, config(balance=balance, epochs=6))
    metrics = evaluate(trained.network, dataset, "test").metrics
    assert metrics["first"]["auc"] > 0.9
    assert metrics["both"]["auc"] > 0.85
    assert metrics["third"]["accuracy"] > 0.9


@pytest.mark.parametrize("full_softmax_items", [0, 100])
def test_retrieval_is_learnt_from_the_batch_and_from_all_items(full_softmax_items: int) -> None:
    dataset = sequences()
    options = config("sequence_tiny", full_softmax_items=full_softmax_items, epochs=8, batch=32)
    metrics = evaluate(train(dataset, options).network, dataset, "test").metrics
    assert metrics["user_vector"]["recall_at_10"] > 0.9
    assert metrics["user_vector"]["mrr_at_10"] > 0.6  # a guess among twelve: 0.24


def test_item_embeddings_can_start_from_counts() -> None:
    dataset = sequences()
    still = config("sequence_tiny", full_softmax_items=100, epochs=1, learning_rate=1e-8, weight_decay=0.0)
    begun = train(dataset, still.changed({"training.spectral_start": True})).network
    counted = train(dataset, still).network
    assert not torch.allclose(weights(begun), weights(counted), atol=1e-3)
    initialise_items(counted, dataset, dataset.tasks, still.training.seed)
    torch.testing.assert_close(weights(begun), weights(counted), atol=1e-4, rtol=0.0)


def test_reports_hold_losses_weights_conflict_and_progress(tmp_path: Path) -> None:
    reports: list[EpochReport] = []
    steps: list[tuple[int, int]] = []
    callbacks = TrainingCallbacks(step=lambda done, most: steps.append((done, most)), epoch=reports.append)
    trained = train(table(), config(conflict_every=3, stop_on="metric"), tmp_path, callbacks)
    assert steps == [(n, 14) for n in range(1, 15)]  # 420 rows in batches of 64, twice
    assert trained.history == reports
    assert [report.epoch for report in reports] == [1, 2]
    assert set(reports[0].train) == set(reports[0].validation) == set(reports[0].weights) == {"first", "both", "third"}
    assert set(reports[0].conflict) == {"first|both", "first|third", "both|third"}
    assert all(-1 <= cosine <= 1 for cosine in reports[0].conflict.values())
    assert "auc" in reports[0].metrics["first"]
    assert reports[0].best
    assert all(0 < report.ms_per_step * report.steps / report.epoch < 1_000 * report.seconds for report in reports)
    saved: list[dict[str, Any]] = json.loads((tmp_path / "history.json").read_text())
    assert [EpochReport(**report) for report in saved] == reports
    assert json.loads((tmp_path / "config.json").read_text())["training"]["conflict_every"] == 3
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_it_stops_when_nothing_gets_better_and_returns_the_best_epochs_weights() -> None:
    reports: list[EpochReport] = []
    states: list[torch.Tensor] = []
    dataset = table(200)  # soon learnt by heart
    options = config(epochs=40, patience=2, learning_rate=0.05, network__dropout=0.0)
    trained = train(dataset, options, None, TrainingCallbacks(epoch=reports.append))
    best = max(report.epoch for report in reports if report.best)
    assert len(reports) == best + 2 < 40
    del states
    shorter = train(dataset, options.changed({"training.patience": 1}))
    assert len(shorter.history) <= len(reports)
    sums = [sum(loss / reports[0].validation[name] for name, loss in report.validation.items()) for report in reports]
    assert int(np.argmin(sums)) + 1 == best
    assert not trained.network.training


def test_a_task_without_a_label_in_many_batches_still_learns() -> None:
    dataset = table(1_500)
    rare = dataset.labels["c"].copy()
    rare[np.random.default_rng(0).random(len(rare)) < 0.85] = -1  # in every fourth batch of 8 none is left
    trained = train(replace(dataset, labels={**dataset.labels, "c": rare}), config(batch=8, balance="gradnorm"))
    assert all(np.isfinite(list(report.validation.values())).all() for report in trained.history)
    assert trained.history[-1].validation["third"] < np.log(3)


def test_losses_that_are_no_numbers_end_the_training_with_the_tasks_name() -> None:
    dataset = table()
    inputs = {**dataset.inputs, "dense": dataset.inputs["dense"] * 1.0}
    with pytest.raises(ContractError, match=r"task \w+.*: its loss is (nan|inf) in epoch 1.*lower training.learning_rate"):
        train(replace(dataset, inputs=inputs), config(learning_rate=10.0, largest_gradient=0.0, weight_decay=10.0, epochs=30))


def test_a_metric_that_is_never_a_number_ends_the_training_and_json_has_null(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evaluation = evaluate(train(table(), config(epochs=1)).network, table(), "validation")
    metrics = evaluation.metrics
    third = metrics["third"] | {"macro_f1": math.nan, "accuracy": math.nan}
    undefined = replace(evaluation, metrics=metrics | {"third": third})
    monkeypatch.setattr("training.fit.loop.evaluate", lambda *_, **__: undefined)
    with pytest.raises(ContractError, match=r"^third: \w+ on the validation range is no number in any of 2 epochs.*stop_on"):
        train(table(), config(stop_on="metric"), tmp_path)

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    history = json.loads((tmp_path / "history.json").read_text(), parse_constant=refused)
    assert history[0]["metrics"]["third"]["accuracy"] is None


def test_a_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"training.device = 'cuda': torch finds no GPU"):
        train(table(), config(device="cuda"))


def test_nan_among_dense_features_is_allowed() -> None:
    dataset = table()
    dense = dataset.inputs["dense"].copy()
    dense[::3, 1] = np.nan
    dense[:, 4] = np.nan
    trained = train(replace(dataset, inputs={**dataset.inputs, "dense": dense}), config())
    assert bool(torch.isfinite(weights(trained.network)).all())


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert 0 < rates[-1] < 0.001
