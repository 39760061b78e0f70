"""Floors: what they claim is what a scan over the same rows gives, and a model that knows the truth beats them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.inputs import EventInputs, TextInputs
from model.tasks import Task
from stream_app.evaluation.metrics import average_precision, log_loss
from stream_app.events import KINDS, SCENES
from tests.unit.training.data.rows_of_tables import FRAUD, KIND, NEXT, sequences, split_of, table
from training.data.dataset import UNKNOWN, Dataset, ItemTable
from training.evaluation.baselines import WAYS, baselines_of, fit_baselines


def test_floors_of_a_binary_task_find_the_feature_that_matters() -> None:
    dataset = table(3_000)
    found = fit_baselines(dataset)["fraud"]
    train, test = dataset.known("fraud", "train"), dataset.known("fraud", "test")
    labels = dataset.labels["fraud"]
    assert found["prevalence_average_precision"] == pytest.approx(labels[test].mean())
    share = (labels[train].sum() + 1) / (len(train) + 2)
    assert found["prevalence_log_loss"] == pytest.approx(log_loss(np.full(len(test), share), labels[test]))
    by_hand = average_precision(dataset.inputs["dense"][test, 0], labels[test])
    assert found["single_feature_average_precision"] == pytest.approx(by_hand, abs=1e-6)
    assert found["logistic_average_precision"] == pytest.approx(by_hand, abs=0.02)  # there is nothing else to find
    assert found["logistic_log_loss"] < found["prevalence_log_loss"]


def test_floors_of_classes_read_categories_too() -> None:
    dataset = table(3_000)
    found = fit_baselines(dataset)["kind"]
    test = dataset.rows("test")
    commonest = np.bincount(dataset.labels["kind"][dataset.rows("train")]).argmax()
    assert found["majority_accuracy"] == pytest.approx((dataset.labels["kind"][test] == commonest).mean())
    blind = replace(dataset, inputs={"dense": dataset.inputs["dense"]})
    assert found["logistic_accuracy"] > fit_baselines(blind)["kind"]["logistic_accuracy"] + 0.05 > found["majority_accuracy"]


def test_every_floor_has_a_way_that_is_known_and_is_read_for_its_own_metric_only() -> None:
    for found in (*fit_baselines(table()).values(), *fit_baselines(sequences()).values(), *fit_baselines(events()).values()):
        metrics = {name.removeprefix(f"{way}_") for name in found for way in WAYS if name.startswith(f"{way}_")}
        assert sum(len(baselines_of(found, metric)) for metric in metrics) == len(found)
    named = {"svm_accuracy": 0.9, "svm_in_scope_accuracy": 0.8, "scene_table_accuracy": 0.7, "table_accuracy": None}
    assert baselines_of(named, "accuracy") == {"svm": 0.9, "scene_table": 0.7}
    assert baselines_of(named, "in_scope_accuracy") == {"svm": 0.8}
    assert baselines_of({"neighbours_mrr_at_10": 0.1}, "alone_mrr_at_10") == {"neighbours": 0.1}


def test_features_that_are_not_known_or_infinite_do_not_spoil_a_floor() -> None:
    dataset = table(1_500)
    dense = dataset.inputs["dense"].copy()
    dense[::7, 0], dense[::11, 1], dense[:, 2] = np.nan, np.inf, np.nan
    found = fit_baselines(replace(dataset, inputs={**dataset.inputs, "dense": dense}))
    assert all(np.isfinite(value) for of_task in found.values() for value in of_task.values())


def test_popularity_and_neighbours_are_floors_of_retrieval() -> None:
    dataset = sequences(4_000)
    found = fit_baselines(dataset)["next"]
    train, test = dataset.rows("train"), dataset.rows("test")
    wanted = dataset.labels["next_item"]
    best = np.argsort(-np.bincount(wanted[train], minlength=30), kind="stable")[:10]
    assert found["popularity_recall_at_10"] == pytest.approx(np.isin(wanted[test], best).mean())
    even = fit_baselines(sequences(2_000, even=True))["next"]
    assert even["neighbours_mrr_at_10"] > 1.4 * even["popularity_mrr_at_10"]  # next is most often the newest plus one


def test_a_task_without_a_known_label_has_no_floor() -> None:
    dataset = table()
    unknown = replace(dataset, labels={**dataset.labels, "fraud": np.full(len(dataset), UNKNOWN, np.int8)})
    found = fit_baselines(unknown)
    assert found["fraud"] == {}
    assert found["kind"]


def test_a_task_of_one_class_in_training_has_no_regression_but_the_rest() -> None:
    dataset = replace(table(), tasks=(FRAUD,))
    labels = dataset.labels["fraud"].copy()
    labels[dataset.split == 0] = 0
    found = fit_baselines(replace(dataset, labels={"fraud": labels}))["fraud"]
    assert "prevalence_log_loss" in found
    assert not [name for name in found if name.startswith("logistic")]


def test_texts_have_a_linear_machine_on_their_words() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, 900).astype(np.int8)
    words = np.where(rng.random((900, 8)) < 0.3, 10 + label[:, None], rng.integers(13, 60, (900, 8))).astype(np.int32)
    words[rng.random((900, 8)) < 0.2] = 0
    dataset = Dataset(
        inputs={"tokens": words, "grams": words, "gram_values": np.ones(words.shape, np.float32)},
        labels={"kind": label},
        split=split_of(900),
        segment=np.zeros(900, np.int8),
        time_ms=np.zeros(900, np.int64),
        key=np.arange(900, dtype=np.int64),
        tasks=(KIND,),
        spec=TextInputs(vocabulary=60, length=8, grams=8),
    )
    found = fit_baselines(dataset)["kind"]
    assert found["svm_accuracy"] > 0.85 > found["majority_accuracy"] + 0.3
    assert "svm_log_loss" not in found  # it claims no probabilities
    oos = replace(KIND, classes=("a", "b", "oos"))  # the third class is none of them
    refused = fit_baselines(replace(dataset, tasks=(oos,)))["kind"]
    assert refused["svm_in_scope_accuracy"] > 0.8
    assert refused["svm_out_of_scope_recall"] > 0.8
    first = Task(name="first", kind="binary", label="first")
    two = replace(dataset, tasks=(first,), labels={"first": (label == 1).astype(np.int8)})
    assert fit_baselines(two)["first"]["svm_accuracy"] > 0.9 > fit_baselines(two)["first"]["prevalence_accuracy"] + 0.15


def events() -> Dataset:
    rng = np.random.default_rng(2)
    kind, scene = rng.integers(0, len(KINDS), 2_000), rng.integers(0, len(SCENES), 2_000)
    item = np.stack([rng.integers(1, 50, 2_000), rng.integers(1, 4, 2_000)], axis=1).astype(np.int32)
    action = np.where(rng.random(2_000) < 0.8, kind % 3, rng.integers(0, 3, 2_000)).astype(np.int8)
    categories = (np.arange(40) % 3 + 1).astype(np.int32)
    same = [rng.choice(np.flatnonzero(categories == c)) for c in item[:, 1]]
    return Dataset(
        inputs={
            "dense": rng.normal(size=(2_000, 2)).astype(np.float32),
            "context": np.stack([kind, scene, kind * 0, kind * 0], axis=1).astype(np.int32),
            "item": item,
        },
        labels={"next_action": action, "click": (scene % 2).astype(np.int8), "next_item": np.array(same, np.int32)},
        split=split_of(2_000),
        segment=np.zeros(2_000, np.int8),
        time_ms=np.zeros(2_000, np.int64),
        key=np.arange(2_000, dtype=np.int64),
        tasks=(
            Task(name="next_action", kind="classes", label="next_action", classes=("a", "b", "c")),
            Task(name="click", kind="binary", label="click"),
            NEXT,
        ),
        spec=EventInputs(features=2),
        table=ItemTable([str(n) for n in range(40)], np.arange(1, 41, dtype=np.int32), categories),
    )


def test_events_have_tables_by_kind_and_scene_and_popularity_by_category() -> None:
    found = fit_baselines(events())
    assert found["next_action"]["table_accuracy"] > 0.75 > found["next_action"]["majority_accuracy"] + 0.2
    assert found["click"]["scene_table_log_loss"] < 0.2 < found["click"]["prevalence_log_loss"]
    assert found["next"]["category_popularity_recall_at_20"] == 1.0 > found["next"]["popularity_recall_at_20"]
