"""Logs of many files come in order of event time; what is wrong with them is counted, with file and line, or ends the replay."""

from __future__ import annotations

import gzip
import heapq
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs import sorting
from stream_app.logs.ingest.mapping import load_mapping
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import ReplayLog, chunks_of, decoded, open_log
from tests.scoring import BASE_MS, make_events
from tests.unit.stream_app.replay.test_canonical import write_log

EVENTS = make_events(400, users=["u-1", "u-2"], devices=["d"], seed=3)


def identities(log: ReplayLog) -> list[str]:
    return [event.event_id for events, _ in decoded(log, 64) for event in events]


def in_time() -> list[str]:
    return [event.event_id for event in sorted(EVENTS, key=lambda event: event.event_time_ms)]


def compressed(path: Path, how: str) -> Path:
    data = path.read_bytes()
    packed = path.with_name(f"{path.name}.{how}")
    packed.write_bytes(gzip.compress(data) if how == "gz" else zstandard.ZstdCompressor().compress(data))
    path.unlink()
    return packed


def test_files_of_a_pattern_are_merged_by_event_time(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(EVENTS, len(EVENTS))
    compressed(write_log(tmp_path / "a.jsonl", shuffled[:150]), "gz")
    compressed(write_log(tmp_path / "b.jsonl", shuffled[150:300]), "zst")
    write_log(tmp_path / "c.jsonl", shuffled[300:])
    assert identities(open_log([str(tmp_path / "*.jsonl*")])) == in_time()
    assert identities(open_log([tmp_path])) == in_time()


def test_a_log_larger_than_memory_is_sorted_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    spilled = sorting._spilled

    def counted(held: list[LogRecord], path: Path) -> Path:
        runs.append(len(held))
        return spilled(held, path)

    monkeypatch.setattr(sorting, "_spilled", counted)
    log = open_log([write_log(tmp_path / "log.jsonl", random.Random(2).sample(EVENTS, len(EVENTS)))])
    records = list(sorting.sorted_records(log.records(), run_bytes=20_000))
    assert len(runs) > 5
    assert records == list(log.records())


def test_keys_and_headers_count_as_memory_and_huge_records_are_read_back_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, list[int]] = {"run": [], "frame": []}
    spilled, decode = sorting._spilled, sorting._decode

    def counted(held: list[LogRecord], path: Path) -> Path:
        sizes["run"].append(len(held))
        return spilled(held, path)

    def read(frame: bytes) -> list[LogRecord]:
        found = decode(frame)
        sizes["frame"].append(len(found))
        return found

    monkeypatch.setattr(sorting, "_spilled", counted)
    monkeypatch.setattr(sorting, "_decode", read)
    monkeypatch.setattr(sorting, "_FRAME_BYTES", 20_000)
    records = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, b"k" * 6_000, None, [("name", b"v" * 4_000)]) for at in range(100)]
    shuffled = random.Random(6).sample(records, len(records))
    assert list(sorting.sorted_records(shuffled, run_bytes=100_000)) == records
    assert set(sizes["run"]) == {10}
    assert set(sizes["frame"]) == {2}


def test_a_sort_window_leaves_out_what_comes_later_and_says_where(tmp_path: Path) -> None:
    events = sorted(EVENTS, key=lambda event: event.event_time_ms)
    late = msgspec.structs.replace(events[0], event_id="late")
    path = write_log(tmp_path / "log.jsonl", [*events[:300], late, *events[300:]])
    log = open_log([path], window_ms=60_000)
    assert identities(log) == [event.event_id for event in events]
    [problem] = log.problems.summary()
    assert problem["count"] == 1
    assert problem["first"][0].startswith("line 301 ")


def test_one_time_from_the_far_future_does_not_shut_out_what_follows(tmp_path: Path) -> None:
    events = sorted(EVENTS, key=lambda event: event.event_time_ms)
    future = msgspec.structs.replace(events[0], event_id="future", event_time_ms=BASE_MS + 400 * 86_400_000)
    path = write_log(tmp_path / "log.jsonl", [*events[:200], future, *events[200:]])
    log = open_log([path], window_ms=60_000)
    assert identities(log) == [*in_time(), "future"]
    assert [problem["first"] for problem in log.problems.summary()] == [["line 201 (by +400 days)", "line 202 (by -400 days)"]]


def test_a_truncated_gzip_gives_what_stands_before_and_says_so(tmp_path: Path) -> None:
    path = compressed(write_log(tmp_path / "log.jsonl", EVENTS), "gz")
    path.write_bytes(path.read_bytes()[:-200])
    log = open_log([path])
    count = len(identities(log))
    assert 0 < count < len(EVENTS)
    [problem] = log.problems.summary()
    assert problem["first"] == [f"after line {count}"]
    assert "cut off" in problem["reason"]
    with pytest.raises(InputFileError, match="--strict"):
        list(open_log([path], problems=LogIssues(strict=True)).records())


def test_a_truncated_zstandard_file_is_no_short_one(tmp_path: Path) -> None:
    path = compressed(write_log(tmp_path / "log.jsonl", EVENTS), "zst")
    path.write_bytes(path.read_bytes()[:-100])
    log = open_log([path])
    list(log.records())
    assert "cut off" in log.problems.summary()[0]["reason"]


def test_bad_rows_and_files_of_another_schema_are_counted_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3,pv,1511544070\n1,2,3,pv\n1,9,3,swim,1511544072\n2,2,3,buy,1511544073\n")
    (tmp_path / "b.csv").write_text("7,2,3,cart,noon\n8,2,3,cart,1511544071\n")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 but not really")
    log = open_log([tmp_path], load_mapping("taobao"))
    chunks = list(chunks_of(log, 10))
    assert [record.timestamp for chunk in chunks for record in chunk.records] == [1511544070000, 1511544071000, 1511544073000]
    found = {(Path(problem["file"]).name, problem["first"][0]) for problem in log.problems.summary()}
    assert found == {("a.csv", "row 2"), ("a.csv", "row 3"), ("b.csv", "row 1"), ("c.parquet", "the whole file")}


def test_rows_of_one_time_stay_in_order_of_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,1,3,buy,1511544070\n1,2,3,pv,1511544070\n")
    (tmp_path / "b.csv").write_text("1,3,3,buy,1511544070\n")
    records: list[LogRecord] = list(open_log([tmp_path], load_mapping("taobao")).records())
    assert [(record.topic, record.partition, record.offset) for record in records] == [
        ("orders", 0, 2), ("clicks", 0, 4), ("orders", 1, 2),
    ]  # fmt: skip


def test_more_runs_than_files_may_be_open_are_merged_in_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_FAN_IN", 4)
    opened: list[int] = []
    merge = heapq.merge

    def counted(*runs: Iterator[LogRecord]) -> Iterator[LogRecord]:
        opened.append(len(runs))
        return merge(*runs)

    monkeypatch.setattr(heapq, "merge", counted)
    records = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, None, b"x") for at in range(75)]
    shuffled = random.Random(4).sample(records, len(records))
    assert list(sorting.sorted_records(shuffled, run_bytes=1)) == records
    assert max(opened) <= 1 + 3 * 4  # of 4 levels, 3 runs at most, and what is held
    assert len(opened) > 75 // 4


@pytest.mark.parametrize(("field", "value"), [("time_ms", 1 << 63), ("time_ms", -2), ("partition", 1 << 31), ("offset", 1 << 63)])
def test_a_number_that_no_broker_has_is_a_problem_of_its_line(tmp_path: Path, field: str, value: int) -> None:
    path = write_log(tmp_path / "log.jsonl", EVENTS[:3])
    line = {"topic": "clicks", "key": "u", "value": "{}", "time_ms": 5, "partition": 0, "offset": 0, field: value}
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")
    log = open_log([path])
    assert len(list(sorting.sorted_records(log.records(), run_bytes=1))) == 3
    [problem] = log.problems.summary()
    assert problem["first"] == ["line 4"]
    assert field in problem["reason"]


def test_a_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no log file .*\*\.jsonl"):
        open_log([tmp_path / "*.jsonl"])
