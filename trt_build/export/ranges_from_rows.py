"""Calibration: how large the numbers get that an int8 product reads, seen on recorded rows.

The fp32 model runs over the rows with those tensors as further outputs, and a histogram of absolute values is kept of each,
in bounded memory whatever the number of rows. A range is a percentile of it, or the largest of all: a percentile gives finer
steps to what is usual and cuts what is rare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from trt_build.errors import BuildError, RefusedError
from trt_build.export.int8_from_onnx import quantized_inputs
from trt_build.parity.sessions import session_of

__all__ = ["Method", "Ranges", "ranges_from_rows", "read_ranges"]

Method = Literal["percentile", "max"]

_FORMAT: Final = 1
_BATCH: Final = 512
_BINS: Final = 4_096
_LEAST_ROWS: Final = 64


class Ranges(msgspec.Struct, frozen=True, kw_only=True):
    """What a calibration found.

    Attributes:
        format: of this file.
        onnx_sha256: of the fp32 model's bytes.
        rows: how many were looked at.
        rows_sha256: of their bytes.
        method: how the range was chosen.
        percentile: for the method of that name, of absolute values.
        largest: by tensor, the absolute value that becomes 127.
    """

    format: int = _FORMAT
    onnx_sha256: str
    rows: int
    rows_sha256: str
    method: Method
    percentile: float
    largest: dict[str, float]


class _Histogram:
    """Absolute values in bins of equal width from 0 on; the width doubles when a larger value comes."""

    def __init__(self) -> None:
        self.counts = np.zeros(_BINS, np.int64)
        self.top = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[Any]) -> None:
        sizes = np.abs(values[np.isfinite(values)].astype(np.float64))
        if not sizes.size:
            return
        self.largest = max(self.largest, float(sizes.max()))
        self.top = self.top or max(self.largest, 1e-6)
        while self.largest > self.top:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)])
            self.top *= 2.0
        self.counts += np.histogram(sizes, bins=_BINS, range=(0.0, self.top))[0]

    def percentile(self, percent: float) -> float:
        below = np.cumsum(self.counts)
        place = int(np.searchsorted(below, below[-1] * percent / 100.0))
        return min(self.largest, (place + 1) * self.top / _BINS)


def ranges_from_rows(
    model: onnx.ModelProto, rows: Mapping[str, NDArray[Any]], method: Method = "percentile", percentile: float = 99.99
) -> Ranges:
    """Run the fp32 `model` over recorded `rows` and return the range of each tensor that int8 would quantize.

    Raises:
        BuildError: There are too few rows, or the model has no product that int8 is worth.
    """
    count = len(next(iter(rows.values())))
    if count < _LEAST_ROWS:
        raise BuildError(f"{count} rows to calibrate with, at least {_LEAST_ROWS} are needed; record more (see docs/engines.md)")
    content = model.SerializeToString()
    names = quantized_inputs(model)
    if not names:
        raise BuildError("the model has no product that is worth int8 (at least 16 x 16 with constant factors); take fp16")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    served = {value.name for value in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in served)
    session, found = session_of(watched), {name: _Histogram() for name in names}
    digest = hashlib.sha256()
    for at in range(0, count, _BATCH):
        batch = {name: np.ascontiguousarray(value[at : at + _BATCH]) for name, value in rows.items()}
        for value in batch.values():
            digest.update(value.data)
        for name, value in zip(names, session.run(names, batch), strict=True):
            found[name].add(value)
    largest = {name: h.largest if method == "max" else h.percentile(percentile) for name, h in found.items()}
    return Ranges(
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        rows=count,
        rows_sha256=digest.hexdigest(),
        method=method,
        percentile=percentile if method == "percentile" else 100.0,
        largest={name: max(value, 1e-6) for name, value in largest.items()},  # a tensor of zeros has a range, too
    )


def read_ranges(path: Path) -> Ranges:
    """Read what `calibrate` wrote.

    Raises:
        RefusedError: It is no such file, or newer than this program.
    """
    try:
        ranges = msgspec.json.decode(path.read_bytes(), type=Ranges)
    except (OSError, msgspec.MsgspecError) as err:
        raise RefusedError(f"{path} is no file of ranges ({err}); make one: python -m trt_build calibrate --help") from err
    if ranges.format > _FORMAT:
        raise RefusedError(
            f"{path} has format {ranges.format}, this program knows up to {_FORMAT}; use the release that wrote it"
        )
    return ranges
