"""Encodes the model's inputs of one event for the topic `features` (features.record).

All tensors of model.contract.INPUTS in that order, row-major and little-endian, in one LZ4 block: most of the numbers are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import lz4.block
import msgspec
import numpy as np
import numpy.typing as npt

from model.contract import INPUTS
from stream_app.events import FeatureRow

_encode: Final = msgspec.json.Encoder().encode


def encode_feature_rows(
    answer_ids: Sequence[str], inputs: Mapping[str, npt.NDArray[Any]], features_version: str
) -> Iterator[bytes]:
    """Encode B rows.

    Args:
        answer_ids: The events' answer ids.
        inputs: The tensors, each (B, ...).
        features_version: Hash of the catalogue.
    """
    if not answer_ids:
        return
    flat = [np.ascontiguousarray(inputs[spec.name]).reshape(len(answer_ids), -1).view("<u4") for spec in INPUTS]
    rows = np.concatenate(flat, axis=1)
    for answer_id, row in zip(answer_ids, rows, strict=True):
        packed = lz4.block.compress(row.tobytes())
        yield _encode(FeatureRow(answer_id=answer_id, features_version=features_version, tensors=packed))


def decode_tensors(row: FeatureRow) -> dict[str, npt.NDArray[Any]]:
    """Decode the tensors of one row by name, each without the batch axis.

    Raises:
        ValueError: The bytes are not tensors of this contract.
    """
    words = np.frombuffer(lz4.block.decompress(row.tensors), "<u4")
    fixed = sum(math.prod(spec.shape) for spec in INPUTS if -1 not in spec.shape)
    if len(words) < fixed:
        raise ValueError(f"{len(words)} numbers, the tensors other than `dense` alone have {fixed}")
    tensors: dict[str, npt.NDArray[Any]] = {}
    at = 0
    for spec in INPUTS:
        shape = tuple(len(words) - fixed if size == -1 else size for size in spec.shape)
        end = at + math.prod(shape)
        tensors[spec.name] = words[at:end].view(np.dtype(spec.dtype).newbyteorder("<")).reshape(shape)
        at = end
    return tensors
