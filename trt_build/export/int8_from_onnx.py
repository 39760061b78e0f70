"""An fp32 ONNX model in, the same with int8 products out: Q/DQ pairs, symmetric, for TensorRT and ONNX Runtime.

`onnxruntime.quantization` writes them: int8 weights with a scale for each output channel, activations with one scale for the
tensor, from a calibration. Only products of at least 16 x 16 with constant factors: smaller ones gain nothing, and the last
product before a probability is small. Biases and the outputs of products stay fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from trt_build.errors import RefusedError
from trt_build.export.graph import Graph, attribute

_LEAST: Final = 16  # rows and columns: what an int8 tensor core multiplies in one step
_PRODUCTS: Final = ("Gemm", "MatMul")


def quantized_inputs(model: onnx.ModelProto) -> list[str]:
    """Return the inputs of int8 products, in the order of the graph."""
    return list(dict.fromkeys(node.input[0] for node in _int8_products(model)))


def int8_from_onnx(model: onnx.ModelProto, largest: Mapping[str, float]) -> onnx.ModelProto:
    """Return the fp32 `model` with int8 products; `largest`: by `quantized_inputs`, the absolute value that becomes 127.

    Raises:
        RefusedError: There is no range for one of them: the ranges are another model's.
    """
    missing = [name for name in quantized_inputs(model) if name not in largest]
    if missing:
        raise RefusedError(
            f"there are no ranges for {', '.join(missing[:3])} and {max(0, len(missing) - 3)} more: they are another model's. "
            "Fix: calibrate again with this one"
        )
    ranges = {name: (np.float32(-value), np.float32(value)) for name, value in largest.items()}
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=[node.name for node in _int8_products(model)],
        nodes_to_exclude=[],
        op_types_to_quantize=list(_PRODUCTS),
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": _PRODUCTS},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def _int8_products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    graph = Graph(model)
    products = [node for node in graph.nodes if node.op_type in _PRODUCTS and node.input[1] in graph.weights]
    constant = [node for node in products if node.input[0] not in graph.weights and not attribute(node, "transA", 0)]
    shapes = [graph.shape(node.input[1]) for node in constant]
    return [node for node, shape in zip(constant, shapes, strict=True) if len(shape) == 2 and min(shape) >= _LEAST]
