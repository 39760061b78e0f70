"""Checkpoint in, ONNX model out: one file with a free batch dimension and no trace of the machine.

The exporter records the source line of each node with absolute paths; those are stripped, so that the file depends on the
weights and the versions alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx
import torch

from model.checkpoint import Checkpoint
from model.examples import example_inputs
from model.network import ServingNetwork

OPSET: Final = 20  # what onnxruntime >= 1.17 and TensorRT >= 10 both read
_LARGEST_BATCH: Final = 65_536
_TRACED_ROWS: Final = 3  # the exporter takes 0 and 1 for constants


def onnx_from_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint`'s serving graph to `path`.

    A shop's events have the tensors of `model.contract`; other inputs have `inputs.tensors()` and an output for each task.
    """
    serving = ServingNetwork(checkpoint.network, checkpoint.temperatures).eval()
    examples = example_inputs(checkpoint.network.inputs, _TRACED_ROWS)
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    with _quiet_exporter():
        torch.onnx.export(
            serving,
            tuple(examples.values()),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(tuple({0: batch} for _ in examples),),  # of the one argument, *tensors
            input_names=list(examples),
            output_names=list(serving.served),
            external_data=False,
            verbose=False,
        )
    onnx.save(_without_provenance(onnx.load(path)), path)


def _without_provenance(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.metadata_props[:]
    del model.functions[:]  # the exporter inlines local functions and leaves them unused
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    # Two harmless notices: torchvision's operators are missing (none is used), and all inputs share the first one's batch
    # dimension (on purpose).
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*The axis name: batch will not be used.*")
            yield
    finally:
        logger.setLevel(level)
