"""Run an ONNX model of any precision on a CPU, to verify it.

ONNX Runtime runs fp32 and int8 files as they are. On a CPU it has no bf16 products, and it drops casts of fp16 files; so such
files are rewritten to fp32 arithmetic in which every fp16 or bf16 tensor is rounded to its type, as tensor cores do (they add
products in fp32).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from trt_build.errors import RefusedError
from trt_build.export.graph import Graph, Rewriter

_LOW: Final = frozenset({TensorProto.BFLOAT16, TensorProto.FLOAT16})


def session_of(model: onnx.ModelProto | bytes, threads: int = 1) -> ort.InferenceSession:
    """Return a session on the CPU.

    Raises:
        RefusedError: ONNX Runtime rejects the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    proto = onnx.load_model_from_string(model) if isinstance(model, bytes) else model
    kinds = {weight.data_type for weight in proto.graph.initializer}
    if kinds & (_LOW | {TensorProto.INT8}):
        # Optimisations fuse casts and Q/DQ pairs away: the arithmetic would not be the file's.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if kinds & _LOW:
        proto = rounded_fp32(proto)
    try:
        return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as err:  # its exceptions have no common base but this
        raise RefusedError(
            f"onnxruntime {ort.__version__} does not take the model: {err}. Fix: use the version that it was "
            "built with, or build it again"
        ) from err


def rounded_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of fp32 arithmetic in which each fp16 or bf16 tensor is rounded to its type."""
    graph, out = Graph(model), Rewriter(model)
    for name, weight in graph.weights.items():
        if weight.data_type in _LOW:
            out.weight(f"{name}_wide", numpy_helper.to_array(weight).astype(np.float32))
    low = {name for name in graph.maker if graph.type_of(name) in _LOW}
    for node in graph.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            if f"{name}_wide" in out.added:
                copy.input[place] = f"{name}_wide"
        rounded = [name for name in node.output if name in low]
        for name in rounded:
            copy.output[list(node.output).index(name)] = f"{name}_exact"
        if copy.op_type == "Cast" and rounded:
            copy.ClearField("attribute")
            copy.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        out.nodes.append(copy)
        for name in rounded:
            out.node("Cast", [f"{name}_exact"], f"{name}_rounded", to=graph.type_of(name))
            out.node("Cast", [f"{name}_rounded"], name, to=TensorProto.FLOAT)
    return out.finish()
