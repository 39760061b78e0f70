"""Answers as Parquet say what the JSON lines say, to the byte; a replay that goes on leaves the tables of one not stopped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.docgen.examples import EXAMPLES
from stream_app.errors import ConfigError, InputFileError
from stream_app.events import Candidate, Event, FraudAlert, IntentLabel, Reason, RecommendationCandidates
from stream_app.logs.answer_tables import TABLE_TYPES, answer_table, answers_of
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.parquet_parts import ParquetParts
from stream_app.replay import sinks
from stream_app.replay.answer_files import answers_in
from stream_app.replay.compare import compare
from stream_app.replay.replay_job import Callbacks, ReplayOptions, replay_log
from tests.scoring import make_events
from tests.unit.stream_app.replay.killed import killed_at_the_end
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FLOAT = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=8)


def read_back(folder: Path, topic: str, values: list[bytes]) -> list[bytes]:
    parts = ParquetParts(folder / topic, rows=3)
    for start in range(0, len(values), 2):
        parts.append(answer_table(topic, values[start : start + 2]))
    parts.finish()
    return list(answers_of(topic, folder / topic))


def varied(topic: str) -> list[Any]:
    """Return the example of a topic, and what else its messages may hold."""
    example: Any = EXAMPLES[topic]
    changes: dict[str, list[dict[str, Any]]] = {
        "fraud-alerts": [{"reasons": [], "rules": ["a", "b"], "degraded": True, "duplicate_of": "orders-1-1", "entities": None}],
        "intent-labels": [{"fraud_probability": 0.1 + 0.2, "click_probability": 5e-324, "degraded": True}],
        "recommendation-candidates": [{"items": []}, {"items": [Candidate(f"i-{n}", 1 / (n + 3), "model") for n in range(50)]}],
        "dead-letters": [
            {"key": None, "value": None, "headers": []}, {"key": b"", "value": b"\xff\x00", "headers": [("a", None), ("a", b"")]},
        ],
        "late-events": [{"event": msgspec.Raw('{"user" : "ü", "own": [1.50, null]}'.encode())}],
        "features": [{"tensors": b""}],
    }  # fmt: skip
    return [example, *(msgspec.structs.replace(example, **change) for change in changes[topic])]


@pytest.mark.parametrize("topic", TABLE_TYPES)
def test_messages_of_every_topic_come_back_as_they_were(tmp_path: Path, topic: str) -> None:
    values = [msgspec.json.encode(message) for message in varied(topic)] * 3
    assert read_back(tmp_path, topic, values) == values


@settings(max_examples=30, deadline=None)
@given(numbers=st.lists(FLOAT, min_size=4, max_size=4), said=TEXT, count=st.integers(0, 3))
def test_any_numbers_and_texts_come_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], said: str, count: int
) -> None:
    alert, label, candidates = (EXAMPLES[topic] for topic in ("fraud-alerts", "intent-labels", "recommendation-candidates"))
    assert isinstance(alert, FraudAlert)
    assert isinstance(label, IntentLabel)
    assert isinstance(candidates, RecommendationCandidates)
    told: dict[str, msgspec.Struct] = {
        "fraud-alerts": msgspec.structs.replace(alert, currency=said, reasons=[Reason(said, *numbers[:2])] * count),
        "intent-labels": msgspec.structs.replace(
            label, user=said, probabilities=dict(zip(label.probabilities, numbers, strict=True))
        ),
        "recommendation-candidates": msgspec.structs.replace(candidates, items=[Candidate(said, numbers[0], said)] * count),
    }
    for topic, message in told.items():
        value = msgspec.json.encode(message)
        assert read_back(tmp_path_factory.mktemp("tables"), topic, [value]) == [value]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Events, some twice, some a day late; and two records that are no events."""
    events: list[Event] = make_events(300, users=["u-1", "u-2"], devices=["d"], span_ms=200_000_000)
    path = write_log(tmp_path / "log.jsonl", [*events, *events[::25]])
    with path.open("ab") as file:
        file.write(b'{"topic":"clicks","key":"u-1","value":"{}","time_ms":1728000000000}\n' * 2)
    return path


def replayed(log: Path, out: Path, *, stop_after: int = 1 << 30, **options: Any) -> dict[str, Any]:
    told = iter(range(1, 1 << 30))
    asked = ReplayOptions(paths=(str(log),), out=out, answers_format="parquet", batch=13)
    stop: Callable[[], bool] = lambda: next(told) == stop_after  # noqa: E731
    return replay_log(SETTINGS, replace(asked, **options), LogIssues(), Callbacks(stop=stop))


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 50)
    monkeypatch.setattr(sinks, "_LARGE_ROWS", 1)


@pytest.mark.usefixtures("small_parts")
def test_a_replay_writes_the_same_answers_as_tables_and_as_json_lines(log: Path, tmp_path: Path) -> None:
    line = replayed(log, tmp_path / "tables")
    replayed(log, tmp_path / "lines", answers_format="jsonl")
    said = list(answers_in(tmp_path / "tables"))
    assert sorted(said) == sorted(answers_in(tmp_path / "lines"))
    assert line["answers"] == {topic: sum(one.topic == topic for one in said) for topic in line["answers"]}
    assert {"dead-letters", "intent-labels", "recommendation-candidates"} <= line["answers"].keys()
    found = compare(tmp_path / "lines", tmp_path / "tables", [])
    assert (found.differing_events, found.missing, found.extra, found.messages) == (0, 0, 0, len(said))

    # What an analyst reads: one flat table a topic, also of a topic on which nothing was said.
    labels = parquet.read_table(tmp_path / "tables" / "intent-labels")
    assert len(list((tmp_path / "tables" / "intent-labels").iterdir())) == math.ceil(len(labels) / 50)
    assert labels["event_id"].to_pylist() == [
        msgspec.json.decode(one.value)["event_id"] for one in said if one.topic == "intent-labels"
    ]
    assert set(labels.column_names) >= {"source_topic", "source_offset", "probability_buy", "fraud_probability"}
    assert parquet.read_table(tmp_path / "tables" / "fraud-alerts").column_names[:2] == ["answer_id", "event_id"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("stop_after", [1, 5, 20])
def test_a_replay_that_was_stopped_goes_on_and_leaves_the_same_tables(log: Path, tmp_path: Path, stop_after: int) -> None:
    replayed(log, tmp_path / "whole")
    assert not replayed(log, tmp_path / "stopped", stop_after=stop_after)["complete"]
    assert replayed(log, tmp_path / "stopped", stop_after=3)["resumed_at"] > 0
    assert replayed(log, tmp_path / "stopped")["complete"]
    assert digests(tmp_path / "stopped") == digests(tmp_path / "whole")


@pytest.mark.usefixtures("small_parts")
def test_a_kill_behind_the_last_part_leaves_what_the_checkpoint_needs(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed(log, tmp_path / "whole")
    replayed(log, tmp_path / "killed", stop_after=9)
    killed_at_the_end(monkeypatch, lambda: replayed(log, tmp_path / "killed"))
    assert replayed(log, tmp_path / "killed")["complete"]
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_answers_of_two_formats_do_not_meet_in_one_folder(log: Path, tmp_path: Path) -> None:
    replayed(log, tmp_path / "tables")
    replayed(log, tmp_path / "lines", answers_format="jsonl")
    with pytest.raises(ConfigError, match="holds answers as Parquet"):
        replayed(log, tmp_path / "tables", answers_format="jsonl")
    with pytest.raises(ConfigError, match="holds answers as JSON lines"):
        replayed(log, tmp_path / "lines")
    with pytest.raises(ConfigError, match="is where --answers-format parquet writes the topic features"):
        replayed(log, tmp_path / "both", features_out=tmp_path / "both" / "features")
    assert not (tmp_path / "both").exists()


def test_features_beside_answers_in_json_lines_are_no_answers(log: Path, tmp_path: Path) -> None:
    for _ in range(2):
        replayed(log, tmp_path / "out", answers_format="jsonl", features_out=tmp_path / "out" / "features")
    assert {said.topic for said in answers_in(tmp_path / "out")} >= {"intent-labels"}


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "intent-labels").mkdir()
    parquet.write_table(pa.table({"x": [1]}), tmp_path / "intent-labels" / "part-00000.parquet")
    with pytest.raises(InputFileError, match="is no table of intent-labels: its columns are x"):
        list(answers_in(tmp_path))
    (tmp_path / "intent-labels" / "part-00000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputFileError, match="is no readable Parquet file"):
        list(answers_in(tmp_path))
