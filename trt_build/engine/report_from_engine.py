"""The content of a plan: layers after fusion, their types, inputs and outputs; from TensorRT's engine inspector."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from model.tensorrt.protocols import PlanEngine, TensorRt

# Release 10 names the tensors "Bindings", release 11 "I/O Tensors".
_IO_KEYS: Final = ("I/O Tensors", "Bindings")


def report_from_engine(trt: TensorRt, engine: PlanEngine) -> dict[str, Any]:
    """Return `{"layers": [...], "bindings": [...], "tensors": [...], "profiles": [...]}`, the same keys for every release."""
    inspection = json.loads(engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON))
    bindings: list[Any] = next((inspection[key] for key in _IO_KEYS if key in inspection), [])
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    types = {trt.DataType.FLOAT: "float32", trt.DataType.INT32: "int32"}
    tensors = [
        {
            "name": name,
            "input": name in inputs,
            "type": types.get(engine.get_tensor_dtype(name), "another"),
            "shape": list(engine.get_tensor_shape(name)),
        }
        for name in names
    ]
    profiles = [
        {name: [list(shape) for shape in engine.get_tensor_profile_shape(name, number)] for name in inputs}
        for number in range(engine.num_optimization_profiles)
    ]
    return {"layers": inspection.get("Layers", []), "bindings": bindings, "tensors": tensors, "profiles": profiles}


def summary(report: dict[str, Any]) -> str:
    """Return the number of layers of each kind in one sentence."""
    layers = report["layers"]
    kinds = Counter(layer.get("LayerType", "layer") if isinstance(layer, dict) else "layer" for layer in layers)
    return f"{len(layers)} layers: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
