"""Judging: what is asked of whom, on which rows, and what comes of it; a network that says what it is told stands in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.inputs import EventInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.probabilities import probabilities
from model.tasks import Task
from stream_app.errors import ConfigError, ContractError
from stream_app.evaluation.metrics import average_precision, recall_at, threshold_for
from tests.unit.training.data.rows_of_tables import FRAUD, KIND, sequences, table, told
from training.data.dataset import UNKNOWN, Dataset, ItemTable
from training.evaluation.baselines import fit_baselines
from training.evaluation.calibration import Calibration
from training.evaluation.evaluate import choose_threshold, evaluate, item_vectors, not_beaten, predict
from training.evaluation.metrics import ranks
from training.evaluation.protocol import PROTOCOLS, EvaluationProtocol, seen_items


def logits_of(dataset: Dataset, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "fraud": dataset.inputs["dense"][:, 0] + rng.normal(size=len(dataset)),
        "kind": rng.normal(size=(len(dataset), 3)) + 2.0 * np.eye(3)[dataset.labels["kind"]],
    }


def test_a_row_with_an_unknown_label_counts_for_no_metric_of_that_task() -> None:
    dataset = table()
    logits = logits_of(dataset)
    found = evaluate(told(dataset, logits), dataset).metrics
    test = dataset.known("fraud", "test")
    assert found["fraud"]["rows"] == len(test) < len(dataset.rows("test")) == found["kind"]["rows"]
    assert found["fraud"]["average_precision"] == pytest.approx(
        average_precision(logits["fraud"][test], dataset.labels["fraud"][test])
    )
    right = logits["kind"].argmax(axis=1) == dataset.labels["kind"]
    assert found["kind"]["accuracy"] == pytest.approx(right[dataset.rows("test")].mean())


def test_answers_in_batches_are_those_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = table(200)
    network = MultiTaskNetwork(PRESETS["table_tiny"], dataset.spec, dataset.tasks)
    whole = predict(network, dataset, dataset.rows("train"))
    monkeypatch.setattr("training.evaluation.evaluate._BATCH", 7)
    parts = predict(network, dataset, dataset.rows("train"))
    for name, value in whole.items():
        np.testing.assert_allclose(value, parts[name], atol=1e-6)
    assert whole["kind"].sum(axis=1) == pytest.approx(np.ones(len(whole["kind"])), abs=1e-5)
    assert not network.training


def test_the_weight_of_positive_rows_is_taken_back() -> None:
    dataset = table()
    weighted = replace(dataset, tasks=(replace(FRAUD, positive_weight=5.0),))
    says = predict(told(weighted, {"fraud": np.zeros(len(dataset))}), weighted, dataset.rows("test"))["fraud"]
    assert says == pytest.approx(np.full(len(says), 1 / 6), abs=1e-6)


def test_what_is_claimed_is_calibrated_on_the_validation_range_and_the_order_stays() -> None:
    task = replace(FRAUD, calibration="temperature")
    dataset = replace(table(6_000, signal=1.0), tasks=(task,))
    logits = {"fraud": (dataset.inputs["dense"][:, 0] - 1.0) * 8.0}  # the truth, eight times too sure
    network = told(dataset, logits)
    plain, fitted = evaluate(network, dataset, calibrations={}), evaluate(network, dataset)
    assert fitted.calibrations["fraud"].temperature == pytest.approx(8.0, rel=0.2)
    assert fitted.metrics["fraud"]["log_loss"] < plain.metrics["fraud"]["log_loss"]
    assert fitted.metrics["fraud"]["calibration_error"] < 0.05 < plain.metrics["fraud"]["calibration_error"]
    assert fitted.metrics["fraud"]["auc"] == plain.metrics["fraud"]["auc"]


def test_a_product_is_calibrated_as_it_is_served() -> None:
    click = Task(name="click", kind="binary", label="click", calibration="temperature")
    sale = Task(name="sale", kind="binary", label="sale", given="click", calibration="temperature")
    rng = np.random.default_rng(9)
    own = rng.normal(size=(8_000, 2))
    happened = rng.random((8_000, 2)) < 1.0 / (1.0 + np.exp(-own))
    both = np.stack([happened[:, 0], happened.all(axis=1)]).astype(np.int8)
    labels = {"click": both[0], "sale": both[1]}
    dataset = replace(table(8_000), tasks=(click, sale), labels=labels)
    network = told(dataset, {"click": own[:, 0] * 4.0, "sale": own[:, 1] * 2.0})
    found = evaluate(network, dataset)
    temperatures = {name: each.temperature for name, each in found.calibrations.items()}
    assert temperatures == {"click": pytest.approx(4.0, rel=0.15), "sale": pytest.approx(2.0, rel=0.15)}
    inputs = {"row": torch.from_numpy(dataset.rows("test"))}
    served = probabilities(network(inputs), dataset.tasks, temperatures)
    np.testing.assert_allclose(found.scored["sale"].calibrated, served["sale"].numpy(), atol=1e-4)  # odds of float32 near 1
    plain = evaluate(network, dataset, calibrations={}).metrics
    assert found.metrics["sale"]["calibration_error"] < 0.04 < plain["sale"]["calibration_error"]


def test_each_segment_has_its_own_figures_and_every_one_counts_as_much() -> None:
    dataset = table(1_500, segments=3)
    found = evaluate(told(dataset, logits_of(dataset)), dataset)
    each = [found.segments[segment]["kind"]["accuracy"] for segment in dataset.segments]
    assert found.metrics["kind"]["segment_mean_accuracy"] == pytest.approx(np.mean(each))
    assert found.metrics["kind"]["segment_worst_accuracy"] == min(each)
    rows = dataset.rows("test")[dataset.segment[dataset.rows("test")] == 1]
    right = logits_of(dataset)["kind"][rows].argmax(axis=1) == dataset.labels["kind"][rows]
    assert found.segments["shop 1"]["kind"]["accuracy"] == pytest.approx(right.mean())
    alone = table()
    assert evaluate(told(alone, logits_of(alone)), alone).segments == {}


def test_retrieval_ranks_all_items_and_leaves_out_those_of_the_sequence_only_if_asked() -> None:
    dataset = sequences()
    rng = np.random.default_rng(5)
    users, items = rng.normal(size=(len(dataset), 4)), rng.normal(size=(30, 4))
    network = told(dataset, {"next": users}, items)
    assert item_vectors(network, dataset).shape == (30, 4)
    test = dataset.rows("test")
    wanted, seen = dataset.labels["next_item"][test], dataset.inputs["sequence"][test].astype(np.int64) - 1
    for protocol, left_out in (("sessions", None), ("leave_one_out", seen)):
        places = ranks(users[test], items, wanted, left_out)
        assert evaluate(network, dataset, protocol=protocol).metrics["next"]["recall_at_10"] == pytest.approx(
            recall_at(places, 10)
        )


def test_a_hybrid_adds_what_neighbours_say_and_tells_what_the_network_reaches_alone() -> None:
    dataset = sequences(1_000)
    rng = np.random.default_rng(6)
    network = told(dataset, {"next": rng.normal(size=(1_000, 4)) / 10.0}, rng.normal(size=(30, 4)))
    alone = evaluate(network, dataset, protocol="sessions").metrics["next"]
    both = evaluate(network, dataset, protocol=EvaluationProtocol(neighbour_weight=3.0)).metrics["next"]
    assert both["alone_mrr_at_10"] == alone["mrr_at_10"]
    assert both["mrr_at_10"] == pytest.approx(
        fit_baselines(dataset)["next"]["neighbours_mrr_at_10"], abs=0.02
    )  # it hardly has a say
    events = replace(dataset, spec=EventInputs(features=1), table=ItemTable(["a"], np.ones(1, np.int32), np.ones(1, np.int32)))
    with pytest.raises(ContractError, match=r"neighbour_weight 3\), and rows of EventInputs"):
        evaluate(network, events, protocol=EvaluationProtocol(neighbour_weight=3.0))


def test_rows_that_are_no_sequences_cannot_leave_out_what_was_seen() -> None:
    dataset = table()
    with pytest.raises(ContractError, match="rows of TableInputs do not name them"):
        seen_items(dataset, dataset.rows("test"), PROTOCOLS["leave_one_out"])


def test_cards_that_are_known_to_be_compromised_are_not_judged() -> None:
    dataset = replace(table(2_000), tasks=(FRAUD,), key=np.random.default_rng(4).integers(0, 1_500, 2_000))
    network = told(dataset, {"fraud": dataset.inputs["dense"][:, 0]})
    found = evaluate(network, dataset, protocol=EvaluationProtocol(card_budget=5, delay_days=7, known_days=60)).metrics
    days, labels = dataset.time_ms // 86_400_000, dataset.labels["fraud"]
    since = days[dataset.rows("test")].min() - 60
    judged = [
        row
        for row in dataset.known("fraud", "test")
        if not any((labels == 1) & (dataset.key == dataset.key[row]) & (days >= since) & (days <= days[row] - 8))
    ]
    assert 0 < found["fraud"]["rows"] == len(judged) < len(dataset.known("fraud", "test"))
    assert 0.0 < found["fraud"]["card_precision_at_5"] <= 1.0


@pytest.mark.parametrize("way", ["a label", "a class"])
def test_rows_outside_of_the_classes_are_refused_at_a_threshold_chosen_on_validation(way: str) -> None:
    dataset = table(2_000)
    outside = np.random.default_rng(1).random(2_000) < 0.2
    classes = KIND.classes + (("oos",) if way == "a class" else ())
    kind = np.where(outside, 3 if way == "a class" else UNKNOWN, dataset.labels["kind"]).astype(np.int8)
    labels = {"kind": kind} | ({"out_of_scope": outside.astype(np.int8)} if way == "a label" else {})
    dataset = replace(dataset, labels=labels, tasks=(replace(KIND, classes=classes),))
    logits = np.zeros((2_000, len(classes)))
    logits[np.arange(2_000), np.where(outside, 0, kind)] = np.where(outside, 1.0, 4.0)  # sure of what is inside
    found = evaluate(told(dataset, {"kind": logits}), dataset).metrics["kind"]
    assert found["in_scope_accuracy"] == found["out_of_scope_recall"] == found["out_of_scope_precision"] == 1.0
    assert found["in_scope_accuracy_if_never_refused"] == 1.0


def test_the_threshold_is_that_of_the_worst_segment() -> None:
    dataset = table(3_000, segments=3)
    scores = dataset.inputs["dense"][:, 0] - np.where(dataset.segment == 2, 0.0, 1.0)
    network = told(dataset, {"fraud": scores, "kind": np.zeros((3_000, 3))})
    found = choose_threshold(network, dataset, 0.8)
    rows = dataset.known("fraud", "validation")
    says = predict(network, dataset, rows)["fraud"]
    each = [
        threshold_for(says[dataset.segment[rows] == n], dataset.labels["fraud"][rows][dataset.segment[rows] == n], 0.8)
        for n in range(3)
    ]
    assert found == pytest.approx(math.ceil(max(each) * 1_000) / 1_000)
    warm = choose_threshold(network, dataset, 0.8, calibrations={"fraud": Calibration(temperature=2.0)})
    assert 0.5 < warm < found or found < warm < 0.5


def test_precision_and_recall_are_told_where_there_is_a_threshold() -> None:
    dataset = table()
    network = told(dataset, logits_of(dataset))
    found = evaluate(network, dataset, thresholds={"fraud": 0.5}).metrics["fraud"]
    assert found["threshold"] == 0.5
    assert 0.0 < found["precision_at_threshold"] <= 1.0
    assert "threshold" not in evaluate(network, dataset).metrics["fraud"]


def test_what_cannot_be_judged_says_what_to_do() -> None:
    dataset = table()
    network = told(dataset, logits_of(dataset))
    with pytest.raises(ConfigError, match="leave_one_out"):
        evaluate(network, dataset, protocol="guess")
    with pytest.raises(ContractError, match="the test split has 0 of"):
        evaluate(network, replace(dataset, split=np.minimum(dataset.split, 1)))
    unknown = replace(dataset, labels={**dataset.labels, "fraud": np.full(len(dataset), UNKNOWN, np.int8)})
    found = evaluate(network, unknown).metrics["fraud"]
    assert found["rows"] == 0.0
    assert math.isnan(found["average_precision"])
    with pytest.raises(ContractError, match="'fraud' is chosen on the validation range"):
        choose_threshold(network, unknown, 0.9)


def test_a_floor_that_is_not_beaten_is_named_for_any_task() -> None:
    metrics = {"kind": {"accuracy": 0.8, "log_loss": 0.5}, "fraud": {"average_precision": 0.6}}
    floors = {
        "kind": {"majority_accuracy": 0.5, "logistic_accuracy": 0.8, "majority_log_loss": 0.1},
        "fraud": {"logistic_average_precision": 0.7},
    }
    said = not_beaten(metrics, floors, (KIND, FRAUD))
    assert [sentence.split(" ")[0] for sentence in said] == ["fraud:", "kind:"]
    assert "logistic_accuracy 0.8000" in said[1]
    lower: Task = replace(KIND, metric="log_loss")
    assert not_beaten(metrics, floors, (lower,))[1:] == ["kind: log_loss 0.5000 is no better than majority_log_loss 0.1000"]


def test_what_a_shop_must_beat_is_asked_only_where_its_floors_are_and_the_own_metric_always() -> None:
    intent = replace(KIND, name="intent", metric="accuracy")
    text = {"intent": {"svm_accuracy": 0.91, "svm_in_scope_accuracy": 0.99, "majority_accuracy": 0.1}}
    assert not_beaten({"intent": {"accuracy": 0.9}}, text, (intent,)) == [
        "intent: accuracy 0.9000 is no better than svm_accuracy 0.9100"
    ]
    assert not_beaten({"intent": {"accuracy": 0.95}}, text, (intent,)) == []  # in_scope_accuracy is another metric
    shop = {"intent": {"table_accuracy": 0.8, "table_log_loss": 0.4, "logistic_accuracy": 0.85}}
    said = not_beaten({"intent": {"accuracy": 0.8, "log_loss": 0.5}}, shop, (intent,))
    assert [sentence.split("than ")[1] for sentence in said] == [
        "table_accuracy 0.8000",
        "table_log_loss 0.4000",
        "logistic_accuracy 0.8500",
    ]


def test_a_network_in_training_is_judged_without_its_noise() -> None:
    dataset = table(300)
    network = MultiTaskNetwork(PRESETS["table_tiny"], dataset.spec, dataset.tasks)
    network.train()
    torch.manual_seed(1)
    first = evaluate(network, dataset, "validation", calibrations={}).metrics
    torch.manual_seed(2)
    assert evaluate(network, dataset, "validation", calibrations={}).metrics == first
