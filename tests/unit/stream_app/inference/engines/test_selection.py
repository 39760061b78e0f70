"""Opening a model: which engine and why, what is refused, and the CPU behind a GPU."""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from stream_app.errors import ContractError, EngineLostError, EngineNotHereError
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines import selection
from stream_app.inference.engines.fallback import FallbackScorer
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.port import RunsOn, Tensors
from stream_app.inference.engines.selection import open_scorer, show_engine
from stream_app.metrics import Metrics
from tests.unit.stream_app.inference.engines.on_gpu import OnGpu, shown

ON_GPU = RunsOn("tensorrt", "fp16", "auto")


def fallbacks(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.engine_fallbacks.collect()
    return {s.labels["reason"]: s.value for s in family.samples if s.name.endswith("_total")}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def here(monkeypatch: pytest.MonkeyPatch, **found: OnGpu | None) -> None:
    """Let these engines be there, and no others; None: not there."""

    def opener(engine: OnGpu | None, name: str) -> Any:
        def open_it(_folder: Path, _precision: str) -> tuple[OnGpu, str]:
            if engine is None:
                raise EngineNotHereError(f"no {name} here")
            return engine, engine.precision

        return open_it

    names = {"tensorrt": None, "onnxruntime-cuda": None} | {name.replace("_", "-"): engine for name, engine in found.items()}
    monkeypatch.setattr(selection, "_ON_GPU", {name: opener(engine, name) for name, engine in names.items()})


def test_without_a_gpu_auto_takes_the_cpu_and_says_why(
    built_artifact: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here(monkeypatch)
    with caplog.at_level(logging.INFO):
        scorer = open_scorer(built_artifact, metrics=metrics)
    assert isinstance(scorer, OnnxScorer)
    assert shown(metrics) == []  # not before it serves
    show_engine(scorer, metrics)
    assert shown(metrics) == [{"engine": "onnxruntime", "precision": "fp32", "why": "auto: no engine on a GPU"}]
    assert "engine not taken: tensorrt: no tensorrt here" in caplog.text
    assert f"model {scorer.version} runs on onnxruntime in fp32" in caplog.text


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda"])
def test_auto_takes_the_first_engine_that_is_there(
    name: str, built_artifact: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OnGpu(built_artifact)
    here(monkeypatch, **{name.replace("-", "_"): engine})
    scorer = open_scorer(built_artifact, metrics=metrics)
    show_engine(scorer, metrics)
    assert shown(metrics) == [{"engine": name, "precision": "fp16", "why": "auto"}]
    before = engine.calls
    assert before > 1  # warmed up and tested
    scorer.score(load_samples(built_artifact, load_manifest(built_artifact))[0])
    assert engine.calls == before + 1
    scorer.close()
    assert engine.closed


@pytest.mark.parametrize("name", ["tensorrt", "onnxruntime-cuda"])
def test_an_engine_that_was_asked_for_and_is_not_here_is_refused_with_what_to_do(name: str, built_artifact: Path) -> None:
    # The real thing: no wheel of CI's has a CUDA provider, and this artefact has no plan, GPU or not.
    with pytest.raises(EngineNotHereError, match="Operator action"):
        open_scorer(built_artifact, name)
    with pytest.raises(ContractError, match=r"no engine is called 'torch'.*auto, tensorrt, onnxruntime-cuda, onnxruntime"):
        open_scorer(built_artifact, "torch")


def test_another_precision_than_the_artefacts_needs_a_plan(built_artifact: Path) -> None:
    with pytest.raises(EngineNotHereError, match=r"is fp32; model\.precision is 'fp16'.*TensorRT plan"):
        open_scorer(built_artifact, "onnxruntime-cuda", precision="fp16")


def test_an_engine_that_computes_otherwise_than_recorded_is_refused_and_closed(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(OnGpu):
        def score(self, inputs: Tensors) -> Tensors:
            return {name: values + np.float32(0.1) for name, values in super().score(inputs).items()}

    engine = Wrong(built_artifact)
    here(monkeypatch, tensorrt=engine)
    with pytest.raises(ContractError, match=r"differs from the recorded one by 0\.1.*allowed in fp16.*Operator action"):
        open_scorer(built_artifact)
    assert engine.closed


@pytest.mark.parametrize("reason", ["out_of_memory", "device_lost", "hang"])
def test_a_lost_engine_is_given_up_for_the_cpu_which_answers_the_batch_at_hand_as_well(
    reason: str, built_artifact: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    engine, cpu = OnGpu(built_artifact), OnnxScorer(built_artifact)
    scorer = FallbackScorer(engine, cpu, metrics, ON_GPU)
    show_engine(scorer, metrics)
    inputs, _ = load_samples(built_artifact, cpu.manifest)
    wanted = cpu.score(inputs)
    engine.fails = EngineLostError(reason, "on purpose")
    for _ in range(3):
        answers = scorer.score(inputs)
        assert all(np.array_equal(answers[name], wanted[name]) for name in wanted)
    assert engine.calls == 1
    assert fallbacks(metrics) == {reason: 1}
    assert shown(metrics) == [{"engine": "onnxruntime", "precision": "fp32", "why": f"fallback: {reason}"}]
    assert "the GPU is given up" in caplog.text
    scorer.close()
    assert engine.closed == (reason == "out_of_memory")  # freeing on a device that is lost may hang


def test_a_caller_error_is_not_taken_for_a_lost_engine(built_artifact: Path, metrics: Metrics) -> None:
    engine = OnGpu(built_artifact)
    scorer = FallbackScorer(engine, OnnxScorer(built_artifact), metrics, ON_GPU)
    with pytest.raises(ContractError, match="got nothing"):
        scorer.score({})
    assert fallbacks(metrics) == {}


def test_a_second_caller_does_not_wait_behind_one_that_hangs_in_the_engine(built_artifact: Path, metrics: Metrics) -> None:
    inputs, _ = load_samples(built_artifact, load_manifest(built_artifact))
    answered: list[Tensors] = []

    class Hanging(OnGpu):
        def score(self, inputs: Tensors) -> Tensors:
            answered.append(scorer.score(inputs))  # as another thread would, while this call has not come back
            return super().score(inputs)

    scorer = FallbackScorer(Hanging(built_artifact), OnnxScorer(built_artifact), metrics, ON_GPU)
    scorer.score(inputs)
    assert len(answered) == 1
    assert fallbacks(metrics) == {"hang": 1}


def test_an_engine_on_a_lost_device_is_never_destroyed_also_when_its_model_goes(built_artifact: Path, metrics: Metrics) -> None:
    engine = OnGpu(built_artifact)
    scorer = FallbackScorer(engine, OnnxScorer(built_artifact), metrics, ON_GPU)
    engine.fails = EngineLostError("device_lost", "on purpose")
    inputs, _ = load_samples(built_artifact, engine.manifest)
    kept = weakref.ref(engine)
    del engine
    scorer.score(inputs)
    scorer.close()
    del scorer
    gc.collect()
    assert kept() is not None


def test_a_model_that_served_and_is_lost_later_does_not_say_what_runs_the_one_that_serves(
    built_artifact: Path, metrics: Metrics
) -> None:
    engine, other = OnGpu(built_artifact), RunsOn("onnxruntime-cuda", "fp32", "auto")
    served = FallbackScorer(engine, OnnxScorer(built_artifact), metrics, ON_GPU)
    serves = FallbackScorer(OnGpu(built_artifact), OnnxScorer(built_artifact), metrics, other)
    show_engine(served, metrics)
    show_engine(serves, metrics, served)
    engine.fails = EngineLostError("device_lost", "on purpose")
    served.score(load_samples(built_artifact, engine.manifest)[0])
    assert shown(metrics) == [{"engine": "onnxruntime-cuda", "precision": "fp32", "why": "auto"}]


def test_a_gpu_that_is_lost_in_the_warm_up_is_not_said_to_run_the_model(
    built_artifact: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = OnGpu(built_artifact)
    engine.fails = EngineLostError("device_lost", "on purpose")
    here(monkeypatch, tensorrt=engine)
    with caplog.at_level(logging.INFO):
        scorer = open_scorer(built_artifact, metrics=metrics)
    assert f"model {scorer.version} runs on onnxruntime in fp32 (fallback: device_lost)" in caplog.text
    show_engine(scorer, metrics)
    assert shown(metrics) == [{"engine": "onnxruntime", "precision": "fp32", "why": "fallback: device_lost"}]


def test_the_engine_that_is_shown_is_that_of_the_model_that_serves_whatever_is_loaded_or_lost_beside(
    built_artifact: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    serves = open_scorer(built_artifact, "onnxruntime", metrics=metrics)
    show_engine(serves, metrics)
    engine = OnGpu(built_artifact)
    here(monkeypatch, tensorrt=engine)
    beside = open_scorer(built_artifact, metrics=metrics)
    on_cpu = [{"engine": "onnxruntime", "precision": "fp32", "why": "configured"}]
    assert shown(metrics) == on_cpu
    engine.fails = EngineLostError("hang", "on purpose")
    beside.score(load_samples(built_artifact, load_manifest(built_artifact))[0])
    assert fallbacks(metrics) == {"hang": 1}
    assert shown(metrics) == on_cpu
