"""Rows for the engines' benchmark: a simulated shop's events through the feature engine, as a replay makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.feature_logs import shop_log
from stream_app.inference.engines.port import Tensors
from training.data.sources.events import EventFeaturizer

_SEED = 7
_SPREAD = 0.5  # of all items in each coordinate: how far a made-up item lies from the one it was made of


def replayed_rows(events: int, rows: int) -> dict[str, NDArray[Any]]:
    """Return the model's inputs, (R, ...) each with R <= `rows`, for the last of a shop's `events`, which have a past."""
    shop = list(shop_log(events).events())
    selected = np.zeros(len(shop), np.bool_)
    selected[-rows:] = True
    return EventFeaturizer().fold(shop, selected)[0]


def batch_of(rows: Tensors, size: int, number: int) -> dict[str, NDArray[Any]]:
    """Return the batch of that number, `size` rows; after the last row comes the first one again."""
    count = len(next(iter(rows.values())))
    chosen = (number * size + np.arange(size)) % count
    return {name: np.ascontiguousarray(tensor[chosen]) for name, tensor in rows.items()}


def larger_catalogue(vectors: NDArray[np.float32], items: int) -> NDArray[np.float32]:
    """Return vectors (items, D) as a shop of so many items would have: the real ones (N, D) in turn, each moved at random."""
    draw = np.random.default_rng(_SEED)
    moved = _SPREAD * vectors.std(axis=0) * draw.normal(size=(items, vectors.shape[1]))
    catalogue: NDArray[np.float32] = (np.resize(vectors, (items, vectors.shape[1])) + moved).astype(np.float32)
    return catalogue
