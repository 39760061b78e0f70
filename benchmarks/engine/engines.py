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

ScoreCall = Callable[[Tensors], Mapping[str, NDArray[Any]]]
Engines = dict[str, ScoreCall | str]  # an engine that cannot run here is the reason why
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


def cpu_engines(folder: Path, network: ServingNetwork, sample: Tensors, *, compiled: bool) -> Engines:
    """Return all engines of a CPU; with torch.compile, which is tried on `sample` and takes a minute, if it is wanted."""
    torch.set_num_threads(1)
    engines: Engines = {
        "onnxruntime": open_scorer(folder, "onnxruntime").score,
        "torch": _of_torch(network, network.names, "cpu"),
    }
    engines["torch_compile"] = _compiled(network, sample, "cpu") if compiled else "left out by --quick"
    engines["openvino"] = _openvino(folder / MODEL_FILE)
    return engines


def gpu_engines(folder: Path, network: ServingNetwork, sample: Tensors, *, compiled: bool) -> Engines:
    """Return all engines of the first GPU; arguments as `cpu_engines`. A plan must lie beside the model to be run."""
    engines: Engines = {}
    for name, (engine, precision) in _GPU_ENGINES.items():
        try:
            engines[name] = open_scorer(folder, engine, precision=precision).score
        except EngineNotHereError as error:
            engines[name] = str(error)
    on_gpu = network.cuda()
    engines["torch"] = _of_torch(on_gpu, network.names, "cuda")
    engines["torch_compile"] = _compiled(on_gpu, sample, "cuda") if compiled else "left out by --quick"
    return engines


def _of_torch(network: Callable[..., Any], names: list[str], device: str) -> ScoreCall:
    def score(inputs: Tensors) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            answers = network(*(torch.from_numpy(np.asarray(inputs[name])).to(device) for name in names))
        return {name: answer.cpu().numpy() for name, answer in zip(_NAMES, answers, strict=True)}

    return score


def _compiled(network: nn.Module, sample: Tensors, device: str) -> ScoreCall | str:
    """Return the compiled network, or why it failed: on a CPU one program, on a GPU one with CUDA graphs for each batch size.

    PyTorch makes a program of its own for a batch of 1 (it takes 1 for a constant). On a CPU that would be a second minute, so
    the one row stands in a batch of 2 there.
    """
    how: dict[str, Any] = {"mode": "reduce-overhead"} if device == "cuda" else {"dynamic": True}
    score = _of_torch(torch.compile(network, **how), list(sample), device)
    if device == "cpu":
        score = _two_at_least(score)
    try:
        score(sample)
    except RuntimeError as error:  # of every stage, a missing C++ compiler among them
        return f"torch.compile failed: {type(error).__name__}: {str(error).splitlines()[0]}"
    return score


def _two_at_least(compiled: ScoreCall) -> ScoreCall:
    def score(inputs: Tensors) -> Mapping[str, NDArray[Any]]:
        if len(next(iter(inputs.values()))) > 1:
            return compiled(inputs)
        return {name: answer[:1] for name, answer in compiled({k: np.repeat(v, 2, axis=0) for k, v in inputs.items()}).items()}

    return score


def _openvino(model: Path) -> ScoreCall:
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.compile_model(str(model), "CPU", options)

    def score(inputs: Tensors) -> dict[str, NDArray[Any]]:
        answers = network(dict(inputs))
        return {name: answers[name] for name in _NAMES}

    return score
