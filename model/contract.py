"""The contract between worker and model: tasks, tensors, dtypes, and the manifest. Free of torch.

An artefact is a folder: `model.onnx`, `manifest.json`, `samples.npz`, and `items.npz` (`item_ids` (N,) str,
`item_vectors` (N, D) float32).
The worker refuses an artefact whose `catalogue_hash`, tensors or checksums differ from its own.
"""

from __future__ import annotations

from typing import Final

import msgspec

MANIFEST_FILE: Final = "manifest.json"
MANIFEST_FORMAT: Final = 1  # raised when a worker that knows the previous format would misread the file
MODEL_FILE: Final = "model.onnx"
ITEMS_FILE: Final = "items.npz"
SAMPLES_FILE: Final = "samples.npz"  # `in_<input>` and `out_<output>`, R recorded rows of each tensor

SEQUENCE_LENGTH: Final = 32  # last-K interactions of a user, oldest first, without the event itself
ITEM_BUCKETS: Final = 16_384  # item ids are hashed into 1..16383; 0 = none
CATEGORY_BUCKETS: Final = 2_048  # categories likewise
SEQUENCE_CODES: Final = 4  # item bucket, category bucket, kind + 1 (0 = padding), price bucket
PRICE_BUCKETS: Final = 16  # 0 = no price, else the bits of the price in cents less 4, within 1..15: below 0.32, ... from 2,621.44
QUERIES: Final = 4  # last queries of a user, oldest first, without the event's own
QUERY_CODES: Final = 4  # a query's codes: the whole of it, and its first three words
QUERY_BUCKETS: Final = 8_192  # queries and words are hashed into 1..8191; 0 = none
USER_VECTOR_DIM: Final = 32
# Codes of stream_app.events; hour of day UTC of the event.
CONTEXT_COLUMNS: Final = ("kind", "scene", "platform", "hour")


class TensorSpec(msgspec.Struct, frozen=True):
    """One tensor: name, dtype, and shape without the batch dimension. -1 = number of dense features."""

    name: str
    dtype: str
    shape: tuple[int, ...]


INPUTS: Final = (
    TensorSpec("dense", "float32", (-1,)),  # features in catalogue order, raw (scaling is inside the graph)
    TensorSpec("context", "int32", (len(CONTEXT_COLUMNS),)),
    TensorSpec("item", "int32", (2,)),  # item bucket, category bucket of the event itself (0, 0 for a search)
    TensorSpec("sequence_ids", "int32", (SEQUENCE_LENGTH, SEQUENCE_CODES)),
    TensorSpec("sequence_gaps", "float32", (SEQUENCE_LENGTH,)),  # seconds between it and the event, >= 0; 0 for padding
    TensorSpec("query", "int32", (QUERY_CODES,)),  # of the event itself; zeros unless it is a search
    TensorSpec("query_ids", "int32", (QUERIES, QUERY_CODES)),  # right-aligned, zeros for padding
    TensorSpec("query_gaps", "float32", (QUERIES,)),  # seconds between it and the event, >= 0; 0 for padding
)

OUTPUTS: Final = (
    TensorSpec("fraud", "float32", ()),  # probability
    TensorSpec("intent", "float32", (4,)),  # probabilities over events.INTENTS
    TensorSpec("next_action", "float32", (7,)),  # probabilities over events.NEXT_ACTIONS
    TensorSpec("click", "float32", ()),  # probability that the event's item is clicked (or more) next in this session
    TensorSpec("user_vector", "float32", (USER_VECTOR_DIM,)),  # its inner product with item_vectors ranks items
)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of an artefact (`manifest.json`)."""

    format: int = MANIFEST_FORMAT  # a worker refuses a newer one than it knows
    name: str
    version: str  # "<name>-<first 12 of model.onnx's sha256>"
    catalogue_hash: str  # features.CATALOGUE's hash it was trained with
    feature_names: list[str]
    feature_medians: list[float]  # of each feature in the training set; reasons of an alert show them
    feature_scales: list[float]  # interquartile ranges, at least a small positive number
    sha256: dict[str, str]  # file name -> hex digest
    fraud_threshold: float
    preset: str
    command: str  # the command that rebuilds it
    commit: str
    trained_on: dict[str, str]
    metrics: dict[str, dict[str, float]]  # task -> metric -> value on held-out data, floors beside
    versions: dict[str, str]
    samples: str = ""  # file with recorded inputs and outputs for the self-test
    weights_sha256: str = ""  # of the checkpoint's weights, see trt_build.manifest; "" = not recorded
