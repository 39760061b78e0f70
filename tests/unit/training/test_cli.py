"""The commands: a training from the command line to report, results and artefact, on a small log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from stream_app.__main__ import run as millrace
from stream_app.errors import ConfigError
from tests.unit.training.data.visits import HEADER, MAPPING, line
from training.artifact import check_artifact_folder
from training.cli import main
from training.data.dataset import load_dataset

SOON = MAPPING.replace("plus_ms = 86_400_000", "plus_ms = 60_000")  # a fraud is known within the training range
SMALL = ("--set", "network.preset=tiny", "--epochs", "1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 visits: who sees cheap things likes them, who sees dear ones pays, and what is paid too dearly is a fraud."""
    folder, draw = tmp_path_factory.mktemp("log"), np.random.default_rng(3)
    (folder / "visits.toml").write_text(SOON)
    lines = [HEADER]
    for visit in range(300):
        dear = bool(draw.integers(2))
        at, thing = visit * 200, f"{'d' if dear else 'c'}{draw.integers(5)}"
        who, cost = str(visit % 90), int(draw.integers(10, 1_000))
        lines.append(line(who, at, "see", thing, cost="0"))
        lines.append(line(who, at + 20, "pay" if dear else "like", thing, bad=dear and cost > 700, cost=str(cost)))
        if visit % 3:
            lines.append(line(who, at + 40, "see", f"c{draw.integers(5)}", cost="0"))
    (folder / "visits.csv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def trained(files: Path) -> Result:
    """The training that several tests look at; its folder is `run` beside the log."""
    return invoke(files, "--run", str(files / "run"))


@pytest.fixture
def log(files: Path, trained: Result) -> Path:
    """The log's folder; by then the libraries have loaded, which change the environment when they first do."""
    assert trained.stdout
    return files


def invoke(log: Path, *arguments: str) -> Result:
    files = ["--data", str(log / "visits.csv"), "--mapping", str(log / "visits.toml")]
    return CliRunner().invoke(main, ["train", *files, *SMALL, *arguments])


def last_line(result: Result) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


def test_an_unknown_log_is_trained_on_for_every_task_it_has_labels_for(log: Path, trained: Result) -> None:
    report = last_line(trained)
    assert set(report["tasks"]) >= {"fraud", "next_action", "click", "conversion"}
    assert set(report["tasks"]) | set(report["skipped"]) == {
        "fraud",
        "intent",
        "next_action",
        "click",
        "conversion",
        "user_vector",
    }
    assert (log / "run" / "checkpoint.pt").exists()
    assert Path(report["report"]).read_text().startswith("<!doctype html>")
    assert json.loads((log / "run" / "report.json").read_text())["metrics"].keys() == report["metrics"].keys()
    assert trained.exit_code == (0 if report["beats_floors"] else 1)
    assert all(sentence in trained.stderr for sentence in report["not_beaten"])


def test_what_cannot_be_served_is_refused_before_it_is_trained(log: Path, tmp_path: Path) -> None:
    folders = ("--run", str(tmp_path / "run"), "--out", str(tmp_path / "out"))
    isotonic = ("--set", "tasks.click.calibration=isotonic", "--members", "2")
    result = invoke(log, "--tasks", "click,conversion", *isotonic, *folders)
    assert result.exit_code == 2
    assert "and fraud, intent, next_action, user_vector is not trained" in result.stderr
    assert "isotonic calibration, of click, is not served; use temperature" in result.stderr
    assert "several networks are not served; leave --members out" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_artefact_is_not_replaced(tmp_path: Path) -> None:
    check_artifact_folder(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_artifact_folder(tmp_path / "empty")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"letters would be replaced by an artefact, but holds other files"):
        check_artifact_folder(tmp_path / "letters")
    with pytest.raises(ConfigError, match="name a new folder"):
        check_artifact_folder(tmp_path / "letters" / "mother.txt")


def test_seeds_are_reported_with_mean_and_results_are_kept_by_name(log: Path, tmp_path: Path) -> None:
    options = ("--seeds", "2", "--run", str(tmp_path / "run"), "--results", str(tmp_path / "results.json"), "--name", "small")
    report = last_line(invoke(log, "--tasks", "click", "--keep", str(tmp_path / "set.npz"), "--json", *options))
    mean, *values = report["seeds"]["click"]["auc"]
    assert len(values) == 2
    assert mean == pytest.approx(sum(values) / 2)
    assert sorted(path.name for path in (tmp_path / "run").glob("seed-*/checkpoint.pt")) == ["checkpoint.pt"] * 2
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    [row] = [row for row in rows if row["metric"] == "click.auc"]
    assert (row["name"], row["dataset"], row["seeds"], row["value"]) == ("small", "log", 2, pytest.approx(mean))
    page = CliRunner().invoke(main, ["results", "--results", str(tmp_path / "results.json")])
    assert "click" in Path(last_line(page)["page"]).read_text()
    assert len(load_dataset(tmp_path / "set.npz").tasks) == 6  # the cache serves other tasks too


def test_a_kept_set_of_other_settings_is_refused(log: Path, tmp_path: Path) -> None:
    options = ("--keep", str(tmp_path / "set.npz"), "--run", str(tmp_path / "run"))
    assert last_line(invoke(log, "--tasks", "click", *options))["tasks"] == ["click"]
    result = invoke(log, "--tasks", "click", *options, "--set", "source.session_gap_minutes=5")
    assert result.exit_code == 2
    assert "session_gap_minutes" in result.stderr
    assert "Delete the file" in result.stderr


def test_a_report_can_be_drawn_again(log: Path) -> None:
    page = log / "run" / "report.html"
    before = page.read_text()
    page.unlink()
    assert last_line(CliRunner().invoke(main, ["report", str(log / "run")]))["bytes"] == page.stat().st_size
    assert page.read_text() == before


def test_a_task_without_labels_is_an_error_with_the_fix(log: Path, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.csv"
    header, *rows = (log / "visits.csv").read_text().splitlines()
    quiet.write_text("\n".join([header, *(f"{row.rsplit(',', 1)[0]},no" for row in rows)]))
    arguments = ["--data", str(quiet), "--mapping", str(log / "visits.toml"), "--tasks", "fraud", "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(main, ["train", *arguments, *SMALL])
    assert result.exit_code == 2
    assert "task fraud: none of the" in result.stderr
    assert 'topic = "labels"' in result.stderr


def test_wrong_usage_says_all_of_it(log: Path) -> None:
    for arguments, message in (
        (["--data", "nowhere.csv"], "the rows of the file have no mapping"),
        (["--data", "nowhere.csv", "--mapping", "taobao"], "cannot read nowhere.csv"),
        (["--preset", "demo", "--config", "tiny"], "name two configurations"),
        (["--preset", "gigantic"], "no such configuration"),
        (["--preset", "tiny", "--data", "a.npz", "--keep", "b.npz"], "give one of them"),
        (["--data", "nowhere.npz"], "nowhere.npz: no such file; name a configuration"),
        (["--preset", "tiny", "--protocol", "sessions"], "a simulation is split by time of arrival only"),
        (
            ["--config", "uci", "--data", "x.csv", "--folds", "--out", "x", "--seeds", "2"],
            "--out, --seeds: not with --folds",
        ),
        (["--set", "training.batch"], "give KEY=VALUE"),
        (["--set", "training.batches=3"], "did you mean batch"),
    ):
        result = CliRunner().invoke(main, ["train", *arguments])
        assert result.exit_code != 0
        assert message in result.stderr


def test_options_alone_mean_train_and_help_shows_the_commands(log: Path) -> None:
    helped = CliRunner().invoke(main, ["--help"]).stdout
    assert all(command in helped for command in ("train", "search", "results", "report"))
    assert "--mapping" in CliRunner().invoke(main, ["train", "--help"]).stdout
    assert "two configurations" in CliRunner().invoke(main, ["--preset", "demo", "--config", "tiny"]).stderr


def test_millrace_train_is_the_same_command(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def started(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr("stream_app.cli.logs.train.subprocess.run", started)
    assert millrace(["train", "--data", "x.csv", "--help"]) == 3
    assert called == [[sys.executable, "-m", "training", "train", "--data", "x.csv", "--help"]]
    monkeypatch.setattr("stream_app.cli.logs.train.importlib.util.find_spec", lambda name: None)
    assert millrace(["train"]) == 2
