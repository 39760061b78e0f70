"""An fp32 ONNX model in, the same with int8 products out: Q/DQ pairs, symmetric, as TensorRT and ONNX Runtime take them.

Weights are int8 in the file, with a scale for each output channel; what a product reads is quantized with one scale for the
tensor, from a calibration. Only products of at least 16 x 16 with constant factors: smaller ones gain nothing, and the last
one before a probability is among them. All else stays fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from trt_build.errors import RefusedError
from trt_build.export.graph import Graph, Rewriter, attribute

__all__ = ["int8_from_onnx", "quantized_inputs"]

_LEAST: Final = 16  # rows and columns: what an int8 tensor core multiplies in one step
_STEPS: Final = 127.0  # -127..127: symmetric, -128 is left out


def quantized_inputs(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that int8 products read, in the order of the graph."""
    graph = Graph(model)
    return list(dict.fromkeys(node.input[0] for node in graph.nodes if _is_worth_it(graph, node)))


def int8_from_onnx(model: onnx.ModelProto, largest: Mapping[str, float]) -> onnx.ModelProto:
    """Return `model` with int8 products.

    Args:
        model: in fp32.
        largest: by tensor of `quantized_inputs`, the absolute value that becomes 127.

    Raises:
        RefusedError: There is no range for one of them: they were found for another model.
    """
    graph, out = Graph(model), Rewriter(model)
    missing = [name for name in quantized_inputs(model) if name not in largest]
    if missing:
        raise RefusedError(
            f"there are no ranges for {', '.join(missing[:3])} and {max(0, len(missing) - 3)} more: they were "
            "found for another model. "
            "Fix: calibrate again with this one"
        )
    out.weight("int8_zero", np.zeros((), np.int8))
    done: dict[str, str] = {}
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if _is_worth_it(graph, node):
            read = node.input[0]
            done[read] = done.get(read) or _activation(out, read, largest[read])
            copy.input[0] = done[read]
            copy.input[1] = _weight(graph, out, node)
        out.nodes.append(copy)
    return out.finished()


def _is_worth_it(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type not in {"Gemm", "MatMul"} or node.input[1] not in graph.weights or node.input[0] in graph.weights:
        return False
    shape = graph.shape(node.input[1])
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0:
        return False
    return len(shape) == 2 and min(shape) >= _LEAST


def _activation(out: Rewriter, name: str, largest: float) -> str:
    scale = out.weight(f"{name}_scale", np.array(largest / _STEPS, np.float32))
    quantized = out.node("QuantizeLinear", [name, scale, "int8_zero"], f"{name}_int8")
    return out.node("DequantizeLinear", [quantized, scale, "int8_zero"], f"{name}_dequantized")


def _weight(graph: Graph, out: Rewriter, node: onnx.NodeProto) -> str:
    name, axis = node.input[1], 0 if attribute(node, "transB", 0) else 1  # of the output channels
    target = f"{name}_dequantized"
    if f"{name}_int8" in out.added:
        return target
    value: NDArray[Any] = graph.value(name)
    scale = np.maximum(np.abs(value).max(axis=1 - axis), 1e-12) / _STEPS  # (channels,)
    steps = np.clip(np.rint(value / np.expand_dims(scale, 1 - axis)), -_STEPS, _STEPS).astype(np.int8)
    inputs = [
        out.weight(f"{name}_int8", steps),
        out.weight(f"{name}_scale", scale.astype(np.float32)),
        out.weight(f"{name}_zero", np.zeros(len(scale), np.int8)),
    ]
    return out.node("DequantizeLinear", inputs, target, axis=axis)
