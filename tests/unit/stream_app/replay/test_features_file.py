"""A features folder keeps foreign files, and the files that a checkpoint needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stream_app.logs.log_issues import LogIssues
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from tests.scoring import make_events
from tests.unit.stream_app.replay.killed import killed_at_the_end
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log

pytest.importorskip("pyarrow")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.jsonl", make_events(60, users=["u-1"], devices=["d"]))


def replayed(log: Path, folder: Path, stops: int = 0) -> dict[str, Any]:
    options = ReplayOptions(paths=(str(log),), out=folder / "out", features_out=folder / "features", batch=20)
    stop_answers = iter([False, True] if stops else [])
    return replay_log(SETTINGS, options, LogIssues(), Callbacks(stop=lambda: next(stop_answers, False)))


def test_files_of_other_names_stay_and_do_not_count_as_parts(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    folder.mkdir()
    foreign = {"part-00000-0c8f.snappy.parquet", "part-mydata.parquet"}
    for name in foreign:
        (folder / name).write_text("precious")
    (folder / "part-00007.parquet").write_text("of an earlier replay")
    replayed(log, tmp_path)
    assert {path.name for path in folder.iterdir()} == {*foreign, "part-00000.parquet"}
    assert all((folder / name).read_text() == "precious" for name in foreign)


def test_a_kill_between_the_last_part_and_the_end_leaves_a_replay_that_goes_on(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not replayed(log, tmp_path, stops=1)["complete"]
    killed_at_the_end(monkeypatch, lambda: replayed(log, tmp_path))
    line = replayed(log, tmp_path)
    assert (line["resumed_at"], line["records"], line["complete"]) == (40, 60, True)
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["part-00000.parquet"]
