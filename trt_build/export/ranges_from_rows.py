"""Calibration: the range of every input of an int8 product, on recorded rows.

The fp32 model runs over the rows in batches with those tensors as further outputs; ONNX Runtime's collector keeps a histogram
of the absolute values of each. A range is a percentile of it, or the largest value: a percentile gives finer steps to usual
values and clips rare ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector

from trt_build.errors import BuildError, RefusedError
from trt_build.export.int8_from_onnx import quantized_inputs
from trt_build.export.sessions import session_of

Method = Literal["percentile", "max"]

_FORMAT: Final = 1
_BATCH: Final = 512
_BINS: Final = 4_096
_LEAST_ROWS: Final = 64


class Ranges(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a calibration, and the content of its file.

    Attributes:
        format: of the file.
        onnx_sha256: of the fp32 model's bytes.
        rows: number of rows.
        rows_sha256: of their bytes.
        method: the rule for a range.
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


def ranges_from_rows(
    model: onnx.ModelProto, rows: Mapping[str, NDArray[Any]], method: Method = "percentile", percentile: float = 99.99
) -> Ranges:
    """Run the fp32 `model` over recorded `rows` and return the range of each input of an int8 product.

    Raises:
        BuildError: There are too few rows, or no product is large enough for int8.
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
    outputs = {value.name for value in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    session, digest, largest = session_of(watched), hashlib.sha256(), dict.fromkeys(names, 1e-6)  # no range is 0
    histograms = HistogramCollector("percentile", True, _BINS, _BINS, percentile, "same")
    with redirect_stdout(None):  # the collector prints its steps
        for at in range(0, count, _BATCH):
            batch = {name: np.ascontiguousarray(value[at : at + _BATCH]) for name, value in rows.items()}
            for value in batch.values():
                digest.update(value.data)
            values = {name: np.abs(v[np.isfinite(v)]) for name, v in zip(names, session.run(names, batch), strict=True)}
            largest = {name: max(largest[name], float(v.max(initial=0.0))) for name, v in values.items()}
            # The collector drops what is below the first batch's least value: a 0 in front keeps all.
            histograms.collect({name: np.append(np.float32(0.0), v) for name, v in values.items()})
        if method == "percentile":
            clipped = histograms.compute_collection_result()  # tensor -> (low, high, ...)
            largest = {name: max(1e-6, float(clipped[name][1])) for name in names}
    return Ranges(
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        rows=count,
        rows_sha256=digest.hexdigest(),
        method=method,
        percentile=percentile if method == "percentile" else 100.0,
        largest=largest,
    )


def read_ranges(path: Path) -> Ranges:
    """Read a file of `calibrate`.

    Raises:
        RefusedError: The file is damaged, or newer than this program.
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
