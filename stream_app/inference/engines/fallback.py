"""A scorer on a GPU with a scorer on the CPU as its fallback.

When the GPU is lost (out of memory, device lost, hung), the CPU scores the current batch and all later ones with the same model,
slower. The process does not return to the GPU: a failed CUDA context returns the same error to every later call. The next start,
or the next model, tries the GPU again.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Final

from stream_app.errors import EngineLostError
from stream_app.inference.engines.port import RunsOn, Scorer, Tensors
from stream_app.metrics import Metrics

log = logging.getLogger(__name__)

_SHOWING: Final = threading.Lock()  # models change in one thread; a GPU is lost in another


class FallbackScorer(Scorer):
    """See `stream_app.inference.engines.port.Scorer`.

    `cpu` is the same artefact, loaded already: a fallback does not read the disk. `runs_on` is the current engine.
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
        """Show the current engine, now and when it changes; see `stream_app.inference.engines.selection.show_engine`."""
        with _SHOWING:
            self._shown_on = metrics
            self.runs_on.show(metrics)

    def hide(self) -> None:
        """Show it no longer: another model serves."""
        with _SHOWING:
            self._shown_on = None

    def score(self, inputs: Tensors) -> Tensors:
        """Score a batch; see `Scorer.score`."""
        engine = self._engine
        if engine is not None:
            try:
                return self._on_engine(engine, inputs)
            except EngineLostError as error:
                self._give_up(error)
        return self._cpu.score(inputs)

    def close(self) -> None:
        """Free both engines, but nothing on a lost device; calling it twice is fine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
        self._cpu.close()

    def _on_engine(self, engine: Scorer, inputs: Tensors) -> Tensors:
        if not self._in_use.acquire(blocking=False):  # an abandoned caller still waits inside
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
    """Free an engine that ran out of memory, for other users of the GPU; never destroy an engine on a lost device.

    Its destructor would free memory on the device too, which may hang with all of Python's threads. An extra reference prevents
    the destructor, at the end of the interpreter as well.
    """
    if error.reason == "out_of_memory":
        engine.close()
    else:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))
