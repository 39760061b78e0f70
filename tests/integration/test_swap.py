"""Models change under load on real services, and nothing is lost or answered by a mixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.swap import SwapPlan, SwapRun
from devservices.state import ServicesState
from stream_app.reporting.progress import Reporter
from verification.harness.namespace import RunNamespace
from verification.harness.processes import Fleet

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def test_swaps_under_load_lose_nothing_and_mix_nothing(real_services: ServicesState, tmp_path: Path) -> None:
    models = tmp_path / "models"
    space = RunNamespace.fresh("swap-", real_services, tmp_path, SwapRun.settings(models), partitions=2)
    try:
        run = SwapRun.prepare(SwapPlan(swaps=3, rate=200.0, before_s=4.0, pause_s=0.2), Reporter(elapsed=True), space, models)
        with Fleet(space.folder, 0) as fleet:
            figures = run.run(fleet)
    finally:
        space.remove()
    assert figures["events"] > 1_000
    assert (figures["lost"], figures["problems"], figures["mixed"]) == (0, {}, 0)
    assert (figures["swaps"], figures["swaps_seen"], figures["worker_restarts"]) == (3, 3, 0)
