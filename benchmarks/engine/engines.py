"""The engines that the benchmark compares: each is a function from the contract's tensors to answers, waited for.

On a CPU each has one thread. torch runs the network of the shipped preset: no checkpoint ships, and weights do not change its
speed, so they are random unless one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import nn

from model.checkpoint import load_checkpoint
from model.contract import MODEL_FILE, OUTPUTS
from model.inputs import EventInputs
from model.network import MultiTaskNetwork, ServingNetwork
from model.presets import PRESETS
from model.tasks import SHOP_TASKS
from stream_app.errors import EngineNotHereError
from stream_app.inference.artifact import load_manifest
from stream_app.inference.engines.port import Tensors
from stream_app.inference.engines.selection import open_scorer

__all__ = ["Way", "Ways", "cpu_ways", "gpu_ways", "serving_network"]

Way = Callable[[Tensors], Mapping[str, NDArray[Any]]]
Ways = dict[str, Way | str]  # an engine that cannot run here is the reason why
_SEED: Final = 0
_NAMES: Final = [spec.name for spec in OUTPUTS]
_GPU_ENGINES: Final = {
    "tensorrt_fp32": ("tensorrt", "fp32"),
    "tensorrt_fp16": ("tensorrt", "fp16"),
    "onnxruntime_cuda": ("onnxruntime-cuda", ""),
}


def serving_network(folder: Path, checkpoint: Path | None) -> ServingNetwork:
    """Return the network of the artefact's preset, with the checkpoint's weights or random ones."""
    if checkpoint is not None:
        trained = load_checkpoint(checkpoint)
        return ServingNetwork(trained.network, trained.temperatures).eval()
    manifest = load_manifest(folder)
    torch.manual_seed(_SEED)
    inputs = EventInputs(len(manifest.feature_names))
    return ServingNetwork(MultiTaskNetwork(PRESETS[manifest.preset], inputs, SHOP_TASKS)).eval()


def cpu_ways(folder: Path, network: ServingNetwork, sample: Tensors, *, compiled: bool) -> Ways:
    """Return all engines of a CPU.

    Args:
        folder: the artefact's.
        network: for torch.
        sample: some rows, which torch.compile is tried with.
        compiled: whether torch.compile is wanted: it takes a minute.
    """
    torch.set_num_threads(1)
    ways: Ways = {"onnxruntime": open_scorer(folder, "onnxruntime").score, "torch": _of_torch(network, network.names, "cpu")}
    ways["torch_compile"] = _compiled(network, sample, "cpu") if compiled else "left out by --quick"
    ways["openvino"] = _openvino(folder / MODEL_FILE)
    return ways


def gpu_ways(folder: Path, network: ServingNetwork, sample: Tensors, *, compiled: bool) -> Ways:
    """Return all engines of the first GPU; arguments as `cpu_ways`. A plan must lie beside the model to be run."""
    ways: Ways = {}
    for name, (engine, precision) in _GPU_ENGINES.items():
        try:
            ways[name] = open_scorer(folder, engine, precision=precision).score
        except EngineNotHereError as error:
            ways[name] = str(error)
    on_gpu = network.cuda()
    ways["torch"] = _of_torch(on_gpu, network.names, "cuda")
    ways["torch_compile"] = _compiled(on_gpu, sample, "cuda") if compiled else "left out by --quick"
    return ways


def _of_torch(network: Callable[..., Any], names: list[str], device: str) -> Way:
    def score(inputs: Tensors) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            answers = network(*(torch.from_numpy(np.asarray(inputs[name])).to(device) for name in names))
        return {name: answer.cpu().numpy() for name, answer in zip(_NAMES, answers, strict=True)}

    return score


def _compiled(network: nn.Module, sample: Tensors, device: str) -> Way | str:
    """Return it compiled, or why it failed: on a CPU one program for all batch sizes, on a GPU one with CUDA graphs for each.

    PyTorch makes a program of its own for a batch of 1 (it takes 1 for a constant). On a CPU that would be a second minute, so
    the one row stands in a batch of 2 there.
    """
    how: dict[str, Any] = {"mode": "reduce-overhead"} if device == "cuda" else {"dynamic": True}
    way = _of_torch(torch.compile(network, **how), list(sample), device)
    if device == "cpu":
        way = _two_at_least(way)
    try:
        way(sample)
    except RuntimeError as error:  # of every stage, a missing C++ compiler among them
        return f"torch.compile failed: {type(error).__name__}: {str(error).splitlines()[0]}"
    return way


def _two_at_least(way: Way) -> Way:
    def score(inputs: Tensors) -> Mapping[str, NDArray[Any]]:
        if len(next(iter(inputs.values()))) > 1:
            return way(inputs)
        return {name: answer[:1] for name, answer in way({k: np.repeat(v, 2, axis=0) for k, v in inputs.items()}).items()}

    return score


def _openvino(model: Path) -> Way:
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.compile_model(str(model), "CPU", options)

    def score(inputs: Tensors) -> dict[str, NDArray[Any]]:
        answers = network(dict(inputs))
        return {name: answers[name] for name in _NAMES}

    return score
