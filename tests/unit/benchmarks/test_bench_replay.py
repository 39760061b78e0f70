"""`make bench-replay` in small: every figure is there, and the offline tools have Millrace's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.config import Settings

CHECKOUT = Path(__file__).resolve().parents[3]
DATA = CHECKOUT.parent / "shared" / "data"
MODEL = CHECKOUT / Settings().model.path


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout: the offline tools need the card log")
def test_a_quick_run_prints_every_figure_and_the_offline_tools_agree() -> None:
    command = [sys.executable, "-m", "benchmarks.bench_replay", "--quick", "--live", "1000", "--model", str(MODEL)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["polars_differences"] == figures["duckdb_differences"] == 0
    assert set(figures["peak_rss_mb"]) == {"10000", "40000"}
    rates = ("features_events_per_s", "model_events_per_s", "polars_events_per_s", "duckdb_events_per_s", "live_ratio")
    assert all(figures[name] > 0 for name in rates)
    assert len(figures["offline_features"]) == 20
