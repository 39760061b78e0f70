"""A journal replay goes on after a kill, and begins with a snapshot of live state: every answer behind it is the live one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_app.codec.answers import answer_id
from stream_app.config import environ_from
from stream_app.errors import InputFileError
from stream_app.logs.log_issues import LogIssues
from stream_app.replay.answer_files import answers_in
from stream_app.replay.compare import compare
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_recording
from tests.scoring import make_events
from tests.unit.stream_app.replay.journal.test_journal_replay import NAMES, SETTINGS
from tests.unit.stream_app.replay.live_world import GROUPS, LiveWorld
from tests.unit.stream_app.replay.test_resume import counted, digests, killed

EVENTS = make_events(500, users=[f"u-{n}" for n in range(12)], devices=["d-1", "d-2"], span_ms=172_800_000)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With copies of the last events at the end, and late ones."""
    late = [msgspec.structs.replace(EVENTS[n], event_id=f"late-{n}") for n in range(5)]
    return LiveWorld([*EVENTS, *EVENTS[-40:], *late]).run(3).record(tmp_path_factory.mktemp("run") / "recorded")


def replayed(recorded: Path, folder: Path, stop_after: int = 1 << 30, **options: Any) -> dict[str, Any]:
    calls = [0]

    def stop() -> bool:
        calls[0] += 1
        return calls[0] == stop_after

    asked = ReplayOptions(out=folder / "out", features_out=folder / "features", **options)
    return replay_recording(SETTINGS, recorded, (), asked, LogIssues(), Callbacks(stop=stop))


def test_a_journal_replay_that_is_stopped_anywhere_leaves_the_bytes_of_one_that_was_not(recorded: Path, tmp_path: Path) -> None:
    whole = replayed(recorded, tmp_path / "whole")
    stops = 0
    while not (line := replayed(recorded, tmp_path / "stopped", 4))["complete"]:
        assert line["resumable"]
        stops += 1
    assert stops > 8
    assert counted(line) == counted(whole)
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_a_journal_replay_that_was_killed_goes_on_and_leaves_the_same_bytes(recorded: Path, tmp_path: Path) -> None:
    environ = {**os.environ, **environ_from(SETTINGS)}
    asked = [
        "--order",
        "journal",
        "--out",
        str(tmp_path / "killed" / "out"),
        "--features-out",
        str(tmp_path / "killed" / "features"),
    ]
    at = killed([str(recorded), *asked, "--checkpoint-s", "0"], tmp_path / "killed", environ)
    resumed = replayed(recorded, tmp_path / "killed")
    assert resumed["resumed_at"] == at > 0
    assert counted(resumed) == counted(replayed(recorded, tmp_path / "whole"))
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


@pytest.mark.parametrize("snapshot_at", [0, 10, 25, 40])
def test_a_journal_replay_from_a_snapshot_of_a_busy_deployment_is_the_live_run_from_there_on(
    snapshot_at: int, tmp_path: Path
) -> None:
    world = LiveWorld([*EVENTS, *EVENTS[-40:]]).run(5, snapshot_at)
    recorded, snapshot = world.record(tmp_path / "recorded"), world.snapshot(tmp_path / "live.state")
    line = replayed(recorded, tmp_path / "whole", snapshot=snapshot)
    differences = compare(recorded, tmp_path / "whole" / "out", NAMES)
    assert differences.same, differences.line()
    assert differences.events + differences.before == 540
    assert differences.features
    assert line["left_out"] < 100
    before = {
        answer_id(topic, group, at)
        for group, dump in world.dumps.items()
        for topic, end in dump.fronts.items()
        for at in range(end)
    }
    answers = {record.answer_id for record in answers_in(tmp_path / "whole" / "out")}
    assert not before & answers
    assert len(before) + line["left_out"] == differences.before
    while not replayed(recorded, tmp_path / "stopped", 6, snapshot=snapshot)["complete"]:
        pass
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


def test_what_the_topics_no_longer_hold_is_not_missed_behind_a_snapshot(tmp_path: Path) -> None:
    world = LiveWorld(EVENTS).run(5, 25)
    recorded, snapshot = world.record(tmp_path / "recorded"), world.snapshot(tmp_path / "live.state")
    for group, dump in world.dumps.items():
        journal = recorded / "live" / f"journal-{group}.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[dump.commit :]))
        for topic, front in dump.fronts.items():
            log = recorded / "log" / f"{topic}-{group}.jsonl"
            log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[front:]))
    replayed(recorded, tmp_path / "out", snapshot=snapshot)
    differences = compare(recorded, tmp_path / "out" / "out", NAMES)
    assert differences.same, differences.line()
    with pytest.raises(InputFileError, match=r"lacks commit 1 .* begin with a snapshot taken behind it"):
        replayed(recorded, tmp_path / "other")


def test_a_snapshot_of_another_number_of_groups_is_refused(recorded: Path, tmp_path: Path) -> None:
    world = LiveWorld(EVENTS[:50]).run(5, 0)
    del world.dumps[GROUPS - 1]
    with pytest.raises(InputFileError, match="has 3 partition groups, the recorded run 4"):
        replayed(recorded, tmp_path, snapshot=world.snapshot(tmp_path / "live.state"))


def test_a_replay_of_the_whole_log_is_compared_as_a_whole_again(recorded: Path, tmp_path: Path) -> None:
    world = LiveWorld(EVENTS[:50]).run(5, 4)
    replayed(world.record(tmp_path / "few"), tmp_path, snapshot=world.snapshot(tmp_path / "live.state"))
    replayed(recorded, tmp_path, resume=False)
    assert compare(recorded, tmp_path / "out", NAMES).before == 0
