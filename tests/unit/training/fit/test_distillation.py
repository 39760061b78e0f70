"""Distillation: the teacher answers rows it has not seen, and the network learns its label and that answer, mixed."""

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
from training.fit.distillation import with_teacher
from training.fit.gbdt import LIGHTGBM, TreeColumns, boosted
from training.fit.loop import train
from training.fit.losses import task_losses

OPTIONS = config(distil=0.7, teacher_folds=3, batch=256).training


def answers(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """What the teacher says of the training rows with a known fraud label, and the labels."""
    known = dataset.known("fraud", "train")
    return with_teacher(dataset, (FRAUD,), OPTIONS).taught["fraud"][known], dataset.labels["fraud"][known]


def test_training_rows_with_a_label_are_answered_and_no_other() -> None:
    dataset = table()
    taught = with_teacher(dataset, dataset.tasks, OPTIONS).taught
    for task, shape in ((FRAUD, (len(dataset),)), (KIND, (len(dataset), 3))):
        assert taught[task.name].shape == shape
        there = np.isfinite(taught[task.name].reshape(len(dataset), -1)).all(axis=1)
        assert np.flatnonzero(there).tolist() == dataset.known(task.label, "train").tolist()
    assert taught["kind"][dataset.known("kind", "train")].sum(axis=1) == pytest.approx(1.0)


def test_the_teacher_knows_more_than_chance_and_the_same_seed_says_the_same() -> None:
    says, labels = answers(table())
    assert roc_auc_score(labels, says) > 0.75
    assert np.array_equal(says, answers(table())[0])


def test_no_row_is_answered_by_trees_that_saw_its_label_or_that_of_its_key() -> None:
    draw, dataset = np.random.default_rng(4), table()
    # Labels follow from nothing, but rows of a key have the same features and the same label.
    dense = draw.normal(size=(300, 3)).astype(np.float32)[dataset.key]
    fraud = draw.integers(0, 2, 300).astype(np.int8)[dataset.key]
    dataset = replace(dataset, inputs={"dense": dense}, labels={**dataset.labels, "fraud": fraud})
    says, labels = answers(dataset)
    by_heart = boosted(FRAUD, dataset, TreeColumns(dataset), dataset.known("fraud", "train"), parameters=LIGHTGBM, rounds=60)
    assert roc_auc_score(labels, by_heart.answers(dataset.known("fraud", "train"))) > 0.9
    assert abs(roc_auc_score(labels, says) - 0.5) < 0.3  # 50 keys are few; by heart it would be above .9
    keys = dataset.key[dataset.known("fraud", "train")]
    for key in np.unique(keys):  # one answer for each key: all of its rows were in one fold
        assert len(set(says[keys == key].tolist())) == 1


def test_what_is_learnt_is_the_label_and_a_share_of_the_answer() -> None:
    draw = torch.Generator().manual_seed(3)
    logits = {"fraud": torch.randn(5, generator=draw), "kind": torch.randn(5, 3, generator=draw)}
    labels = {"fraud": torch.tensor([0, 1, UNKNOWN, 1, 0]), "kind": torch.tensor([2, 1, 0, UNKNOWN, 1])}
    says = {"fraud": torch.rand(5, generator=draw), "kind": torch.softmax(torch.randn(5, 3, generator=draw), dim=1)}
    says["fraud"][0] = says["kind"][0] = torch.nan  # there the label alone counts
    tasks = (replace(FRAUD, positive_weight=3.0), replace(KIND, class_weights=(1.0, 2.0, 0.5)))
    found = task_losses(logits, labels, tasks, None, says, 0.25)

    target = torch.tensor([0.0, 0.75 + 0.25 * says["fraud"][1], 0.0, 0.75 + 0.25 * says["fraud"][3], 0.25 * says["fraud"][4]])
    of_fraud = -(3.0 * target * F.logsigmoid(logits["fraud"]) + (1 - target) * F.logsigmoid(-logits["fraud"]))
    assert found["fraud"].item() == pytest.approx(of_fraud[[0, 1, 3, 4]].mean().item(), rel=1e-5)
    mixed = 0.75 * F.one_hot(labels["kind"].clamp(min=0), 3) + 0.25 * says["kind"]
    mixed[0] = torch.tensor([0.0, 0.0, 1.0])
    of_kind = -(mixed * torch.tensor([1.0, 2.0, 0.5]) * torch.log_softmax(logits["kind"], dim=1)).sum(dim=1)
    assert found["kind"].item() == pytest.approx(of_kind[[0, 1, 2, 4]].mean().item(), rel=1e-5)
    of_labels = task_losses(logits, labels, tasks)
    assert task_losses(logits, labels, tasks, None, says, 0.0) == of_labels


def test_a_training_asks_its_teacher_itself_or_takes_the_answers_that_are_there() -> None:
    dataset, how = table(600), config(distil=0.7, teacher_folds=3, epochs=1)
    before = with_teacher(dataset, dataset.tasks, how.training)
    assert with_teacher(before, dataset.tasks, how.training) is before
    own, given, none = (weights(train(*pair).network) for pair in ((dataset, how), (before, how), (dataset, config(epochs=1))))
    assert torch.equal(own, given)
    assert not torch.equal(own, none)


def test_rows_that_trees_cannot_read_are_refused_and_retrieval_has_no_teacher() -> None:
    dataset = sequences()
    assert with_teacher(dataset, dataset.tasks, OPTIONS) is dataset
    with pytest.raises(ContractError, match=r"these rows have sequence only.*training\.distil"):
        with_teacher(replace(dataset, labels={**dataset.labels, "fraud": dataset.key % 2}), (FRAUD,), OPTIONS)
