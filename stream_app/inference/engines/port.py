"""What the pipeline knows of a model: named tensors in, named tensors out. No engine is named here.

Tensors are those of `model.contract`. A scorer is used by one thread at a time; it releases the GIL while it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from model.contract import Manifest
from stream_app.metrics import Metrics

__all__ = ["ArtifactScorer", "RunsOn", "Scorer", "Tensors"]

Tensors: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class RunsOn:
    """What runs a model: the labels of `millrace_engine_info`.

    Attributes:
        engine: As `stream_app.inference.engines.selection.ENGINES`, never "auto".
        precision: What it computes in.
        why: That engine.
    """

    engine: str
    precision: str
    why: str

    def show(self, metrics: Metrics) -> None:
        """Say so in `millrace_engine_info`, in place of what it said."""
        metrics.engine_info.clear()
        metrics.engine_info.labels(self.engine, self.precision, self.why).set(1)


class Scorer(Protocol):
    """One loaded model."""

    @property
    def version(self) -> str:
        """The artefact's version, as it stands in every answer."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What the artefact says of itself."""
        ...

    def score(self, inputs: Tensors) -> Tensors:
        """Answer for a batch; blocking.

        A row's answer depends on that row alone. On the CPU it is the same to the last bit whatever batch it stands in:
        replay relies on it. A GPU's engine sums in another order for another size of batch; there it is the same within
        rounding only.

        Args:
            inputs: as `contract.INPUTS`, each with the batch B >= 0 in front.

        Returns:
            As `contract.OUTPUTS`, each (B, ...) float32, owned by the caller.

        Raises:
            ContractError: A tensor is missing, or has another dtype or shape than the contract's.
            ModelFailedError: The engine failed; nothing is said of the rows.
        """
        ...

    def close(self) -> None:
        """Free the engine; calling it twice is fine."""
        ...


class ArtifactScorer:
    """What every scorer says of the artefact that it was opened from."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def version(self) -> str:
        """See `Scorer.version`."""
        return self._manifest.version

    @property
    def manifest(self) -> Manifest:
        """See `Scorer.manifest`."""
        return self._manifest
