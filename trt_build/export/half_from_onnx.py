"""An fp32 ONNX model in, the same with fp16 or bf16 products out: its inputs and outputs stay fp32.

Low precision: products with constant or computed factors (Gemm, MatMul), embedding tables, and operators between them that
move, add or activate. fp32: everything from the raw inputs to the first product (sums of money and seconds do not fit into fp16),
products of few terms, LayerNormalization, Softmax, Sigmoid, sums over positions, divisions, logarithms. The rule reads the graph
and no names, so it holds for any network.

The low set is the greatest fixed point: all candidate nodes begin in it; a node leaves if an input comes from outside (other
than weights and 0/1 masks), or if no node of the set reads its output; until no node leaves. Products never leave.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from trt_build.errors import BuildError
from trt_build.export.graph import Graph, Rewriter

_PRODUCTS: Final = frozenset({"Gemm", "MatMul"})
_LEAST_INNER: Final = 8  # terms that a tensor core adds in one step; fewer gain nothing and lose precision
_FLOW: Final = frozenset(
    {
        *("Add", "Mul", "Relu", "Gelu", "Concat", "Identity"),
        *("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Expand", "Gather", "Split", "Flatten"),
    }
)
_TYPES: Final[dict[str, tuple[int, Any]]] = {
    "fp16": (TensorProto.FLOAT16, np.float16),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
}


def half_from_onnx(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Return `model` with products in `precision`, "fp16" or "bf16".

    Raises:
        BuildError: A weight does not fit into the type; the message names it.
    """
    return _Conversion(model, precision).run()


def _low_nodes(graph: Graph) -> set[int]:
    """Return the indices of the nodes that compute in the low type."""
    nodes = graph.nodes
    place = {name: number for number, node in enumerate(nodes) for name in node.output}
    products = {n for n, node in enumerate(nodes) if node.op_type in _PRODUCTS and graph.inner_dimension(node) >= _LEAST_INNER}
    low = products | {n for n, node in enumerate(nodes) if node.op_type in _FLOW and graph.is_float(node.output[0])}
    while True:
        leaving = set()
        for number in low - products:
            node = nodes[number]
            floats = [name for name in node.input if name and graph.is_float(name)]
            fed = [place[name] in low if name in place else name in graph.weights for name in floats if not _is_mask(graph, name)]
            read = [place[out] for name in node.output for reader in graph.readers[name] for out in reader.output]
            # A moved weight and an embedding table have weights as their only inputs.
            if not fed or not all(fed) or not any(reader in low for reader in read):
                leaving.add(number)
        if not leaving:
            return low
        low -= leaving


def _is_mask(graph: Graph, tensor: str) -> bool:
    """Whether it is cast from booleans, so that any type holds it."""
    maker = graph.maker.get(tensor)
    while maker is not None and maker.op_type in {"Unsqueeze", "Slice", "Reshape", "Gather", "Squeeze"}:
        maker = graph.maker.get(maker.input[0])
    return maker is not None and maker.op_type == "Cast" and graph.type_of(maker.input[0]) == TensorProto.BOOL


class _Conversion:
    def __init__(self, model: onnx.ModelProto, suffix: str) -> None:
        self.graph, self.out, self.suffix = Graph(model), Rewriter(model), suffix
        self.low = _low_nodes(self.graph)
        self.kind, self.dtype = _TYPES[suffix]
        self.made_low: set[str] = set()  # tensors whose own name now has the low type
        self.casts: dict[tuple[str, int], str] = {}

    def run(self) -> onnx.ModelProto:
        for number, node in enumerate(self.graph.nodes):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            is_low = number in self.low
            for place, name in enumerate(node.input):
                if name and self.graph.is_float(name):
                    copy.input[place] = self._lowered(name) if is_low else self._raised(name)
            model_outputs = [name for name in node.output if is_low and name in self.graph.outputs]
            for name in model_outputs:  # an output of the model keeps its name and type
                copy.output[list(node.output).index(name)] = f"{name}_{self.suffix}"
            self.out.nodes.append(copy)
            for name in model_outputs:
                self.out.node("Cast", [f"{name}_{self.suffix}"], name, to=TensorProto.FLOAT)
            if is_low:
                self.made_low |= set(node.output) - set(model_outputs)
        return self.out.finish()

    def _lowered(self, name: str) -> str:
        if name in self.made_low:
            return name
        if name in self.graph.weights:
            return self._weight(name)
        return self._cast(name, self.kind, f"{name}_{self.suffix}")

    def _raised(self, name: str) -> str:
        return self._cast(name, TensorProto.FLOAT, f"{name}_fp32") if name in self.made_low else name

    def _cast(self, name: str, kind: int, target: str) -> str:
        if (name, kind) not in self.casts:
            self.casts[name, kind] = self.out.node("Cast", [name], target, to=kind)
        return self.casts[name, kind]

    def _weight(self, name: str) -> str:
        value = self.graph.value(name)
        with np.errstate(over="ignore"):
            lowered = value.astype(self.dtype)
        if not np.isfinite(lowered.astype(np.float32)).all():
            largest = float(np.abs(value).max())
            reader = self.graph.readers[name][0]
            raise BuildError(
                f"weight {name} of layer {reader.name} ({reader.op_type}) reaches {largest:.3g}, beyond what "
                f"{self.suffix} holds. "
                "Fix: build in bf16 or fp32, or train with weight decay"
            )
        return self.out.weight(f"{name}_{self.suffix}", lowered)
