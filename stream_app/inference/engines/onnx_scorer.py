"""Score with ONNX Runtime: on one CPU core, or on a GPU by its CUDA provider.

The session is sequential, with as many threads as asked for and none that spin: on a busy machine spinning threads cost
4 to 6 ms at the 99th percentile. The only module that imports onnxruntime.

Invariant on the CPU: a row's outputs are the same to the last bit in any batch. ONNX Runtime computes logarithms, exponentials
and products in strips; a remainder at the end takes another code path, which rounds differently. So every batch is padded with
rows of zeros to whole strips.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model.contract import INPUTS, MODEL_FILE, OUTPUTS
from stream_app.errors import ContractError, EngineLostError, EngineNotHereError, ModelFailedError
from stream_app.inference.artifact import load_manifest, verified_bytes
from stream_app.inference.engines.port import RunsOn, Scorer, Tensors
from stream_app.inference.engines.tensors import InputTensors, empty_answers, shape_of

_ORT_DTYPES: Final = {"tensor(float)": "float32", "tensor(int32)": "int32"}
_STRIP: Final = 16  # rows: AVX-512 has 16 floats in a register, the widest there is
_CUDA: Final = "CUDAExecutionProvider"
_PROVIDERS: Final[dict[str, list[Any]]] = {
    "cpu": ["CPUExecutionProvider"],
    # TF32 would round products to 11 bits; the artefact's samples were recorded in fp32.
    "cuda": [(_CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"],
}

_ORT_FAILURES: Final = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# How ONNX Runtime refuses a file of a newer format: the version of the file, and the newest that it reads.
_NEWER_FORMAT: Final = re.compile(r"model IR version: (\d+), max supported IR version: (\d+)")
_NEWER_OPERATORS: Final = re.compile(r"Opset (\d+) is under development.* is till opset (\d+)", re.DOTALL)


class OnnxScorer(Scorer):
    """One artefact in one ONNX Runtime session; see `stream_app.inference.engines.port.Scorer`.

    Open it with `stream_app.inference.engines.selection.open_scorer`, which warms it up and tests it.

    Attributes:
        runs_on: The engine and the reason for it; `open_scorer` sets it.
    """

    def __init__(self, path: Path | str, threads: int = 1, device: Literal["cpu", "cuda"] = "cpu") -> None:
        """Load, and compare with the contract; blocking, some 100 ms.

        Args:
            path: the artefact's folder.
            threads: threads within one operator; 1 when every core has a worker of its own.
            device: of the computation.

        Raises:
            EngineNotHereError: This onnxruntime has no CUDA provider, or finds no GPU.
            ContractError: The artefact is missing, corrupted, or has other tensors than the contract.
        """
        self._folder = Path(path)
        super().__init__(load_manifest(self._folder))
        self._device = device
        self.runs_on = RunsOn("onnxruntime" if device == "cpu" else "onnxruntime-cuda", "fp32", "configured")
        content = verified_bytes(self._folder, self.manifest, MODEL_FILE)
        self._session: ort.InferenceSession | None = self._open(content, threads)
        self._inputs = InputTensors(self.manifest)
        self._filling = self._inputs.zeros(_STRIP - 1)
        self._check_tensors(self._session)

    def score(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Score a batch; see `Scorer.score`."""
        session = self._session
        if session is None:
            raise ContractError("the scorer is closed. Operator action: none; this is a fault of the caller.")
        rows = self._inputs.check(inputs)
        if rows == 0:
            return empty_answers()
        feed = {name: inputs[name] for name in self._inputs.shapes}
        missing = -rows % _STRIP
        if missing:  # see the module's invariant
            feed = {name: np.concatenate((tensor, self._filling[name][:missing])) for name, tensor in feed.items()}
        try:
            answers = session.run([spec.name for spec in OUTPUTS], feed)
        except _ORT_FAILURES as error:
            raise self._failure(rows, error) from error
        return {spec.name: answer[:rows] for spec, answer in zip(OUTPUTS, answers, strict=True)}

    def close(self) -> None:
        """Free the session; calling it twice is fine."""
        self._session = None

    def _failure(self, rows: int, error: Exception) -> ModelFailedError:
        description = f"onnxruntime {ort.__version__} failed on {self._device} for a batch of {rows}: {error}"
        if self._device == "cpu":
            return ModelFailedError(description)
        no_memory = "out of memory" in str(error) or "allocate memory" in str(error)
        return EngineLostError("out_of_memory" if no_memory else "device_lost", description)

    def _open(self, content: bytes, threads: int) -> ort.InferenceSession:
        if self._device == "cuda" and _CUDA not in ort.get_available_providers():
            raise self._no_gpu(ort.get_available_providers())
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: warnings about optimisations do not help an operator
        try:
            session = ort.InferenceSession(content, options, providers=_PROVIDERS[self._device])
        except _ORT_FAILURES as error:
            raise ContractError(
                f"{self._folder / MODEL_FILE} cannot be loaded by onnxruntime {ort.__version__}: {_reason(error)}. Operator "
                f"action: install the version it was built with ({self.manifest.versions.get('onnxruntime', 'unknown')}) or a "
                f"newer one, or build the artefact again: {self.manifest.command}"
            ) from error
        if self._device == "cuda" and session.get_providers()[0] != _CUDA:  # ONNX Runtime falls back to the CPU silently
            raise self._no_gpu(session.get_providers())
        return session

    @staticmethod
    def _no_gpu(providers: list[str]) -> EngineNotHereError:
        return EngineNotHereError(
            f"onnxruntime {ort.__version__} cannot use a GPU here, only {', '.join(providers)}. Operator action: "
            "install onnxruntime-gpu with the CUDA and cuDNN libraries it names, check the driver with nvidia-smi, or set "
            "model.engine to 'auto' or 'onnxruntime'."
        )

    def _check_tensors(self, session: ort.InferenceSession) -> None:
        features = len(self.manifest.feature_names)
        for direction, specs, arguments in (
            ("input", INPUTS, session.get_inputs()),
            ("output", OUTPUTS, session.get_outputs()),
        ):
            expected = {spec.name: (spec.dtype, shape_of(spec, features)) for spec in specs}
            actual = {arg.name: (_ORT_DTYPES.get(arg.type, arg.type), tuple(arg.shape[1:])) for arg in arguments}
            if expected != actual:
                raise ContractError(
                    f"{self._folder / MODEL_FILE} has the {direction}s {actual}, the contract says {expected}. Operator action: "
                    f"deploy the release the model was built with, or build it again: {self.manifest.command}"
                )


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if match := _NEWER_FORMAT.search(text):
        return f"the model has IR version {match[1]}, this onnxruntime reads up to {match[2]}"
    if match := _NEWER_OPERATORS.search(text):
        return f"the model has operators of opset {match[1]}, this onnxruntime knows up to {match[2]}"
    return text
