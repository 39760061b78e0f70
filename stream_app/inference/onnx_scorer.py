"""Score with ONNX Runtime on one CPU core.

The session is sequential, with as many threads as asked for and none that spin: on a busy machine spinning threads cost
4 to 6 ms at the 99th percentile. The only module that imports onnxruntime.

Invariant: a row's answer is the same to the last bit in any batch. ONNX Runtime takes logarithms, exponentials and products in
strips; what is left over at the end goes through other code, which rounds otherwise. So every batch is filled up with rows of
zeros to whole strips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model.contract import INPUTS, MODEL_FILE, OUTPUTS, Manifest, TensorSpec
from stream_app.errors import ContractError
from stream_app.inference.artifact import load_manifest, load_samples, verified_bytes
from stream_app.inference.port import Tensors

__all__ = ["OnnxScorer"]

_ORT_DTYPES: Final = {"tensor(float)": "float32", "tensor(int32)": "int32"}
_STRIP: Final = 16  # rows: AVX-512 has 16 floats in a register, the widest there is
_WARM_UP_ROWS: Final = (1, 64, 512)  # sizes a worker meets: ONNX Runtime sizes its arena on first sight

# Outputs of the self-test may differ by this much from the recorded ones: another CPU sums in another order. Measured
# between batch sizes and against torch: 1e-7 for probabilities, 1e-6 for vectors; 1,000 times that changes no decision.
_SELF_TEST_TOLERANCE: Final = {"user_vector": 1e-3}
_SELF_TEST_TOLERANCE_OTHERS: Final = 1e-4

_ORT_FAILURES: Final = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OnnxScorer:
    """One artefact in one ONNX Runtime session; see `stream_app.inference.port.Scorer`."""

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        """Load, compare with the contract, and warm up; blocking, some 100 ms.

        Args:
            path: the artefact's folder.
            threads: threads within one operator; 1 when every core has a worker of its own.

        Raises:
            ContractError: The artefact is missing, corrupted, or has other tensors than the contract.
        """
        self._folder = Path(path)
        self._manifest = load_manifest(self._folder)
        content = verified_bytes(self._folder, self._manifest, MODEL_FILE)
        self._session: ort.InferenceSession | None = self._open(content, threads)
        features = len(self._manifest.feature_names)
        self._shapes = {spec.name: _shape(spec, features) for spec in INPUTS}
        self._filling = self._zeros(_STRIP - 1)
        self._check_tensors(self._session)
        for rows in _WARM_UP_ROWS:
            self.score(self._zeros(rows))

    @property
    def version(self) -> str:
        """The artefact's version."""
        return self._manifest.version

    @property
    def catalogue_hash(self) -> str:
        """Hash of the feature catalogue the model was trained with."""
        return self._manifest.catalogue_hash

    @property
    def manifest(self) -> Manifest:
        """What the artefact says of itself."""
        return self._manifest

    def score(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Answer for a batch; see `Scorer.score`."""
        if self._session is None:
            raise ContractError("the scorer is closed. Operator action: none; this is a fault of the caller.")
        rows = self._check_inputs(inputs)
        if rows == 0:
            return {spec.name: np.empty((0, *spec.shape), spec.dtype) for spec in OUTPUTS}
        feed = {name: inputs[name] for name in self._shapes}
        missing = -rows % _STRIP
        if missing:  # see the module's invariant
            feed = {name: np.concatenate((tensor, self._filling[name][:missing])) for name, tensor in feed.items()}
        answers = self._session.run([spec.name for spec in OUTPUTS], feed)
        return {spec.name: answer[:rows] for spec, answer in zip(OUTPUTS, answers, strict=True)}

    def self_test(self) -> float:
        """Score the recorded inputs and compare with the recorded outputs.

        Returns:
            The largest absolute difference over all outputs.

        Raises:
            ContractError: It differs by more than another CPU's rounding explains.
        """
        inputs, recorded = load_samples(self._folder, self._manifest)
        answers = self.score(inputs)
        worst = 0.0
        for spec in OUTPUTS:
            difference = float(np.max(np.abs(answers[spec.name] - recorded[spec.name]), initial=0.0))
            allowed = _SELF_TEST_TOLERANCE.get(spec.name, _SELF_TEST_TOLERANCE_OTHERS)
            if not difference <= allowed:  # also when it is NaN
                raise ContractError(
                    f"self-test of {self.version}: output {spec.name} differs from the recorded one by {difference:.3g}, "
                    f"allowed is {allowed:.0e}. Operator action: if the manifest's onnxruntime ({self._built_with()}) is not "
                    f"the one here ({ort.__version__}), install that; else restore the artefact from a good copy."
                )
            worst = max(worst, difference)
        return worst

    def close(self) -> None:
        """Free the session; calling it twice is fine."""
        self._session = None

    def _open(self, content: bytes, threads: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; warnings about optimisations are of no use to an operator
        try:
            return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except _ORT_FAILURES as error:
            raise ContractError(
                f"{self._folder / MODEL_FILE} cannot be loaded by onnxruntime {ort.__version__}: {error}. Operator action: "
                f"install the version it was built with ({self._built_with()}), or build the artefact again: "
                f"{self._manifest.command}"
            ) from error

    def _built_with(self) -> str:
        return self._manifest.versions.get("onnxruntime", "unknown")

    def _check_tensors(self, session: ort.InferenceSession) -> None:
        features = len(self._manifest.feature_names)
        for what, specs, found in (
            ("input", INPUTS, session.get_inputs()),
            ("output", OUTPUTS, session.get_outputs()),
        ):
            wanted = {spec.name: (spec.dtype, _shape(spec, features)) for spec in specs}
            have = {arg.name: (_ORT_DTYPES.get(arg.type, arg.type), tuple(arg.shape[1:])) for arg in found}
            if wanted != have:
                raise ContractError(
                    f"{self._folder / MODEL_FILE} has the {what}s {have}, the contract says {wanted}. Operator action: "
                    f"deploy the release the model was built with, or build it again: {self._manifest.command}"
                )

    def _check_inputs(self, inputs: Tensors) -> int:
        rows = {name: tensor.shape[0] for name, tensor in inputs.items() if tensor.ndim}
        for spec in INPUTS:
            tensor = inputs.get(spec.name)
            wanted = self._shapes[spec.name]
            if tensor is None or tensor.dtype != spec.dtype or tensor.shape[1:] != wanted or tensor.ndim == 0:
                have = "nothing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
                raise ContractError(
                    f"input {spec.name}: got {have}, the model {self.version} takes {spec.dtype} (B, {wanted}). "
                    "Operator action: none; the feature engine and the contract disagree, report it."
                )
        if len(set(rows.values())) != 1:
            raise ContractError(f"the inputs differ in their number of rows: {rows}. Operator action: none; report it.")
        return int(inputs[INPUTS[0].name].shape[0])

    def _zeros(self, rows: int) -> dict[str, NDArray[Any]]:
        return {spec.name: np.zeros((rows, *self._shapes[spec.name]), spec.dtype) for spec in INPUTS}


def _shape(spec: TensorSpec, features: int) -> tuple[int, ...]:
    return tuple(features if size == -1 else size for size in spec.shape)
