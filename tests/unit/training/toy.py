"""Small data sets with known solutions, for tests of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from model.inputs import SequenceInputs, TableInputs
from model.tasks import Task
from training.config import TrainingConfig, config_from_tree
from training.data.dataset import Dataset

# Also in a process of its own: with one thread the order of sums is always the same.
torch.set_num_threads(1)
# The first optimiser imports what sets an environment variable; here no test has begun.
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])

TASKS = (
    Task(name="first", kind="binary", label="a", positive_weight=2.0),
    Task(name="both", kind="binary", label="ab", given="first"),
    Task(name="third", kind="classes", label="c", classes=("x", "y", "z"), class_weights=(1.0, 2.0, 1.0)),
)


def splits(rows: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    """70 % train, 15 % validation, 15 % test."""
    split = np.zeros(rows, np.int8)
    split[int(0.7 * rows) :], split[int(0.85 * rows) :] = 1, 2
    return split


def table(rows: int = 600, seed: int = 0, scenes: int = 0) -> Dataset:
    """Rows of a table whose labels follow from it but for a little noise; a third of `c` is unknown."""
    draw = np.random.default_rng(seed)
    dense = draw.normal(size=(rows, 6)).astype(np.float32)
    categories = draw.integers(0, 5, (rows, 2)).astype(np.int32)
    first = dense[:, 0] + 0.5 * dense[:, 1] + 0.3 * draw.normal(size=rows) > 0
    second = dense[:, 0] - dense[:, 2] + 0.3 * draw.normal(size=rows) > 0
    third = np.where(draw.random(rows) < 1 / 3, -1, categories[:, 0] % 3)
    return Dataset(
        inputs={"dense": dense, "categories": categories, **({"scene": (categories[:, 1] % scenes)} if scenes else {})},
        labels={"a": first.astype(np.int8), "ab": (first & second).astype(np.int8), "c": third.astype(np.int8)},
        split=splits(rows),
        segment=np.zeros(rows, np.int8),
        time_ms=np.arange(rows, dtype=np.int64),
        key=np.arange(rows, dtype=np.int64),
        tasks=TASKS,
        spec=TableInputs(dense=6, categories=(5, 5), scenes=scenes),
        feature_names=tuple("abcdef"),
    )


def sequences(rows: int = 900, items: int = 12, seed: int = 0) -> Dataset:
    """Walks around a ring of items: the next one is always one further."""
    draw = np.random.default_rng(seed)
    lengths, ends = draw.integers(1, 7, rows), draw.integers(0, items, rows)
    back = np.arange(5, -1, -1)  # how long ago each position was
    walks = np.where(back < lengths[:, None], (ends[:, None] - back) % items + 1, 0).astype(np.int32)
    return Dataset(
        inputs={"sequence": walks},
        labels={"next": ((ends + 1) % items).astype(np.int32)},
        split=splits(rows),
        segment=np.zeros(rows, np.int8),
        time_ms=np.arange(rows, dtype=np.int64),
        key=np.arange(rows, dtype=np.int64),
        tasks=(Task(name="user_vector", kind="retrieval", label="next", metric="recall_at_1"),),
        spec=SequenceInputs(items=items, length=6),
    )


def config(preset: str = "table_tiny", **training: Any) -> TrainingConfig:
    """A configuration for a training of a second or two; keys with a dot go to other sections."""
    base = {"network": {"preset": preset}, "training": {"epochs": 2, "batch": 64, "learning_rate": 0.01, "device": "cpu"}}
    changes = {key.replace("__", ".") if "__" in key else f"training.{key}": value for key, value in training.items()}
    return config_from_tree(base, "toy").changed(changes)


def weights(network: torch.nn.Module) -> torch.Tensor:
    """All weights of a network, one after another."""
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])
