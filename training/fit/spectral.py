"""Initial item embeddings: leading singular vectors of the matrix of co-occurring items.

A network that starts from random embeddings spends most of its training on learning which items occur together, and counting
finds that in a second. Inner products of the vectors approximate the weights of neighbours; training then changes the vectors.

Source: Levy and Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014; the randomised decomposition
is algorithm 5.1 after 4.4 of Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.encoders.sequence import HistoryEncoder
from model.network import MultiTaskNetwork
from model.tasks import Task
from stream_app.errors import ConfigError
from training.data.dataset import Dataset
from training.evaluation.neighbours import NeighbourOptions, Neighbours, fit_neighbours, training_sequences

# Half of each item's popularity is divided out on both sides: otherwise a few popular items would take most singular vectors.
_COUNTING: Final = NeighbourOptions(source_power=0.5, target_power=0.5)
_SELF: Final = 0.5  # share of the mean largest weight: similarity of an item to itself, which has no count
_SPARE: Final = 16  # oversampling, which makes the last vectors exact (Halko et al., section 4.2)
_ROUNDS: Final = 3  # of power iteration
_MIN_LENGTH: Final = 1e-5

Array = NDArray[Any]


def initialise_items(network: MultiTaskNetwork, dataset: Dataset, tasks: Sequence[Task], seed: int = 0) -> None:
    """Set the item embeddings of a network over `SequenceInputs` from the data set's training rows.

    Raises:
        ConfigError: The network reads no sequences of items, or has no retrieval task.
    """
    encoders = [part.encoder for part in network.parts if isinstance(part.encoder, HistoryEncoder)]
    label = next((task.label for task in tasks if task.kind == "retrieval"), None)
    if not encoders or label is None:
        raise ConfigError(
            f"training.spectral_start is for sequences of items with a task of kind retrieval; the tasks are "
            f"{', '.join(task.name for task in tasks)} over {type(dataset.spec).__name__}. Set it to false"
        )
    neighbours = fit_neighbours(*training_sequences(dataset, label), _COUNTING)
    for encoder in encoders:
        table = encoder.items.weight
        vectors = torch.from_numpy(spectral_vectors(neighbours, table.shape[1], seed))
        with torch.no_grad():
            table[1:] = vectors.to(table)


def spectral_vectors(neighbours: Neighbours, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Return (M, width) float32 vectors of length 1, random for items without neighbours; `width` is at most M."""
    from scipy import sparse

    count, draw = len(neighbours.popularity), np.random.default_rng(seed)
    one_way = sparse.csr_matrix((neighbours.weights, neighbours.items, neighbours.starts), shape=(count, count))
    both = ((one_way + one_way.T) * 0.5).astype(np.float32)
    self_weight = float(both.max(axis=1).toarray().mean()) if both.nnz else 1.0
    matrix = (both + sparse.identity(count, dtype=np.float32, format="csr") * (_SELF * self_weight)).tocsr()  # (M, M) symmetric
    vectors: Array = np.zeros((count, width), np.float32)
    left, strength = _singular_vectors(matrix, min(width, count), draw)
    vectors[:, : left.shape[1]] = left * np.sqrt(strength)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    random = draw.standard_normal(vectors.shape)
    vectors = np.where(length > _MIN_LENGTH, vectors, random)
    scaled: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _singular_vectors(matrix: Any, size: int, draw: np.random.Generator) -> tuple[Array, Array]:  # noqa: ANN401  # scipy has no types
    """Return the leading singular vectors (M, size) and values (size,) of a symmetric sparse matrix (M, M)."""
    count = matrix.shape[0]
    basis: Array = matrix @ draw.standard_normal((count, min(count, size + _SPARE))).astype(np.float32)
    for _ in range(2 * _ROUNDS):
        basis = matrix @ np.linalg.qr(basis)[0]
    basis = np.linalg.qr(basis)[0]
    left, strength, _ = np.linalg.svd((matrix @ basis).T, full_matrices=False)
    return (basis @ left)[:, :size], strength[:size]
