"""What stands for a model on a GPU where there is none, and what the worker says of its engine."""

from __future__ import annotations

from pathlib import Path

from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.port import Scorer, Tensors
from stream_app.metrics import Metrics


class OnGpu(Scorer):
    """Stands for a scorer on a GPU: the real model, until it is told to fail."""

    def __init__(self, folder: Path) -> None:
        self.precision = "fp16"
        self.fails: Exception | None = None
        self.calls = 0
        self._real = OnnxScorer(folder)
        super().__init__(self._real.manifest)
        self.closed = False

    def score(self, inputs: Tensors) -> Tensors:
        self.calls += 1
        if self.fails is not None:
            raise self.fails
        return self._real.score(inputs)

    def close(self) -> None:
        self.closed = True


def shown(metrics: Metrics) -> list[dict[str, str]]:
    """What `millrace_engine_info` says."""
    (family,) = metrics.engine_info.collect()
    return [dict(sample.labels) for sample in family.samples if sample.value == 1]
