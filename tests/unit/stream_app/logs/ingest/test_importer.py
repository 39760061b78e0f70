from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_app.errors import BrokerUnavailableError, ConfigError, InputFileError
from stream_app.events import Click, Order
from stream_app.logs.ingest.importer import ImportPlan, ImportSummary, import_file
from stream_app.logs.ingest.pace import Pace
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.logs.ingest.state import StateFile
from tests.unit.stream_app.logs.ingest.mappings_for_tests import VISITS, mapping_from, read_jsonl, visits


class ListSink:
    """Keeps what was sent; what was sent after the last flush is lost when the process dies."""

    def __init__(self, *, break_after: int | None = None) -> None:
        self.records: list[tuple[str, bytes, bytes, int]] = []
        self.safe: list[tuple[str, bytes, bytes, int]] = []
        self._break_after = break_after

    def send(self, topic: str, key: bytes, value: bytes, time_ms: int) -> None:
        if len(self.records) == self._break_after:
            raise BrokerUnavailableError("gone")
        self.records.append((topic, key, value, time_ms))

    def flush(self) -> None:
        self.safe = list(self.records)

    def position(self) -> int:
        return len(self.safe)

    def close(self) -> None:
        """Nothing to close."""


class Import:
    """One file being imported, perhaps in several goes."""

    def __init__(self, folder: Path, data: str | bytes, mapping_text: str = VISITS) -> None:
        self.path = folder / "visits.csv"
        self.path.write_bytes(data.encode() if isinstance(data, str) else data)
        self.mapping = mapping_from(folder, mapping_text)
        self.state_file = StateFile(folder / "states", self.path, self.mapping.text, "target")

    def go(self, sink: Any, *, chunk_rows: int = 10, resume: bool = True, **plan: Any) -> ImportSummary:  # a test's sink
        state = self.state_file.load() if resume else None
        chosen = ImportPlan(path=self.path, mapping=self.mapping, state_file=self.state_file, resumed=state, **plan)
        return import_file(chosen, sink, Pace(0), lambda _rows, _source: None, chunk_rows)


def ids(records: list[tuple[str, bytes, bytes, int]]) -> list[str]:
    return [msgspec.json.decode(value)["event_id"] for _, _, value, _ in records]


def test_rows_become_typed_events_keyed_by_user(tmp_path: Path) -> None:
    sink = ListSink()
    summary = Import(tmp_path, visits(3)).go(sink)
    assert [topic for topic, *_ in sink.safe] == ["clicks", "clicks", "orders"]
    click = msgspec.json.decode(sink.safe[1][2], type=Click)
    assert (click.event_id, click.user, click.item, click.action, click.price) == ("v-2", "v1", "i1", "view", 1.5)
    assert click.event_time_ms == 1_769_857_200_000  # noon in Berlin, winter
    order = msgspec.json.decode(sink.safe[2][2], type=Order)
    assert (order.amount, order.lines[0].unit_price, order.currency) == (2.5, 2.5, "EUR")
    assert [key for _, key, _, _ in sink.safe] == [b"v0", b"v1", b"v2"]
    line = summary.line()
    assert (line["rows"], line["events"], line["by_topic"]) == (3, 3, {"clicks": 2, "orders": 1})
    assert line["complete"] is True
    assert line["refused"] == 0


def test_bad_rows_in_the_middle_are_counted_by_reason_and_written_down(tmp_path: Path) -> None:
    lines = visits(6).splitlines()
    lines[2] = "1,2026-01-31 12:00:00,dance,1,1"
    lines[3] = "1,2026-01-31 12:00:00,look,1,cheap"
    lines[4] = "1,2026-01-31 12:00:00,look,one thing,1"
    lines[5] = "1,2"
    sink = ListSink()
    summary = Import(tmp_path, "\n".join(lines)).go(sink, refused_path=tmp_path / "refused.jsonl")
    assert ids(sink.safe) == ["v-1", "v-6"]
    assert (summary.rows, summary.refused) == (6, 4)
    assert sorted(entry["first_rows"] for entry in summary.refused_by_reason.values()) == [[2], [3], [4], [5]]
    assert any("no record of the mapping" in reason for reason in summary.refused_by_reason)
    assert any("$.price" in reason for reason in summary.refused_by_reason)
    assert any("$.item" in reason for reason in summary.refused_by_reason)
    written = [msgspec.json.decode(line) for line in (tmp_path / "refused.jsonl").read_bytes().splitlines()]
    assert [line["row"] for line in written] == [2, 3, 4, 5]
    assert written[0]["cells"][2] == "dance"


def test_a_mapping_may_pass_over_rows_it_does_not_take(tmp_path: Path) -> None:
    data = visits(3).replace("pay", "dance")
    summary = Import(tmp_path, data, 'unmatched = "skip"\n' + VISITS).go(ListSink())
    assert (summary.rows, summary.refused, summary.by_topic.total()) == (3, 0, 2)


def test_a_row_that_is_not_in_the_encoding_is_refused_alone(tmp_path: Path) -> None:
    data = visits(3).encode().replace(b"1,2026", b"\xff1,2026")
    summary = Import(tmp_path, data).go(ListSink())
    assert (summary.rows, summary.refused) == (3, 1)


@pytest.mark.parametrize("number", ["nan", "inf", "-1", "1e300"])
def test_amounts_that_are_none_are_refused(tmp_path: Path, number: str) -> None:
    summary = Import(tmp_path, visits(3).replace(",2.5\n", f",{number}\n")).go(ListSink())
    assert summary.refused == 1


def test_reasons_stay_few_however_many_ways_rows_are_wrong(tmp_path: Path) -> None:
    data = visits(0) + "".join(f"1,{number} o'clock,look,1,1\n" for number in range(500))
    summary = Import(tmp_path, data).go(ListSink())
    assert summary.refused == 500
    assert len(summary.refused_by_reason) <= 51


def test_a_limit_ends_it_and_counts_as_complete(tmp_path: Path) -> None:
    job = Import(tmp_path, visits(100))
    sink = ListSink()
    assert job.go(sink, limit=25).complete
    assert len(sink.safe) == 25
    assert job.state_file.load() is None


@pytest.mark.parametrize("break_after", [0, 1, 15, 35, 99])
def test_after_a_break_the_next_run_sends_the_rest_and_perhaps_some_twice_but_loses_none(
    tmp_path: Path, break_after: int
) -> None:
    job = Import(tmp_path, visits(100))
    broken, second = ListSink(break_after=break_after), ListSink()
    with pytest.raises(BrokerUnavailableError):
        job.go(broken)
    summary = job.go(second)
    assert set(ids(broken.safe)) | set(ids(second.safe)) == {f"v-{row}" for row in range(1, 101)}
    assert summary.rows == 100
    assert summary.complete
    assert job.state_file.load() is None


def test_stopped_and_gone_on_twice_gives_the_same_file_as_in_one_go(tmp_path: Path) -> None:
    data = visits(100).replace(",50.5\n", ",cheap\n")
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    (tmp_path / "a").mkdir()
    with JsonlSink(one) as sink:
        whole = Import(tmp_path / "a", data).go(sink)
    job = Import(tmp_path, data)
    for _ in range(20):
        state = job.state_file.load()
        # Something was written after the checkpoint: the next run cuts it off.
        if state is not None:
            many.write_bytes(many.read_bytes() + b"half a li")
        with JsonlSink(many, state.sink_position if state else None) as sink:
            summary = job.go(sink, stop=lambda: True, refused_path=tmp_path / "refused.jsonl")
        if summary.complete:
            break
        if summary.rows == 100:
            break
    assert read_jsonl(many) == read_jsonl(one)
    assert summary.by_topic == whole.by_topic
    assert summary.refused_by_reason == whole.refused_by_reason
    assert len((tmp_path / "refused.jsonl").read_bytes().splitlines()) == 1


def test_a_cut_zip_is_imported_up_to_the_cut_and_the_whole_one_goes_on(tmp_path: Path) -> None:
    whole = gzip.compress(visits(60_000).encode(), mtime=0)
    assert len(whole) > 150_000  # so that the beginning, by which a file is known again, is in the cut part
    job = Import(tmp_path, whole[:100_000])
    first, second = ListSink(), ListSink()
    with pytest.raises(InputFileError, match="ends too early"):
        job.go(first)
    job.path.write_bytes(whole)
    summary = job.go(second)
    assert ids(first.safe) + ids(second.safe) == [f"v-{row}" for row in range(1, 60_001)]
    assert summary.resumed_at_row == len(first.safe)


def test_another_file_under_the_same_name_is_not_gone_on_with(tmp_path: Path) -> None:
    job = Import(tmp_path, visits(100))
    job.go(ListSink(), stop=lambda: True)
    job.path.write_text("something,else\n")
    with pytest.raises(ConfigError, match="--restart"):
        job.go(ListSink())


def test_a_broken_state_says_what_to_do(tmp_path: Path) -> None:
    job = Import(tmp_path, visits(100))
    job.go(ListSink(), stop=lambda: True)
    job.state_file.path.write_bytes(b"{")
    with pytest.raises(ConfigError, match="--restart"):
        job.go(ListSink())


def test_restarted_it_begins_at_the_first_row(tmp_path: Path) -> None:
    job = Import(tmp_path, visits(100))
    job.go(ListSink(), stop=lambda: True)
    sink = ListSink()
    job.go(sink, resume=False)
    assert len(sink.safe) == 100
