"""A recorded row gives back every number of every tensor, to the bit."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from model.contract import INPUTS
from stream_app.codec.feature_rows import decode_tensors, encode_feature_rows
from stream_app.events import FeatureRow

DRAW = np.random.default_rng(3)


def test_a_recorded_row_gives_back_every_tensor_to_the_bit() -> None:
    shapes = {spec.name: tuple(17 if size == -1 else size for size in spec.shape) for spec in INPUTS}
    words = {name: DRAW.integers(0, 1 << 32, (5, *shape), np.uint32) for name, shape in shapes.items()}  # NaNs among them
    inputs = {spec.name: words[spec.name].view(spec.dtype) for spec in INPUTS}
    rows = [msgspec.json.decode(text, type=FeatureRow) for text in encode_feature_rows(list("abcde"), inputs, "hash")]
    assert [(row.answer_id, row.features_version) for row in rows] == [(name, "hash") for name in "abcde"]
    for number, row in enumerate(rows):
        for name, value in decode_tensors(row).items():
            assert value.dtype == inputs[name].dtype
            np.testing.assert_array_equal(value.view("<u4"), words[name][number])


def test_no_rows_are_no_rows() -> None:
    inputs = {spec.name: np.zeros((0, *(3 if size == -1 else size for size in spec.shape)), spec.dtype) for spec in INPUTS}
    assert list(encode_feature_rows([], inputs, "hash")) == []


def test_bytes_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers, the tensors other than"):
        decode_tensors(FeatureRow(answer_id="a", features_version="", tensors=b"\x04\x00\x00\x00@\x00\x00\x80?"))
