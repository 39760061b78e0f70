"""A scorer on a GPU with one on the CPU behind it.

When the engine is lost (out of memory, device lost, hung) the batch at hand and all later ones are the CPU's: the same model,
slower, and nothing is answered wrongly or twice. There is no way back within the process: a CUDA context that has failed answers
every later call with the same error. The next start, or the next model, tries the GPU again.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Final

from stream_app.errors import EngineLostError
from stream_app.inference.engines.port import ArtifactScorer, RunsOn, Scorer, Tensors
from stream_app.metrics import Metrics

__all__ = ["FallbackScorer"]

log = logging.getLogger(__name__)

_SHOWING: Final = threading.Lock()  # models change in one thread, and are given up in another


class FallbackScorer(ArtifactScorer):
    """See `stream_app.inference.engines.port.Scorer`.

    Args:
        engine: The scorer on the GPU.
        cpu: The same artefact on the CPU, loaded already: the disk is not needed in a moment of trouble.
        metrics: Where to count.
        runs_on: What the engine is.

    Attributes:
        runs_on: What answers now.
    """

    def __init__(self, engine: Scorer, cpu: Scorer, metrics: Metrics | None, runs_on: RunsOn) -> None:
        super().__init__(cpu.manifest)
        self.runs_on = runs_on
        self._shown_on: Metrics | None = None
        self._engine: Scorer | None = engine
        self._cpu = cpu
        self._metrics = metrics
        self._in_use = threading.Lock()  # an engine takes one call at a time

    def show(self, metrics: Metrics) -> None:
        """Say what answers, now and when that changes; see `stream_app.inference.engines.selection.tell_engine`."""
        with _SHOWING:
            self._shown_on = metrics
            self.runs_on.show(metrics)

    def hide(self) -> None:
        """Say no more what answers: another model serves."""
        with _SHOWING:
            self._shown_on = None

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
        """Free both, but nothing on a device that is lost; calling it twice is fine."""
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
        engine, self._engine = self._engine, None
        log.error("the GPU is given up, the CPU scores from now on (%s): %s", error.reason, error)
        if engine is not None:
            _dispose(engine, error)
        with _SHOWING:
            self.runs_on = RunsOn("onnxruntime", "fp32", f"fallback: {error.reason}")
            if self._shown_on is not None:
                self.runs_on.show(self._shown_on)
        if self._metrics is not None:
            self._metrics.engine_fallbacks.labels(error.reason).inc()


def _dispose(engine: Scorer, error: EngineLostError) -> None:
    """Free an engine on a device that still answers, for others who use it; keep any other for as long as the process lives.

    Its destructor too frees memory on the device, and that may hang in its turn, with all of Python's threads behind it. So one
    reference more is counted than there is: nobody destroys it, the end of the interpreter neither.
    """
    if error.reason == "out_of_memory":
        engine.close()
    else:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
