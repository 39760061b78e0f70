"""The port between the pipeline and a model: named tensors in, named tensors out; independent of the engine.

Tensors are those of `model.contract`. A scorer is used by one thread at a time; it releases the GIL while it computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from model.contract import Manifest
from stream_app.metrics import Metrics

Tensors: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class RunsOn:
    """The engine of a model: the labels of `millrace_engine_info`.

    Attributes:
        engine: As `stream_app.inference.engines.selection.ENGINES`, never "auto".
        precision: Of its arithmetic.
        why: Reason for the engine.
    """

    engine: str
    precision: str
    why: str

    def show(self, metrics: Metrics) -> None:
        """Set `millrace_engine_info` to these labels alone."""
        metrics.engine_info.clear()
        metrics.engine_info.labels(self.engine, self.precision, self.why).set(1)


class Scorer(ABC):
    """One loaded model: its artefact's manifest, and the version in it, which every answer carries."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.version = manifest, manifest.version

    @abstractmethod
    def score(self, inputs: Tensors) -> Tensors:
        """Score a batch; blocking.

        A row's outputs depend on that row alone. On the CPU they are the same to the last bit in every batch, which replay
        relies on. A GPU sums in another order for another size of batch; there they are equal within rounding only.

        Args:
            inputs: as `contract.INPUTS`, each with the batch B >= 0 in front.

        Returns:
            As `contract.OUTPUTS`, each (B, ...) float32, owned by the caller.

        Raises:
            ContractError: A tensor is missing, or has another dtype or shape than the contract's.
            ModelFailedError: The engine failed; the rows may be good.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the engine; calling it twice is fine."""
