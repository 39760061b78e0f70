"""Losses of the tasks on a batch of rows, for training and validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.inputs import EventInputs, SequenceInputs
from model.network import MultiTaskNetwork
from model.tasks import Task
from training.config import TrainingOptions
from training.data.augment import augment
from training.data.batches import batch_of, batches, popularity_log
from training.data.dataset import UNKNOWN, Dataset
from training.fit.distributed import ProcessGroup
from training.fit.losses import ItemVectors, task_losses

_VALIDATION_BATCH: Final = 4_096
_VALIDATION_SCORES: Final = 1 << 25  # 128 MB of float32: rows of a validation batch times items


def item_count(dataset: Dataset) -> int:
    """Return the number of items that a retrieval task of the data set ranks; 0 without items."""
    if isinstance(dataset.spec, SequenceInputs):
        return dataset.spec.items
    return 0 if dataset.table is None else len(dataset.table.ids)


class BatchLosses:
    """The losses of a network's tasks on rows of a data set, on the device of `group`."""

    def __init__(
        self, network: MultiTaskNetwork, dataset: Dataset, tasks: tuple[Task, ...], options: TrainingOptions, group: ProcessGroup
    ) -> None:
        self.network, self.dataset, self.tasks, self._options, self._group = network, dataset, tasks, options, group
        self._retrieval = next((task for task in tasks if task.kind == "retrieval"), None)
        self._full = item_count(dataset) <= options.full_softmax_items
        if self._retrieval is not None:
            self._log_q = popularity_log(dataset, self._retrieval.label, item_count(dataset)).to(group.device)  # (M,)
        if self._retrieval is not None and dataset.table is not None:
            self._items = torch.from_numpy(dataset.table.items).to(group.device)  # (M,) buckets
            self._categories = torch.from_numpy(dataset.table.categories).to(group.device)

    def training(self, rows: NDArray[np.int64]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (losses by task, labels by name) of `rows`, augmented as the options say."""
        inputs, labels = batch_of(self.dataset, rows, self._group.device)
        soft_labels = {
            name: torch.from_numpy(values[rows]).to(self._group.device) for name, values in self.dataset.soft_labels.items()
        }
        return self._losses(augment(inputs, self._options), labels, soft_labels), labels

    @torch.no_grad()
    def validation(self) -> dict[str, float]:
        """Return each task's mean loss over validation rows with a known label; set evaluation mode."""
        self.network.eval()
        # In one seeded shuffle, so that every batch holds rows of every segment and sampled softmax means the same each time.
        rows = np.random.default_rng(0).permutation(self.dataset.rows("validation"))
        size = _VALIDATION_BATCH
        if self._retrieval is not None and self._full:
            size = max(1, min(size, _VALIDATION_SCORES // item_count(self.dataset)))
        sums = torch.zeros(len(self.tasks), 2, dtype=torch.float64)  # (T, 2) loss times known rows, known rows
        for number, (inputs, labels) in enumerate(batches(self.dataset, rows, size, self._group.device)):
            if number % self._group.size != self._group.rank:
                continue
            losses = self._losses(inputs, labels)
            for index, task in enumerate(self.tasks):
                known = int((labels[task.label] != UNKNOWN).sum())
                sums[index] += torch.tensor([losses[task.name].item() * known, known])
        sums = self._group.total(sums.to(self._group.device))
        return {task.name: float(sums[n, 0] / sums[n, 1].clamp(min=1)) for n, task in enumerate(self.tasks)}

    def _losses(
        self, inputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], soft_labels: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        gpu = self._group.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=gpu and self._options.amp):
            logits = self.network(inputs)
            items = self._item_vectors(labels)
        return task_losses(logits, labels, self.tasks, items, soft_labels, self._options.distil)

    def _item_vectors(self, labels: Mapping[str, Tensor]) -> ItemVectors | None:
        if self._retrieval is None:
            return None
        numbers = labels[self._retrieval.label].clamp(min=0)  # (B,)
        log_q = None if self._full else self._log_q[numbers]
        if isinstance(self.dataset.spec, EventInputs):
            items, categories = self._items, self._categories
            if not self._full:
                items, categories = items[numbers], categories[numbers]
            return ItemVectors(self.network.item_vectors(items, categories), log_q)
        table = self.network.item_table()  # (M, D)
        return ItemVectors(table if self._full else table[numbers], log_q)
