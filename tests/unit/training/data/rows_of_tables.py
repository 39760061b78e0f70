"""Small data sets of tables and sequences, and a network with fixed outputs, for tests of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.inputs import SequenceInputs, TableInputs
from model.network import MultiTaskNetwork
from model.tasks import Task
from training.data.dataset import UNKNOWN, Dataset
from training.evaluation.item_scores import ItemScores
from training.evaluation.metrics import ranked_places

FRAUD = Task(name="fraud", kind="binary", label="fraud", metric="average_precision")
KIND = Task(name="kind", kind="classes", label="kind", classes=("a", "b", "c"))
NEXT = Task(name="next", kind="retrieval", label="next_item")
DAY_MS = 86_400_000


def table(rows: int = 1_200, seed: int = 1, segments: int = 1, signal: float = 2.0) -> Dataset:
    """Rows of three numbers and one category; fraud hangs on the first number, kind on the second and on the category.

    Every tenth label of fraud is unknown. Splits are 60, 20 and 20 % in order.
    """
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, 3)).astype(np.float32)
    codes = rng.integers(0, 4, (rows, 1)).astype(np.int32)
    fraud = (rng.random(rows) < 1.0 / (1.0 + np.exp(-(signal * dense[:, 0] - 1.0)))).astype(np.int8)
    fraud[::10] = UNKNOWN
    kind = np.clip(np.round(dense[:, 1] + codes[:, 0] / 2.0 + rng.normal(size=rows) * 0.2), 0, 2).astype(np.int8)
    return Dataset(
        inputs={"dense": dense, "categories": codes},
        labels={"fraud": fraud, "kind": kind},
        split=split_of(rows),
        segment=(np.arange(rows) % segments).astype(np.int8),
        time_ms=np.arange(rows, dtype=np.int64) * DAY_MS // 10,
        key=rng.integers(0, 50, rows),
        tasks=(FRAUD, KIND),
        spec=TableInputs(dense=3, categories=(4,)),
        feature_names=("one", "two", "three"),
        segments=tuple(f"shop {n}" for n in range(segments)),
    )


def sequences(rows: int = 600, items: int = 30, seed: int = 1, *, even: bool = False) -> Dataset:
    """Sequences of four items, of which the next is most often the newest plus one; low numbers are common unless `even`."""
    rng = np.random.default_rng(seed)
    past = rng.integers(0, items, (rows, 4)) if even else np.minimum(rng.geometric(0.15, (rows, 4)) - 1, items - 1)
    follows = rng.random(rows) < 0.7
    next_items = np.where(follows, (past[:, -1] + 1) % items, rng.integers(0, items, rows))
    return Dataset(
        inputs={"sequence": (past + 1).astype(np.int32)},
        labels={"next_item": next_items.astype(np.int32)},
        split=split_of(rows),
        segment=np.zeros(rows, np.int8),
        time_ms=np.zeros(rows, np.int64),
        key=np.arange(rows, dtype=np.int64),
        tasks=(NEXT,),
        spec=SequenceInputs(items=items, length=4),
    )


def split_of(rows: int) -> NDArray[np.int8]:
    """60, 20 and 20 % in order."""
    split = np.zeros(rows, np.int8)
    split[rows * 6 // 10 :], split[rows * 8 // 10 :] = 1, 2
    return split


class Told(nn.Module):
    """Answers logits that are read from the inputs: column 0 of `dense` for fraud; a table for kind; vectors for items."""

    def __init__(self, tasks: tuple[Task, ...], logits: Mapping[str, NDArray[Any]], items: NDArray[Any] | None = None) -> None:
        super().__init__()
        self.tasks, self.anchor = tasks, nn.Parameter(torch.zeros(1))
        self.outputs = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in logits.items()}
        self.items = None if items is None else torch.from_numpy(np.asarray(items, np.float32))

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer for the rows whose numbers stand in the input `row`."""
        return {name: value[inputs["row"]] for name, value in self.outputs.items()}

    def item_table(self) -> Tensor:
        """Return the items."""
        assert self.items is not None
        return self.items

    def item_vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """Return the items' rows, for events."""
        assert len(item) == len(category)
        return self.item_table()


def told(dataset: Dataset, logits: Mapping[str, NDArray[Any]], items: NDArray[Any] | None = None) -> MultiTaskNetwork:
    """Return a network for `dataset` that answers `logits` (N, ...) by task; the data set gets an input `row` for it."""
    dataset.inputs["row"] = np.arange(len(dataset))
    return cast(MultiTaskNetwork, Told(dataset.tasks, logits, items))


def neighbour_places(near: ItemScores, sequences: NDArray[Any], targets: NDArray[Any], *, exclude_seen: bool) -> NDArray[Any]:
    seen = sequences.astype(np.int64) - 1 if exclude_seen else None
    return ranked_places(lambda part: near.scores(sequences[part]), len(near.popularity), targets, seen)
