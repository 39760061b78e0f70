"""What wiring joins: a worker's own metrics and its model, with a registry and without."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stream_app import wiring
from stream_app.clock import SystemClock
from stream_app.config import Settings
from stream_app.errors import ModelFailedError
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.registry.registry_factory import open_registry
from stream_app.metrics import Metrics

DEMO = Path(__file__).resolve().parents[3] / "model" / "artifacts" / "demo"


@pytest.mark.parametrize("from_registry", [False, True])
def test_a_worker_whose_model_fails_says_in_its_own_metrics_that_it_is_degraded_and_when_no_more(
    from_registry: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings()
    model = replace(settings.model, engine="onnxruntime", path=str(DEMO), comparisons="")
    if from_registry:
        model = replace(model, registry=str(tmp_path / "models"))
        registry = open_registry(model.registry, SystemClock())
        registry.promote(registry.add(DEMO), by="t", why="")
    kept = CollectorRegistry()
    settings = replace(settings, model=model)
    models = wiring._live_models(settings, wiring.build_engine(settings), Metrics(kept), "worker")
    inputs = load_samples(DEMO, load_manifest(DEMO))[0]
    users = [bytes([row]) for row in range(len(inputs["dense"]))]

    def fails(_self: ModelRanker, _inputs: Any) -> Any:
        raise ModelFailedError("on purpose")

    with ExitStack() as running:
        for thread in models.background:
            running.enter_context(thread)
        assert not models.ranker.rank(inputs, users).degraded
        assert kept.get_sample_value("millrace_degraded") == 0
        with monkeypatch.context() as broken:
            broken.setattr(ModelRanker, "answer", fails)
            while kept.get_sample_value("millrace_degraded") == 0:
                assert models.ranker.rank(inputs, users).degraded
        while models.ranker.rank(inputs, users).degraded:
            pass
    assert kept.get_sample_value("millrace_degraded") == 0
    events = kept.get_sample_value("millrace_degraded_events_total")
    assert events is not None
    assert events >= 3 * len(users)
