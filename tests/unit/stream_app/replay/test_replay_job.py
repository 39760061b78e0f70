"""A replay of wrong options is refused before it writes; one that goes on counts nothing twice and forgets nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from stream_app.cli.logs.replay import command
from stream_app.errors import ConfigError
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.replay import replay_job
from stream_app.replay.checkpoints.checkpoint import model_identity
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from stream_app.store.memory import MemoryStore
from stream_app.wiring import build_engine, shared_kinds
from tests.scoring import make_events, topic_of
from tests.unit.stream_app.replay.test_canonical import SETTINGS

EVENTS = make_events(40, users=["u-1", "u-2"], devices=["d"], seed=8)


def line_of(topic: str, value: bytes, time_ms: int, user: str) -> bytes:
    return msgspec.json.encode({"topic": topic, "key": user, "value": value.decode(), "time_ms": time_ms}) + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Each event is followed by a label, an invalid label and an invalid record of the same time; and one garbled line."""
    lines = []
    for event in EVENTS:
        at_ms = event.event_time_ms
        label = {"event_id": event.event_id, "user": event.user, "label_time_ms": at_ms, "task": "fraud", "value": 1.0}
        lines.append(line_of(topic_of(event), msgspec.json.encode(event), at_ms, event.user))
        lines.append(line_of("labels", msgspec.json.encode(label), at_ms, event.user))
        lines.append(line_of("labels", b"{}", at_ms, event.user))
        lines.append(line_of("clicks", b"{}", at_ms, event.user))
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join([*lines, b"no record\n"]))
    return path


def replayed(log: Path, out: Path, stop_after: int = 1 << 30, **options: Any) -> dict[str, Any]:
    calls = [0]

    def stop() -> bool:
        calls[0] += 1
        return calls[0] == stop_after

    replay_options = replace(ReplayOptions(paths=(str(log),), out=out, batch=7), **options)
    return replay_log(SETTINGS, replay_options, LogIssues(), Callbacks(stop=stop))


def counted(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("resumed_at", "seconds", "events_per_s")}


@pytest.mark.parametrize("stop_after", [1, 3, 8])
def test_a_replay_that_goes_on_counts_labels_and_problems_as_one_that_was_not_stopped(
    log: Path, tmp_path: Path, stop_after: int
) -> None:
    whole = replayed(log, tmp_path / "whole")
    assert (whole["labels"], whole["dead_letters"], whole["problems"]) == (40, 40, 81)
    stopped = replayed(log, tmp_path / "stopped", stop_after)
    assert (stopped["complete"], stopped["resumable"]) == (False, True)
    again = replayed(log, tmp_path / "stopped", 2)
    assert 0 < again["resumed_at"] < again["records"] < whole["records"]
    assert counted(replayed(log, tmp_path / "stopped")) == counted(whole)


def test_labels_go_with_the_record_before_them_wherever_reading_begins(log: Path) -> None:
    chunks = list(chunks_of(open_log([log]), 1))
    for done in range(len(chunks)):
        rest = [label for chunk in chunks_of(open_log([log]), 1, done) for label in chunk.labels]
        assert rest == [label for chunk in chunks[done:] for label in chunk.labels]


def test_a_prefix_that_holds_an_earlier_replay_is_refused_and_its_answers_stay(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(1, shared_kinds(build_engine(SETTINGS)))
    monkeypatch.setattr(replay_job, "build_store", lambda *_: store)
    replayed(log, tmp_path / "out", 3, prefix="mine:")  # the third batch is written, and not committed
    before = (tmp_path / "out" / "intent-labels.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"holds the state of another one \(14 records\)"):
        replayed(log, tmp_path / "out", prefix="mine:", resume=False)
    assert (tmp_path / "out" / "intent-labels.jsonl").read_bytes() == before != b""


class _CutOffError(Exception):
    """Ends a replay in the middle of a batch, as a kill does."""


@pytest.mark.parametrize("is_written", [True, False], ids=["written, not committed", "committed, the next one half written"])
def test_a_replay_over_a_store_goes_on_from_what_the_store_has_committed(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    store = MemoryStore(1, shared_kinds(build_engine(SETTINGS)))
    monkeypatch.setattr(replay_job, "build_store", lambda *_: store)
    whole = replayed(log, tmp_path / "whole")
    for stop_after in (2, 3):
        if is_written:
            assert replayed(log, tmp_path / "out", stop_after, prefix="mine:")["resumable"]
            continue

        def cut_off(records: int, _note: str, limit: int = 14 * stop_after) -> None:
            if records > limit:
                raise _CutOffError

        replay_options = ReplayOptions(paths=(str(log),), out=tmp_path / "out", batch=7, prefix="mine:")
        with pytest.raises(_CutOffError):
            replay_log(SETTINGS, replay_options, LogIssues(), Callbacks(progress=cut_off))
    resumed = replayed(log, tmp_path / "out", prefix="mine:")
    assert resumed["resumed_at"] > 14
    assert counted(resumed) == counted(whole)
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "out" / ".replay").exists()


def test_a_checkpoint_is_of_one_model_and_of_files_that_did_not_change(log: Path, tmp_path: Path) -> None:
    replayed(log, tmp_path / "out", 2)
    os.utime(log, ns=(1, 1))
    with pytest.raises(ConfigError, match="another replay"):
        replayed(log, tmp_path / "out")

    model = replace(SETTINGS.model, path=str(tmp_path), engine="onnxruntime")
    identities = []
    for version in ("a", "b"):
        (tmp_path / "manifest.json").write_text(version)
        identities.append(model_identity(model))
    assert identities[0] != identities[1] != model_identity(replace(model, precision="fp16"))


def test_features_are_not_written_among_the_files_of_the_log(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds log\.jsonl of the log"):
        replayed(log, tmp_path / "out", features_out=tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "resumable", "message"),
    [
        (["--out", "x"], True, "run the same command again to go on"),
        (["--out", "x", "--restart"], True, "without --restart"),
        (["--to-topics", "x"], False, "the same command begins anew"),
        (["--to-topics", "x", "--store", "redis", "--prefix", "p:"], False, "begin anew with an empty --prefix"),
    ],
)
def test_a_stopped_replay_prints_what_the_same_command_would_do(
    monkeypatch: pytest.MonkeyPatch, options: list[str], resumable: bool, message: str
) -> None:
    result = {"complete": False, "records": 3, "resumable": resumable}
    monkeypatch.setattr(replay_job, "replay_log", lambda *_: result)
    done = CliRunner().invoke(command, ["log", *options])
    assert done.exit_code == 130
    assert message in done.stderr
    assert json.loads(done.stdout) == result
