"""Checkpoint in, ONNX model out: one file, batch dimension free, nothing of the machine it was made on inside.

The exporter records where in the source each node came from, with absolute paths; that is stripped, so that the file
depends on the weights and the versions alone and says nothing about who built it.
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

__all__ = ["onnx_from_checkpoint"]

OPSET: Final = 20  # what onnxruntime >= 1.17 and TensorRT >= 10 both read
_LARGEST_BATCH: Final = 65_536
_TRACED_ROWS: Final = 3  # neither 0 nor 1: the exporter would take those for constants


def onnx_from_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write `checkpoint`'s serving graph to `path`: for a shop's events with the tensors of `model.contract`.

    For other inputs its tensors are `inputs.tensors()`, its answers one for each task, by their names.
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
    del model.functions[:]  # local functions are inlined by the exporter; what is left of them is unused
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(model)
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    # Two notices that say nothing about the result: torchvision's operators are not there (none is used), and the batch
    # dimension of the second to fifth input is the first one's (it is meant to be).
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*The axis name: batch will not be used.*")
            yield
    finally:
        logger.setLevel(level)
