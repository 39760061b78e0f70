"""Every kind of input in every precision: ONNX answers as torch does, within what that precision may be off."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from model.checkpoint import Checkpoint
from model.network import MultiTaskNetwork
from model.plan import Precision
from model.presets import PRESETS
from tests.unit.model.small import SMALL, small_network, small_rows
from trt_build.artifact_source import ArtifactSource, parse_onnx
from trt_build.errors import BuildError, RefusedError
from trt_build.export.graph import Graph
from trt_build.export.half_from_onnx import half_from_onnx
from trt_build.export.int8_from_onnx import int8_from_onnx, quantized_inputs
from trt_build.export.onnx_files import source_of_checkpoint
from trt_build.export.precision import onnx_in_precision
from trt_build.export.ranges_from_rows import Method, ranges_from_rows
from trt_build.export.sessions import rounded_fp32
from trt_build.parity.parity_report import verify_onnx

DELICATE = {"LayerNormalization", "Softmax", "Sigmoid", "Log", "Div", "ReduceSum", "ReduceMean", "IsNaN"}


@pytest.fixture(scope="module")
def exported() -> dict[str, tuple[Checkpoint, ArtifactSource]]:
    """Each kind's small network, exported once."""
    found = {}
    for kind in SMALL:
        checkpoint = Checkpoint(small_network(kind), kind)
        found[kind] = (checkpoint, source_of_checkpoint(checkpoint, "a test"))
    return found


@pytest.mark.parametrize("kind", SMALL)
def test_each_precision_answers_as_torch_does_within_its_tolerance(
    kind: str, exported: dict[str, tuple[Checkpoint, ArtifactSource]]
) -> None:
    checkpoint, source = exported[kind]
    rows = {name: value.numpy() for name, value in small_rows(kind, 300).items()}
    model = parse_onnx(source.content, kind)
    has_int8 = bool(quantized_inputs(model))
    ranges = ranges_from_rows(model, rows) if has_int8 else None
    asked: list[Precision] = ["fp32", "fp16", "bf16", *(["int8"] if has_int8 else [])]  # type: ignore[list-item]
    verdicts = list(verify_onnx(source, rows, asked, checkpoint, ranges))
    assert [verdict.precision for verdict in verdicts] == asked
    for verdict in verdicts:
        assert verdict.fine, [d.text() for d in verdict.differences if not d.fine]
        ranked = [d.overlap for d in verdict.differences if source.manifest.kinds[d.task] == "retrieval"]
        assert all(overlap is not None for overlap in ranked)
    by_precision = [max(d.largest for d in verdict.differences) for verdict in verdicts]
    assert by_precision[0] < by_precision[1] < by_precision[2]  # fp32 < fp16 < bf16: each really is what it says
    if not has_int8:
        with pytest.raises(BuildError, match="take fp16"):
            ranges_from_rows(model, rows)


@pytest.mark.parametrize("preset", ["table", "text", "sequence"])
def test_the_large_presets_of_the_other_kinds_export_as_well(preset: str) -> None:
    """`demo`, the one for events, is in test_replayed_rows."""
    torch.manual_seed(2)
    _, inputs, tasks = SMALL[preset]
    checkpoint = Checkpoint(MultiTaskNetwork(PRESETS[preset], inputs, tasks).eval(), preset)
    rows = {name: value.numpy() for name, value in small_rows(preset, 200).items()}
    for verdict in verify_onnx(source_of_checkpoint(checkpoint, "a test"), rows, ["fp32", "fp16"], checkpoint):
        assert verdict.fine, [d.text() for d in verdict.differences if not d.fine]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("precision", "low"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_products_are_low_and_what_is_delicate_and_what_goes_in_and_out_is_not(
    kind: str, precision: Precision, low: int, exported: dict[str, tuple[Checkpoint, ArtifactSource]]
) -> None:
    source = exported[kind][1]
    model = onnx_in_precision(parse_onnx(source.content, kind), precision)
    graph = Graph(model)
    of_products = [graph.type_of(node.output[0]) for node in graph.nodes if node.op_type in {"Gemm", "MatMul"}]
    assert low in of_products
    for node in graph.nodes:
        if node.op_type in DELICATE:
            assert low not in {graph.type_of(name) for name in (*node.input, *node.output)}, node.name
    ends = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert ends <= {TensorProto.FLOAT, TensorProto.INT32}
    assert len(model.SerializeToString()) < len(source.content)
    assert onnx_in_precision(parse_onnx(source.content, kind), precision).SerializeToString() == model.SerializeToString()


def test_rounding_fp32_arithmetic_is_what_onnxruntime_does_in_fp16(
    exported: dict[str, tuple[Checkpoint, ArtifactSource]],
) -> None:
    """The oracle for bf16, which ONNX Runtime cannot compute on a CPU: the same rewriting of an fp16 file."""
    model = half_from_onnx(parse_onnx(exported["table"][1].content, ""), "fp16")
    rows = {name: value.numpy() for name, value in small_rows("table", 200).items()}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    direct, rounded = (
        ort.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, rows)
        for one in (model, rounded_fp32(model))
    )
    for a, b in zip(direct, rounded, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_weight_that_fp16_cannot_hold_is_named_with_its_layer_and_bf16_takes_it() -> None:
    weight = numpy_helper.from_array(np.full((16, 16), 1e6, np.float32), "big.weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "big.weight"], ["y"], name="node_big")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(BuildError, match=r"weight big\.weight of layer node_big \(MatMul\) reaches 1e\+06.* Fix: build in bf16"):
        half_from_onnx(model, "fp16")
    half_from_onnx(model, "bf16")


@pytest.mark.parametrize(("method", "percentile"), [("max", 100.0), ("percentile", 99.0), ("percentile", 50.0)])
def test_ranges_are_those_of_all_values_whatever_the_batches(
    method: Method, percentile: float, exported: dict[str, tuple[Checkpoint, ArtifactSource]]
) -> None:
    model = parse_onnx(exported["event"][1].content, "")
    rows = {name: value.numpy() for name, value in small_rows("event", 1_200).items()}
    ranges = ranges_from_rows(model, rows, method, percentile)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = quantized_inputs(model)
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(names, session.run(names, rows), strict=True):
        wanted = np.percentile(np.abs(value), percentile)
        step = float(np.abs(value).max()) / 2_000  # of the histogram
        assert abs(ranges.largest[name] - float(wanted)) <= (1e-6 if method == "max" else step)
    assert ranges.rows == 1_200


def test_int8_weights_are_symmetric_with_a_scale_for_each_channel(exported: dict[str, tuple[Checkpoint, ArtifactSource]]) -> None:
    source = exported["event"][1]
    model = parse_onnx(source.content, "")
    made = int8_from_onnx(model, dict.fromkeys(quantized_inputs(model), 4.0))
    before, after = Graph(model), Graph(made)
    weights = [name for name in after.weights if after.type_of(name) == TensorProto.INT8 and len(after.shape(name)) == 2]
    assert weights
    for name in weights:
        original, steps = before.value(name.removesuffix("_quantized")), after.value(name)
        scale = after.value(re.sub("_quantized$", "_scale", name))
        assert np.abs(steps).max() == 127
        assert steps.min() >= -127
        axis = 0 if len(scale) == original.shape[0] else 1
        scales = np.expand_dims(scale, 1 - axis)
        assert (np.abs(steps * scales - original) <= scales * 0.51).all()
    with pytest.raises(RefusedError, match="calibrate again"):
        int8_from_onnx(model, {})


def test_ranges_of_another_model_are_refused(exported: dict[str, tuple[Checkpoint, ArtifactSource]], tmp_path: Path) -> None:
    rows = {name: value.numpy() for name, value in small_rows("event", 100).items()}
    ranges = ranges_from_rows(parse_onnx(exported["event"][1].content, ""), rows)
    with pytest.raises(RefusedError, match="calibrate again with this one"):
        exported["table"][1].in_precision("int8", ranges)
    with pytest.raises(BuildError, match="int8 needs ranges"):
        exported["event"][1].in_precision("int8")
