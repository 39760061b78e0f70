"""Journal replay repeats a live run to the bit, however the workers' batches interleaved; `diff` tells where one does not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stream_app.codec.feature_rows import decode_tensors, encode_feature_rows
from stream_app.config import KafkaSettings, ModelSettings, Settings
from stream_app.errors import InputFileError
from stream_app.events import FeatureRow, JournalLine
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.logs.recording import RecordedRun
from stream_app.replay.canonical import CanonicalReplay
from stream_app.replay.compare import compare
from stream_app.replay.journal.journal_order import serial_order
from stream_app.replay.journal.journal_replay import JournalReplay
from stream_app.replay.sinks import AnswerFiles
from tests.scoring import make_events, scoring_engine
from tests.unit.stream_app.replay.live_world import GROUPS, LiveWorld

SETTINGS = Settings(model=ModelSettings(engine="none"), kafka=KafkaSettings(partitions=GROUPS))
NAMES = scoring_engine().feature_names


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = make_events(500, users=[f"u-{n}" for n in range(12)], devices=["d-1", "d-2"], span_ms=172_800_000)
    late = [msgspec.structs.replace(events[n], event_id=f"late-{n}") for n in range(5)]
    return LiveWorld([*events, *events[-40:], *late]).run(3).record(tmp_path_factory.mktemp("run") / "recorded")


def replayed_by_journal(recorded: Path, out: Path) -> Path:
    sink = AnswerFiles(out)
    with JournalReplay(SETTINGS, RecordedRun(recorded)) as replay:
        for batch in replay.batches():
            sink.write(batch.messages)
    sink.close()
    return out


def test_a_journal_replay_is_the_live_run_to_the_bit(recorded: Path, tmp_path: Path) -> None:
    differences = compare(recorded, replayed_by_journal(recorded, tmp_path / "out"), NAMES)
    assert differences.same, differences.line()
    assert (differences.events, differences.features) == (545, True)
    lines = RecordedRun(recorded).journal().values()
    assert len({(line.reads["0"], line.reads["3"]) for line in lines}) > 15, "the workers' batches did not interleave"


def test_a_canonical_replay_differs_from_a_live_run_in_shared_entities(recorded: Path, tmp_path: Path) -> None:
    sink = AnswerFiles(tmp_path / "out")
    with CanonicalReplay(SETTINGS, scoring_engine()) as replay:
        for batch in replay.batches(chunks_of(open_log([recorded / "log"]), 64)):
            sink.write(batch.messages)
    sink.close()
    differences = compare(recorded, tmp_path / "out", NAMES, ignore=("scored_time_ms",))
    assert not differences.same
    assert differences.missing == 0 or set(differences.fields) >= {"late-events: (message)"}


def test_diff_names_the_first_event_and_feature_that_differ(recorded: Path, tmp_path: Path) -> None:
    out = replayed_by_journal(recorded, tmp_path / "out")
    lines = (out / "features.jsonl").read_bytes().splitlines()
    row = msgspec.json.decode(lines[7], type=FeatureRow)
    tensors = {name: value[None].copy() for name, value in decode_tensors(row).items()}
    tensors["dense"][0, 11] += 1
    [lines[7]] = encode_feature_rows([row.answer_id], tensors, row.features_version)
    (out / "features.jsonl").write_bytes(b"\n".join([*lines, b""]))
    differences = compare(recorded, out, NAMES)
    assert (differences.differing_events, dict(differences.fields), differences.largest) == (
        1,
        {f"features: {NAMES[11]}": 1},
        {NAMES[11]: 1.0},
    )
    assert differences.first is not None
    assert differences.first["answer_id"] == row.answer_id
    [difference] = differences.first["differences"]
    assert (difference["field"], difference["replay"] - difference["live"]) == (NAMES[11], 1.0)


def test_diff_counts_what_one_side_lacks(recorded: Path, tmp_path: Path) -> None:
    out = replayed_by_journal(recorded, tmp_path / "out")
    labels = (out / "intent-labels.jsonl").read_bytes().splitlines(keepends=True)
    (out / "intent-labels.jsonl").write_bytes(b"".join(labels[1:]))
    differences = compare(recorded, out, NAMES)
    assert (differences.missing, differences.extra, differences.differing_events) == (1, 0, 1)
    assert dict(differences.fields) == {"intent-labels: (message)": 1}


def line(group: int, commit: int, reads: dict[str, int]) -> JournalLine:
    return JournalLine(group=group, commit=commit, epoch="", ranges={}, reads=reads, model_version="none", features_version="")


def test_reads_that_saw_what_none_can_have_seen_are_refused() -> None:
    lines = {(0, 1): line(0, 1, {"0": 0, "1": 1}), (1, 1): line(1, 1, {"0": 1, "1": 0})}
    with pytest.raises(InputFileError, match="no order of the journal's commits"):
        list(serial_order(lines, {}))


def test_a_journal_that_lacks_a_commit_is_refused() -> None:
    lines = {(0, 1): line(0, 1, {"0": 0}), (0, 3): line(0, 3, {"0": 2})}
    with pytest.raises(InputFileError, match="lacks commit 2"):
        list(serial_order(lines, {}))


def test_a_commit_waits_for_the_reads_that_did_not_see_it() -> None:
    lines = {(0, 1): line(0, 1, {"0": 0, "1": 0}), (1, 1): line(1, 1, {"0": 0, "1": 0}), (1, 2): line(1, 2, {"0": 0, "1": 1})}
    order = list(serial_order(lines, {}))
    assert order.index(("read", (1, 2))) < order.index(("commit", (0, 1)))
