"""Rows of a data set as tensors, its fingerprint, and the popularity of its items."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.dataset import UNKNOWN, Dataset

Batch = tuple[dict[str, Tensor], dict[str, Tensor]]


def batches(dataset: Dataset, rows: NDArray[np.int64], size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Yield (inputs by name, labels by name as int64) for `rows`, `size` at a time, on `device`."""
    for start in range(0, len(rows), size):
        yield batch_of(dataset, rows[start : start + size], device)


def batch_of(dataset: Dataset, rows: NDArray[np.int64], device: torch.device | str = "cpu") -> Batch:
    """Return (inputs by name, labels by name as int64) for `rows`, on `device`."""
    inputs = {name: torch.from_numpy(values[rows]).to(device) for name, values in dataset.inputs.items()}
    labels = {name: torch.from_numpy(values[rows].astype(np.int64)).to(device) for name, values in dataset.labels.items()}
    return inputs, labels


def fingerprint(dataset: Dataset) -> dict[str, str | int]:
    """Return what identifies a data set: number and shapes of rows, and a checksum of split and labels."""
    labels = zlib.crc32(dataset.split.tobytes())
    for values in dataset.labels.values():
        labels = zlib.crc32(np.ascontiguousarray(values).tobytes(), labels)
    shapes = {name: f"{values.dtype} {values.shape}" for name, values in dataset.inputs.items()}
    return {"rows": len(dataset), "labels": labels, "spec": str(dataset.spec), **shapes}


def popularity_log(dataset: Dataset, label: str, items: int) -> Tensor:
    """Return (items,) float32: log of each item's share of the training range's labels, add-one smoothed."""
    numbers = dataset.labels[label][dataset.rows("train")]
    counts = np.bincount(numbers[numbers != UNKNOWN], minlength=items) + 1.0
    return torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32))
