"""A scorer on a GPU with one on the CPU behind it.

When the engine is lost (out of memory, device lost, hung) the batch at hand and all later ones are the CPU's: the same model,
slower, and nothing is answered wrongly or twice. There is no way back within the process: a CUDA context that has failed answers
every later call with the same error. The next start, or the next model, tries the GPU again.
"""

from __future__ import annotations

import logging
import threading

from model.contract import Manifest
from stream_app.errors import EngineLostError
from stream_app.inference.port import Scorer, Tensors
from stream_app.metrics import Metrics

__all__ = ["FallbackScorer", "tell_engine"]

log = logging.getLogger(__name__)


def tell_engine(metrics: Metrics | None, engine: str, precision: str, why: str) -> None:
    """Show what runs the model from now on."""
    if metrics is not None:
        metrics.engine_info.clear()
        metrics.engine_info.labels(engine, precision, why).set(1)


class FallbackScorer:
    """See `stream_app.inference.port.Scorer`.

    Args:
        engine: The scorer on the GPU.
        cpu: The same artefact on the CPU, loaded already: the disk is not needed in a moment of trouble.
        metrics: Where to count.
    """

    def __init__(self, engine: Scorer, cpu: Scorer, metrics: Metrics | None = None) -> None:
        self._engine: Scorer | None = engine
        self._cpu = cpu
        self._metrics = metrics
        self._in_use = threading.Lock()  # an engine takes one call at a time

    @property
    def version(self) -> str:
        """The artefact's version."""
        return self._cpu.version

    @property
    def catalogue_hash(self) -> str:
        """Hash of the feature catalogue the model was trained with."""
        return self._cpu.catalogue_hash

    @property
    def manifest(self) -> Manifest:
        """What the artefact says of itself."""
        return self._cpu.manifest

    def score(self, inputs: Tensors) -> Tensors:
        """Answer for a batch; see `Scorer.score`."""
        engine = self._engine
        if engine is not None:
            try:
                return self._on_engine(engine, inputs)
            except EngineLostError as error:
                self._give_up(error)
        return self._cpu.score(inputs)

    def close(self) -> None:
        """Free both; calling it twice is fine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        self._cpu.close()

    def _on_engine(self, engine: Scorer, inputs: Tensors) -> Tensors:
        if not self._in_use.acquire(blocking=False):  # a caller that was given up still waits inside
            raise EngineLostError("hang", f"the engine of {self.version} has not come back from an earlier call")
        try:
            return engine.score(inputs)
        finally:
            self._in_use.release()

    def _give_up(self, error: EngineLostError) -> None:
        self._engine = None  # not closed: freeing memory on a device that is lost may hang in its turn
        log.error("the GPU is given up, the CPU scores from now on (%s): %s", error.reason, error)
        tell_engine(self._metrics, "onnxruntime", "fp32", f"fallback: {error.reason}")
        if self._metrics is not None:
            self._metrics.engine_fallbacks.labels(error.reason).inc()
