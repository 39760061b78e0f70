from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stream_app.__main__ import millrace
from tests.unit.stream_app.logs.ingest.mappings_for_tests import VISITS, read_jsonl, visits


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "visits.csv").write_text(visits(90))
    (tmp_path / "visits.toml").write_text(VISITS)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(millrace, args)


def last_line(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    line: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return line


def test_import_writes_a_file_and_prints_its_summary_last(folder: Path) -> None:
    line = last_line(run("import", "visits.csv", "--mapping", "visits.toml", "--to", "out.jsonl"))
    keys = ("rows", "events", "by_topic", "refused", "refused_by_reason", "labels", "seconds", "events_per_s")
    assert set(keys) <= set(line)
    assert line["events"] == 90
    assert len(read_jsonl(folder / "out.jsonl")) == 90
    assert not list((folder / ".millrace").rglob("*.json"))  # complete: nothing is left to go on with


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none.csv", "--mapping", "taobao"), "cannot read none.csv: No such file"),
        (("visits.csv", "--mapping", "none"), "cards, ecommerce, taobao, terminals"),
        (("visits.csv", "--mapping", "cards"), "no Parquet file"),
        (("visits.csv", "--mapping", "visits.toml", "--to", "nowhere/out.jsonl"), "folder that exists"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input_is_one_message_without_a_traceback(args: tuple[str, ...], said: str) -> None:
    result = run("import", *args)
    assert result.exit_code != 0
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_simulate_writes_the_same_file_for_a_seed_and_prints_its_summary_last(folder: Path) -> None:
    args = ("simulate", "--events", "2000", "--rate", "0", "--users", "200", "--items", "200", "--malformed-share", "0.05")
    line = last_line(run(*args, "--to", "one.jsonl"))
    last_line(run(*args, "--to", "two.jsonl"))
    assert (folder / "one.jsonl").read_bytes() == (folder / "two.jsonl").read_bytes()
    assert line["events"] == 2_000
    assert len(read_jsonl(folder / "one.jsonl")) == 2_000 + int(str(line["labels"]))
    assert 40 < int(str(line["malformed"])) < 160


def test_simulate_live_ends_after_its_seconds(folder: Path) -> None:
    line = last_line(run("simulate", "--live", "--seconds", "0.5", "--rate", "400", "--to", "live.jsonl"))
    assert line["live"] is True
    assert 0 < int(str(line["events"])) <= 201
    assert line["events"] == sum(topic != "labels" for topic, *_ in read_jsonl(folder / "live.jsonl"))


def test_wrong_shares_are_refused_by_name() -> None:
    result = run("simulate", "--fraud-share", "2", "--to", "x.jsonl")
    assert result.exit_code == 2
    assert "--fraud-share" in result.output


@pytest.mark.parametrize("command", ["simulate", "import"])
def test_help_shows_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples:\n\s+millrace {command}", result.output)
