"""The tensors of an artefact, shared by the engines' adapters: shapes and checks."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS, OUTPUTS, Manifest, TensorSpec
from stream_app.errors import ContractError
from stream_app.inference.engines.port import Tensors

_FAULT: Final = "Operator action: none; the feature engine and the contract disagree, report it"


def shape_of(spec: TensorSpec, features: int) -> tuple[int, ...]:
    """Return a tensor's shape without the batch, for a model with `features` dense features."""
    return tuple(features if size == -1 else size for size in spec.shape)


class InputTensors:
    """The inputs of an artefact.

    Attributes:
        shapes: Name -> shape without the batch, in the contract's order.
    """

    def __init__(self, manifest: Manifest) -> None:
        features = len(manifest.feature_names)
        self.shapes = {spec.name: shape_of(spec, features) for spec in INPUTS}
        self._version = manifest.version

    def check(self, inputs: Tensors) -> int:
        """Return the batch's number of rows.

        Raises:
            ContractError: A tensor is missing, or has another dtype or shape than the contract's.
        """
        for spec in INPUTS:
            tensor = inputs.get(spec.name)
            shape = self.shapes[spec.name]
            if tensor is None or tensor.dtype != spec.dtype or tensor.shape[1:] != shape or tensor.ndim == 0:
                got = "nothing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
                raise ContractError(
                    f"input {spec.name}: got {got}, the model {self._version} takes {spec.dtype} (B, {shape}). {_FAULT}."
                )
        rows = {name: inputs[name].shape[0] for name in self.shapes}
        if len(set(rows.values())) != 1:
            raise ContractError(f"the inputs differ in their number of rows: {rows}. {_FAULT}.")
        return int(inputs[INPUTS[0].name].shape[0])

    def zeros(self, rows: int) -> dict[str, NDArray[Any]]:
        """Return rows of zeros."""
        return {spec.name: np.zeros((rows, *self.shapes[spec.name]), spec.dtype) for spec in INPUTS}


def empty_answers() -> dict[str, NDArray[Any]]:
    """Return the outputs for a batch without rows."""
    return {spec.name: np.empty((0, *spec.shape), spec.dtype) for spec in OUTPUTS}
