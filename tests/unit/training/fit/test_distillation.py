"""Distillation: out-of-fold predictions of trees, mixed with the label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F  # noqa: N812  # PyTorch's own convention

from stream_app.errors import ContractError
from tests.unit.training.data.rows_of_tables import FRAUD, KIND, sequences, table
from tests.unit.training.toy import config, weights
from training.data.dataset import UNKNOWN, Dataset
from training.fit.distillation import with_soft_labels
from training.fit.gbdt import LIGHTGBM, TreeColumns, grow_trees
from training.fit.loop import train
from training.fit.losses import task_losses

OPTIONS = config(distil=0.7, teacher_folds=3, batch=256).training


def soft_and_hard(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Soft labels of the training rows with a known fraud label, and the labels."""
    known = dataset.known("fraud", "train")
    return with_soft_labels(dataset, (FRAUD,), OPTIONS).soft_labels["fraud"][known], dataset.labels["fraud"][known]


def test_training_rows_with_a_label_get_soft_labels_and_no_other() -> None:
    dataset = table()
    soft_labels = with_soft_labels(dataset, dataset.tasks, OPTIONS).soft_labels
    for task, shape in ((FRAUD, (len(dataset),)), (KIND, (len(dataset), 3))):
        assert soft_labels[task.name].shape == shape
        filled = np.isfinite(soft_labels[task.name].reshape(len(dataset), -1)).all(axis=1)
        assert np.flatnonzero(filled).tolist() == dataset.known(task.label, "train").tolist()
    assert soft_labels["kind"][dataset.known("kind", "train")].sum(axis=1) == pytest.approx(1.0)


def test_soft_labels_are_better_than_chance_and_repeatable() -> None:
    soft, labels = soft_and_hard(table())
    assert roc_auc_score(labels, soft) > 0.75
    assert np.array_equal(soft, soft_and_hard(table())[0])


def test_no_row_is_predicted_by_trees_that_saw_its_label_or_its_key() -> None:
    draw, dataset = np.random.default_rng(4), table()
    # Labels follow from nothing, but rows of a key have the same features and the same label.
    dense = draw.normal(size=(300, 3)).astype(np.float32)[dataset.key]
    fraud = draw.integers(0, 2, 300).astype(np.int8)[dataset.key]
    dataset = replace(dataset, inputs={"dense": dense}, labels={**dataset.labels, "fraud": fraud})
    soft, labels = soft_and_hard(dataset)
    by_heart = grow_trees(FRAUD, dataset, TreeColumns(dataset), dataset.known("fraud", "train"), parameters=LIGHTGBM, rounds=60)
    assert roc_auc_score(labels, by_heart.predict(dataset.known("fraud", "train"))) > 0.9
    assert abs(roc_auc_score(labels, soft) - 0.5) < 0.3  # 50 keys are few; by heart it would be above .9
    keys = dataset.key[dataset.known("fraud", "train")]
    for key in np.unique(keys):  # one answer for each key: all of its rows were in one fold
        assert len(set(soft[keys == key].tolist())) == 1


def test_the_target_is_the_label_and_a_share_of_the_soft_label() -> None:
    draw = torch.Generator().manual_seed(3)
    logits = {"fraud": torch.randn(5, generator=draw), "kind": torch.randn(5, 3, generator=draw)}
    labels = {"fraud": torch.tensor([0, 1, UNKNOWN, 1, 0]), "kind": torch.tensor([2, 1, 0, UNKNOWN, 1])}
    soft = {"fraud": torch.rand(5, generator=draw), "kind": torch.softmax(torch.randn(5, 3, generator=draw), dim=1)}
    soft["fraud"][0] = soft["kind"][0] = torch.nan  # the label alone counts
    tasks = (replace(FRAUD, positive_weight=3.0), replace(KIND, class_weights=(1.0, 2.0, 0.5)))
    losses = task_losses(logits, labels, tasks, None, soft, 0.25)

    target = torch.tensor([0.0, 0.75 + 0.25 * soft["fraud"][1], 0.0, 0.75 + 0.25 * soft["fraud"][3], 0.25 * soft["fraud"][4]])
    of_fraud = -(3.0 * target * F.logsigmoid(logits["fraud"]) + (1 - target) * F.logsigmoid(-logits["fraud"]))
    assert losses["fraud"].item() == pytest.approx(of_fraud[[0, 1, 3, 4]].mean().item(), rel=1e-5)
    mixed = 0.75 * F.one_hot(labels["kind"].clamp(min=0), 3) + 0.25 * soft["kind"]
    mixed[0] = torch.tensor([0.0, 0.0, 1.0])
    of_kind = -(mixed * torch.tensor([1.0, 2.0, 0.5]) * torch.log_softmax(logits["kind"], dim=1)).sum(dim=1)
    assert losses["kind"].item() == pytest.approx(of_kind[[0, 1, 2, 4]].mean().item(), rel=1e-5)
    of_labels = task_losses(logits, labels, tasks)
    assert task_losses(logits, labels, tasks, None, soft, 0.0) == of_labels


def test_a_training_makes_soft_labels_or_reuses_them() -> None:
    dataset, how = table(600), config(distil=0.7, teacher_folds=3, epochs=1)
    before = with_soft_labels(dataset, dataset.tasks, how.training)
    assert with_soft_labels(before, dataset.tasks, how.training) is before
    own, reused, none = (weights(train(*pair).network) for pair in ((dataset, how), (before, how), (dataset, config(epochs=1))))
    assert torch.equal(own, reused)
    assert not torch.equal(own, none)


def test_rows_that_trees_cannot_read_are_refused_and_retrieval_has_no_soft_labels() -> None:
    dataset = sequences()
    assert with_soft_labels(dataset, dataset.tasks, OPTIONS) is dataset
    with pytest.raises(ContractError, match=r"these rows have sequence only.*training\.distil"):
        with_soft_labels(replace(dataset, labels={**dataset.labels, "fraud": dataset.key % 2}), (FRAUD,), OPTIONS)
