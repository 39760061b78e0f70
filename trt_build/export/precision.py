"""The ONNX file of a model in each precision.

| precision | in the ONNX file | beside it |
| --- | --- | --- |
| fp32 | as exported | TF32 forbidden |
| tf32 | as exported | products may be rounded to TF32 (10 bits): a flag of the build, noted in the manifest |
| fp16, bf16 | products and tables in that type; inputs, outputs and delicate operators in fp32 (`half_from_onnx`) | |
| int8 | products by Q/DQ pairs (`int8_from_onnx`) | ranges from recorded rows (`ranges_from_rows`) |
"""

from __future__ import annotations

import onnx

from model.plan import Precision
from trt_build.errors import BuildError, RefusedError
from trt_build.export.half_from_onnx import half_from_onnx
from trt_build.export.int8_from_onnx import int8_from_onnx
from trt_build.export.ranges_from_rows import Ranges
from trt_build.manifest import sha256_of


def onnx_in_precision(model: onnx.ModelProto, precision: Precision, ranges: Ranges | None = None) -> onnx.ModelProto:
    """Return the fp32 `model` in `precision`; int8 needs `ranges`.

    Raises:
        BuildError: int8 without ranges, or a weight that does not fit.
        RefusedError: The ranges are another model's.
    """
    if precision in {"fp16", "bf16"}:
        return half_from_onnx(model, precision)
    if precision != "int8":
        return model
    if ranges is None:
        raise BuildError("int8 needs ranges of the inputs of products; make them: python -m trt_build calibrate --help")
    digest = sha256_of(model.SerializeToString())
    if ranges.onnx_sha256 != digest:
        raise RefusedError(
            f"the ranges are of the model {ranges.onnx_sha256[:12]}, this is {digest[:12]}. Fix: calibrate again with this one"
        )
    return int8_from_onnx(model, ranges.largest)
