"""Look-ups in an ONNX graph (producer, readers, type and shape of a tensor) and a rewriter."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trt_build.errors import BuildError

_FLOATS: Final = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


class Graph:
    """Look-ups over a model; the model itself is not changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.weights = {weight.name: weight for weight in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.readers[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._types: dict[str, int] = {value.name: value.type.tensor_type.elem_type for value in values}
        self._shapes: dict[str, tuple[int, ...]] = {value.name: _dimensions(value) for value in values}
        for name, weight in self.weights.items():
            self._types[name], self._shapes[name] = weight.data_type, tuple(weight.dims)

    def type_of(self, tensor: str) -> int:
        """Return an element type of `TensorProto`; UNDEFINED if inference did not find it."""
        return self._types.get(tensor, TensorProto.UNDEFINED)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Return its shape, -1 for an unknown dimension."""
        return self._shapes.get(tensor, ())

    def is_float(self, tensor: str) -> bool:
        """Whether it holds floating-point numbers."""
        return self.type_of(tensor) in _FLOATS

    def value(self, weight: str) -> NDArray[Any]:
        """Return a weight's numbers."""
        return numpy_helper.to_array(self.weights[weight])

    def inner_dimension(self, node: onnx.NodeProto) -> int:
        """Return the number of terms in a Gemm's or MatMul's sums; 0 if unknown."""
        shape = self.shape(node.input[1])
        if len(shape) < 2:
            return shape[0] if shape else 0
        return shape[-1 if attribute(node, "transB", 0) else -2]


class Rewriter:
    """Build a changed copy of a model node by node, with fresh names and each weight once."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[onnx.NodeProto] = []
        self.added: dict[str, onnx.TensorProto] = {}
        self._taken = {node.name for node in model.graph.node}

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a weight, unless its name was added before; return its name."""
        if name not in self.added:
            self.added[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; return its output."""
        name = f"added_{output}"
        while name in self._taken:  # the model may have been rewritten before
            name += "_"
        self._taken.add(name)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def finish(self) -> onnx.ModelProto:
        """Return the model without unused weights; ONNX checks types and shapes.

        Raises:
            BuildError: The result is no valid model.
        """
        graph = self.model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in node.input} | {value.name for value in graph.output}
        weights = [*graph.initializer, *self.added.values()]
        del graph.initializer[:]
        graph.initializer.extend(weight for weight in weights if weight.name in read)
        del graph.value_info[:]
        try:
            onnx.checker.check_model(self.model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
            raise BuildError(f"the rewritten model is not valid: {err}. Fix: build it in fp32, and report this") from err
        return self.model


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401 (an attribute may be of any type)
    """Return a node's attribute, or `default`, which is ONNX's."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def structure_sha256(model: onnx.ModelProto) -> str:
    """Return a hash of the model without its floating-point weights: models of one structure differ in their training alone."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.producer_version = ""
    for weight in bare.graph.initializer:
        if weight.data_type in _FLOATS:
            for values in ("raw_data", "float_data", "int32_data", "double_data"):
                weight.ClearField(values)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def contents(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the number of nodes by operator, and the bytes of weights by type."""
    nodes = Counter(node.op_type for node in model.graph.node)
    weights: Counter[str] = Counter()
    for weight in model.graph.initializer:
        array = numpy_helper.to_array(weight)
        weights[str(array.dtype)] += array.nbytes
    return {"nodes": dict(nodes.most_common()), "weight_bytes": dict(weights.most_common())}


def _dimensions(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dimensions)
