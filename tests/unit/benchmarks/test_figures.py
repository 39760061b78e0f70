from __future__ import annotations

import json
from pathlib import Path

from benchmarks.figures import page
from verification.harness.results import print_figures


def test_saved_figures_become_rows_with_command_commit_and_date(tmp_path: Path) -> None:
    figures = {"p99_ms_before": 52.0, "p99_ms_during": 88.0, "ratio": 1.69}
    print_figures("swap", {**figures, "commit": "x"}, save=True, folder=tmp_path)
    result = json.loads((tmp_path / "swap.json").read_text())
    assert result["figures"] == figures
    assert result.keys() == {"name", "command", "commit", "dirty", "machine", "python", "date", "figures"}
    (row,) = [line for line in page(tmp_path).splitlines() if line.startswith("| p99")]
    assert "52 ms, 88 ms (ratio 1.69)" in row
    assert result["commit"] in row
    assert result["date"][:10] in row
    assert "answers lost" not in page(tmp_path)  # the file lacks these figures


def test_without_save_nothing_is_written(tmp_path: Path) -> None:
    print_figures("swap", {"ratio": 1.0}, save=False, folder=tmp_path)
    assert not list(tmp_path.iterdir())
