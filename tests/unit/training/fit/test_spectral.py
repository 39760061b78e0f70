"""Initial item embeddings: items that occur together are near each other."""

from __future__ import annotations

import numpy as np
import pytest

from model.encoders.sequence import HistoryEncoder
from model.inputs import SequenceInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.tasks import Task
from stream_app.errors import ConfigError
from training.data.dataset import Dataset
from training.evaluation.neighbours import fit_neighbours
from training.fit.spectral import initialise_items, spectral_vectors

ITEMS, LENGTH = 41, 5
NEXT = Task(name="next_item", kind="retrieval", label="next_item")


def _clusters(rows: int = 3_000) -> tuple[np.ndarray, np.ndarray]:
    """Histories that stay among items of the same remainder by 4; item 40 never comes."""
    draw = np.random.default_rng(3)
    cluster, ranks = draw.integers(0, 4, rows), draw.integers(0, 10, (rows, 3))
    sequences = np.zeros((rows, LENGTH), np.int32)
    sequences[:, -2:] = cluster[:, None] + 4 * ranks[:, :2] + 1
    return sequences, (cluster + 4 * ranks[:, 2]).astype(np.int32)


def _dataset(*tasks: Task) -> Dataset:
    sequences, targets = _clusters()
    zeros = np.zeros(len(targets), np.int64)
    return Dataset(
        inputs={"sequence": sequences},
        labels={"next_item": targets, "liked": (targets % 2).astype(np.int8)},
        split=zeros.astype(np.int8),
        segment=zeros.astype(np.int8),
        time_ms=zeros,
        key=zeros,
        tasks=tasks,
        spec=SequenceInputs(items=ITEMS, length=LENGTH),
    )


def test_items_of_one_cluster_are_near_each_other_and_far_from_the_rest() -> None:
    vectors = spectral_vectors(fit_neighbours(*_clusters(), ITEMS), 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    near = vectors[:40] @ vectors[:40].T
    same = np.arange(40)[:, None] % 4 == np.arange(40) % 4
    assert near[same].mean() > 0.7
    assert np.abs(near[~same]).max() < 0.3


def test_inner_products_are_those_of_the_full_decomposition() -> None:
    neighbours = fit_neighbours(*_clusters(), ITEMS)
    dense = np.zeros((ITEMS, ITEMS))
    dense[np.repeat(np.arange(ITEMS), np.diff(neighbours.starts)), neighbours.items] = neighbours.weights
    both = (dense + dense.T) / 2
    both += np.eye(ITEMS) * both.max(axis=1).mean() / 2
    left, strength, _ = np.linalg.svd(both)
    expected = left[:, :4] * np.sqrt(strength[:4])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True).clip(1e-9)
    vectors = spectral_vectors(neighbours, 4)
    np.testing.assert_allclose((vectors @ vectors.T)[:40, :40], (expected @ expected.T)[:40, :40], atol=1e-2)


def test_fewer_items_than_coordinates_and_no_pair_at_all_still_give_vectors() -> None:
    none = fit_neighbours(np.zeros((0, LENGTH), np.int32), np.zeros(0, np.int32), 3)
    vectors = spectral_vectors(none, 8)
    assert vectors.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_a_network_starts_from_them_and_keeps_its_padding_at_zero() -> None:
    dataset = _dataset(NEXT)
    network = MultiTaskNetwork(PRESETS["sequence"], dataset.spec, dataset.tasks)
    initialise_items(network, dataset, dataset.tasks)
    table = network.item_table().detach().numpy()[:, :-1]  # the last coordinate is a bias
    near = table[:40] @ table[:40].T
    same = np.arange(40)[:, None] % 4 == np.arange(40) % 4
    assert near[same].mean() > near[~same].mean() + 0.5
    encoder = network.parts[0].encoder
    assert isinstance(encoder, HistoryEncoder)
    assert not encoder.items.weight[0].any()


def test_a_network_without_a_next_item_is_refused_with_the_key_to_change() -> None:
    liked = Task(name="liked", kind="binary", label="liked")
    dataset = _dataset(liked)
    network = MultiTaskNetwork(PRESETS["sequence"], dataset.spec, dataset.tasks)
    with pytest.raises(ConfigError, match=r"training\.spectral_start.*liked"):
        initialise_items(network, dataset, dataset.tasks)
