"""A folder that the report of a backtest cannot be written to is told before the log is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from stream_app.__main__ import millrace

pytest.importorskip("pyarrow")
pytest.importorskip("matplotlib")


def said_with(out: Path) -> str:
    asked = ["backtest", "card-handbook", "--data", str(out.parent / "no log"), "--out", str(out)]
    done = CliRunner().invoke(millrace, asked)
    assert done.exit_code != 0
    assert "Traceback" not in done.output
    return done.stderr


def test_a_folder_that_cannot_be_written_is_refused_before_the_log_is_opened(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    said = said_with(tmp_path / "taken" / "report")
    assert "cannot write to" in said
    assert "--out" in said
    assert "there is no log file" in said_with(tmp_path / "free")
