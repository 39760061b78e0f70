"""Open a model: choose its engine, load it, warm it up and test it. Every scorer is made here.

`auto` takes the first engine that can run the artefact here: TensorRT (library, GPU, and a plan built for both), ONNX Runtime
on the GPU (its CUDA provider), ONNX Runtime on the CPU. The log has the choice and its reason,
and so has `millrace_engine_info` once the model serves. An engine on a GPU has the CPU as its fallback
(`stream_app.inference.engines.fallback`). A damaged artefact is refused with every engine: a plan of another model
is not skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from model.plan import Precision
from stream_app.errors import ContractError, EngineNotHereError
from stream_app.inference.engines.fallback import FallbackScorer
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.port import RunsOn, Scorer
from stream_app.inference.engines.self_test import self_test, warm_up
from stream_app.inference.engines.tensorrt_scorer import TensorRTScorer
from stream_app.metrics import Metrics

log = logging.getLogger(__name__)

Engine = Literal["auto", "tensorrt", "onnxruntime-cuda", "onnxruntime"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)

_Opened = tuple[Scorer, Precision]  # on a GPU, and the precision of its arithmetic


def _tensorrt(folder: Path, precision: str) -> _Opened:
    scorer = TensorRTScorer.open(folder, precision)
    return scorer, scorer.precision


def _onnxruntime_cuda(folder: Path, precision: str) -> _Opened:
    if precision not in {"", "fp32"}:
        raise EngineNotHereError(
            f"ONNX Runtime runs the artefact's model.onnx, which is fp32; model.precision is {precision!r}. Operator action: "
            "build a TensorRT plan of that precision for this machine, or leave model.precision empty."
        )
    return OnnxScorer(folder, device="cuda"), "fp32"


_ON_GPU: Final[Mapping[str, Callable[[Path, str], _Opened]]] = {"tensorrt": _tensorrt, "onnxruntime-cuda": _onnxruntime_cuda}


def open_scorer(
    folder: Path | str, engine: str = "auto", *, precision: str = "", threads: int = 1, metrics: Metrics | None = None
) -> Scorer:
    """Load an artefact; the returned scorer is warm and reproduces its recorded outputs. Blocking.

    Args:
        folder: The artefact's.
        engine: One of `ENGINES`.
        precision: Of the TensorRT plan; empty: the fastest.
        threads: Within one operator, on the CPU; 1 when every core has a worker of its own.
        metrics: Where to count fallbacks; None: nowhere.

    Raises:
        EngineNotHereError: The configured engine cannot run this artefact on this machine.
        ContractError: The artefact is missing, corrupted, truncated, mismatched or too new, or fails its self-test.
    """
    folder = Path(folder)
    cpu = OnnxScorer(folder, threads)  # always: the fallback of a GPU's engine, and the check of the artefact
    name, opened, why = _choose(folder, engine, precision)
    scorer: OnnxScorer | FallbackScorer = cpu
    computes_in: Precision = "fp32"
    if opened is not None:
        on_gpu, computes_in = opened
        scorer = FallbackScorer(on_gpu, cpu, metrics, RunsOn(name, computes_in, why))
    else:
        cpu.runs_on = RunsOn(name, computes_in, why)
    try:
        warm_up(scorer, folder)
        worst = self_test(scorer, folder, computes_in)
    except BaseException:
        scorer.close()
        raise
    on = scorer.runs_on  # the GPU may have been lost since the choice
    log.info("model %s runs on %s in %s (%s); self-test within %.1g", cpu.version, on.engine, on.precision, on.why, worst)
    return scorer


def engine_of(scorer: Scorer) -> str:
    """Return the name of the engine that runs a scorer of `open_scorer` now; "" for other kinds."""
    return scorer.runs_on.engine if isinstance(scorer, OnnxScorer | FallbackScorer) else ""


def show_engine(scorer: Scorer, metrics: Metrics, before: Scorer | None = None) -> None:
    """Show this model's engine in `millrace_engine_info`; call it when the model begins to serve.

    Args:
        scorer: Of `open_scorer`; other kinds are not shown.
        metrics: Of the worker.
        before: The model that served until now; its later changes are not shown.
    """
    if isinstance(before, FallbackScorer):
        before.hide()
    if isinstance(scorer, FallbackScorer):
        scorer.show(metrics)
    elif isinstance(scorer, OnnxScorer):
        scorer.runs_on.show(metrics)


def _choose(folder: Path, engine: str, precision: str) -> tuple[str, _Opened | None, str]:
    """Return the engine's name, its scorer if it runs on a GPU, and the reason."""
    if engine == "onnxruntime":
        return engine, None, "configured"
    if engine in _ON_GPU:
        return engine, _ON_GPU[engine](folder, precision), "configured"
    if engine != "auto":
        raise ContractError(f"no engine is called {engine!r}. Operator action: set model.engine to one of {', '.join(ENGINES)}.")
    reasons = []
    for name, open_engine in _ON_GPU.items():
        try:
            return name, open_engine(folder, precision), "auto"
        except EngineNotHereError as error:
            reasons.append(f"{name}: {error}")
    for reason in reasons:
        log.info("engine not taken: %s", reason)
    return "onnxruntime", None, "auto: no engine on a GPU"
