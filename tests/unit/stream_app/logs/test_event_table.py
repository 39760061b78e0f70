"""An event table is the log that it was made from: the same records, replays and events, from every kind of log."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from stream_app.codec.decode import EVENT_TYPES
from stream_app.config import Settings
from stream_app.errors import InputFileError
from stream_app.events import Label, Search
from stream_app.logs import event_table_writer
from stream_app.logs.event_table import EVENT_FIELDS, EventTable, event_table_schema
from stream_app.logs.event_table_writer import EventTableWriter, sort_log
from stream_app.logs.ingest.mapping import LogMapping, load_mapping
from stream_app.logs.log_files import LogFile, RecordLine
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_options import LogOptions
from stream_app.logs.log_records import LogRecord
from stream_app.logs.log_source import chunks_of, decoded, open_log
from stream_app.replay.canonical import CanonicalReplay
from tests.scoring import BASE_MS, make_events, scoring_engine
from tests.unit.stream_app.replay.live_world import LiveWorld
from tests.unit.stream_app.replay.test_canonical import SETTINGS, write_log

EVENTS = make_events(400, users=["u-1", "u-2", "u-3"], devices=["d-1", "d-2"], span_ms=900_000)
CHECKOUT = Path(__file__).resolve().parents[4]


def shop(folder: Path) -> Path:
    """JSON lines out of order, with labels, repeated events, bad lines, records that are no event, and odd keys and values."""
    path = write_log(folder / "shop.jsonl", random.Random(4).sample(EVENTS, len(EVENTS)) + EVENTS[:30])
    label = b'{"event_id":"e-1-7","user":"u-1","label_time_ms":%d,"task":"fraud","value":1}' % (BASE_MS + 500_000)
    odd = [
        RecordLine("labels", "u-1", label.decode(), BASE_MS + 500_100),
        RecordLine("labels", "u-1", "no label", BASE_MS + 500_200),
        RecordLine("clicks", "u-1", "{}", BASE_MS + 1, headers=[("trace", b"\x00\xff"), ("none", None), ("trace", b"")]),
        RecordLine("searches", None, None, BASE_MS + 2),
        RecordLine("orders", "", "", BASE_MS + 3),
        RecordLine("clicks", key_base64=b"\xff\x00", value_base64=b"\xfe not text", time_ms=BASE_MS + 4),
        RecordLine("clicks", "u-1", "[1]"),
    ]
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(line) + b"\n" for line in odd)
        file.write(b'not a line\n{"topic":"elsewhere"}\n')
    return path


def cards(folder: Path) -> Path:
    draw, count = random.Random(3), 120
    parquet.write_table(
        pa.table({
            "transaction_id": list(range(count)),
            "customer_id": [draw.randrange(4) for _ in range(count)],
            "terminal_id": [draw.randrange(3) for _ in range(count)],
            "time": pa.array([BASE_MS + draw.randrange(900) * 1_000_000 for _ in range(count)], pa.timestamp("ms")),
            "amount": [draw.randrange(1, 9_999) / 100 for _ in range(count)],
            "fraud": [draw.choice([0, 0, 1]) for _ in range(count)],
            "scenario": [draw.randrange(4) for _ in range(count)],
        }),
        folder / "cards.parquet",
    )  # fmt: skip
    return folder / "cards.parquet"


def visits(folder: Path) -> Path:
    (folder / "visits").mkdir()
    (folder / "visits" / "a.csv").write_text("1,2,3,pv,1511544070\n1,2,3,pv\n1,9,3,cart,1511544069\n2,2,3,buy,1511544070\n")
    (folder / "visits" / "b.csv").write_text("7,2,3,cart,1511544070\n8,2,3,fav,1511544071\n")
    return folder / "visits"


def recorded(folder: Path) -> Path:
    return LiveWorld(make_events(150, users=["u-1", "u-2", "u-3"], devices=["d"])).run(seed=2).record(folder / "run") / "log"


LOGS = {"shop": (shop, ""), "cards": (cards, "cards"), "visits": (visits, "taobao"), "recorded": (recorded, "")}


@pytest.fixture(params=LOGS)
def sorted_log(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, LogMapping | None, Path]:
    """A log, its mapping, and its table of several row groups."""
    monkeypatch.setattr(event_table_writer, "_ROW_GROUP", 64)
    make, name = LOGS[request.param]
    log, mapping = make(tmp_path), load_mapping(name) if name else None
    return log, mapping, table_of(log, mapping)


def table_of(log: Path, mapping: LogMapping | None = None) -> Path:
    out = log.parent / f"{log.stem}.table"  # the name does not matter
    sort_log(Settings(), LogOptions(paths=(str(log),), mapping=mapping), out, LogIssues(), lambda _count, _note: None)
    return out


def answers(log: Path, mapping: LogMapping | None) -> list[tuple[str, list[bytes | None], list[bytes]]]:
    with CanonicalReplay(SETTINGS, scoring_engine()) as replay:
        batches = replay.batches(chunks_of(open_log([log], mapping), 50))
        return [(topic, list(said.keys), list(said.values)) for batch in batches for topic, said in batch.messages.items()]


def test_a_table_read_as_records_is_the_log_that_it_was_made_from(sorted_log: tuple[Path, LogMapping | None, Path]) -> None:
    log, mapping, table = sorted_log
    records = list(open_log([log], mapping).records())
    assert list(open_log([table]).records()) == records
    assert list(open_log([table], window_ms=0).records()) == records
    with EventTable(table) as opened:
        assert opened.rows == len(records)
        assert opened.row_groups == -(-len(records) // 64)


def test_a_replay_of_the_table_says_what_a_replay_of_the_log_says(sorted_log: tuple[Path, LogMapping | None, Path]) -> None:
    log, mapping, table = sorted_log
    assert answers(table, None) == answers(log, mapping)


def test_events_and_labels_of_the_table_are_those_of_the_log(sorted_log: tuple[Path, LogMapping | None, Path]) -> None:
    log, mapping, table = sorted_log
    assert list(decoded(open_log([table]), 10)) == list(decoded(open_log([log], mapping), 10))


def test_the_columns_hold_each_event_as_it_was_decoded_and_nothing_of_other_records(
    sorted_log: tuple[Path, LogMapping | None, Path],
) -> None:
    log, mapping, table = sorted_log
    events = iter([event for found, _ in decoded(open_log([log], mapping), 1_000) for event in found])
    for row in parquet.read_table(table).to_pylist():
        fields = {name: row[name] for name in EVENT_FIELDS}
        if row["event_id"] is None:
            assert set(fields.values()) == {None}
            continue
        event = next(events)
        told = msgspec.to_builtins(event)
        assert row["time_ms"] == told.pop("event_time_ms")
        assert {name: value for name, value in fields.items() if value is not None} == told
        assert isinstance(event, EVENT_TYPES[row["topic"]])
    assert next(events, None) is None


def test_batches_are_single_arrays_with_a_dictionary_where_it_is_asked_for(
    sorted_log: tuple[Path, LogMapping | None, Path],
) -> None:
    _, _, table = sorted_log
    whole = parquet.read_table(table)
    columns = ["user", "time_ms", "lines", "topic", "event_id"]
    with EventTable(table) as opened:
        batches = [opened.batch(group, columns, ["topic", "user"]) for group in range(opened.row_groups)]
    assert [batch.num_rows for batch in batches[:-1]] == [64] * (len(batches) - 1)
    for batch in batches:
        assert batch.schema.names == columns
        assert [name for name in columns if pa.types.is_dictionary(batch.schema.field(name).type)] == ["user", "topic"]
        assert len(set(batch.column("user").dictionary.to_pylist())) == len(batch.column("user").dictionary)
    assert [row for batch in batches for row in batch.to_pylist()] == whole.select(columns).to_pylist()


def test_a_text_that_repeats_stands_once_in_a_row_group_however_many_there_are(tmp_path: Path) -> None:
    queries = [f"{'q' * 500} {number}" for number in range(4_000)]  # 2 MB: more than a dictionary's page has by default
    search = Search(event_id="s", user="u-1", event_time_ms=BASE_MS, query="")
    events = [msgspec.structs.replace(search, event_id=f"s-{n}", query=query) for n, query in enumerate(queries * 2)]
    group = parquet.read_metadata(table_of(write_log(tmp_path / "log.jsonl", events))).row_group(0)
    sizes = {group.column(at).path_in_schema: group.column(at).total_uncompressed_size for at in range(group.num_columns)}
    assert sizes["query"] < 1.1 * sum(map(len, queries))


def test_tables_after_one_another_are_the_logs_after_one_another(tmp_path: Path) -> None:
    mapping, folder = load_mapping("taobao"), visits(tmp_path)
    logs = [*sorted(folder.iterdir()), tmp_path / "more.csv"]
    logs[-1].write_text("9,2,3,pv,1511544070\n1,1,3,pv,1511544069\n")
    whole = list(open_log(logs, mapping).records())
    both, more = table_of(folder, mapping), table_of(logs[-1], mapping)
    log = open_log([both, more])
    found = list(log.records())
    assert found == whole
    assert list(open_log([both, more], window_ms=60_000).records()) == whole
    assert list(open_log([both, more], window_ms=0).records()) == whole
    assert [log.where(record) for record in found if record.partition == 2] == [
        (str(more), f"row 2 of {logs[-1]}"), (str(more), f"row 1 of {logs[-1]}"),
    ]  # fmt: skip
    again = tmp_path / "again.table"
    sort_log(Settings(), LogOptions(paths=(str(both), str(more))), again, LogIssues(), lambda _count, _note: None)
    assert list(open_log([again]).records()) == whole
    with EventTable(again) as opened:
        assert [name for name, _ in opened.sources] == list(map(str, logs))


def test_a_problem_names_the_line_that_a_record_of_a_table_came_from(tmp_path: Path) -> None:
    path = shop(tmp_path)
    log, table = open_log([path]), open_log([table_of(path)])
    assert [table.where(record)[1] for record in table.records()] == [
        f"{log.where(record)[1]} of {path}" for record in log.records()
    ]  # fmt: skip
    run = LogFile(table_of(recorded(tmp_path)), 0, None, LogIssues())
    told = [run.line_of(record) for record in run.records()]
    assert "offset 3 of clicks-0" in told


def test_a_table_is_read_in_parts_at_its_row_groups(sorted_log: tuple[Path, LogMapping | None, Path]) -> None:
    _, _, table = sorted_log
    file = LogFile(table, 0, None, LogIssues())
    parts = file.parts()
    assert len(parts) == EventTable(table).row_groups
    whole = list(file.records())
    assert [record for part in parts for record in file.records(part)] == whole
    assert list(file.records((60, 140))) == whole[60:140]
    with EventTable(table) as opened:
        assert list(opened.records(3, 5)) == whole[3:5]
        assert list(opened.select(0, [2, 2, 4])) == [whole[2], whole[2], whole[4]]


def test_labels_and_events_come_from_one_file_too(sorted_log: tuple[Path, LogMapping | None, Path]) -> None:
    _, _, table = sorted_log
    file = LogFile(table, 0, None, LogIssues())
    found = list(file.events())
    chunks = list(decoded(open_log([table]), 50))
    assert [one for one in found if not isinstance(one, Label)] == [event for events, _ in chunks for event in events]
    assert [one for one in found if isinstance(one, Label)] == [label for _, labels in chunks for label in labels]


def test_sorting_counts_what_it_finds_and_keeps_what_is_no_event(tmp_path: Path) -> None:
    problems = LogIssues()
    line = sort_log(Settings(), LogOptions(paths=(str(shop(tmp_path)),)), tmp_path / "t", problems, lambda _count, _note: None)
    assert {name: line[name] for name in ("records", "events", "labels", "no_events")} == {
        "records": 437, "events": 430, "labels": 2, "no_events": 5,
    }  # fmt: skip
    assert line["bytes"] == (tmp_path / "t").stat().st_size
    assert line["problems"] == 9  # those, a label that is none, two lines that are no records, and a jump to 1970
    assert sum(problem["count"] for problem in line["problems_by_reason"]) == 9
    strict, options = LogIssues(strict=True), LogOptions(paths=(str(tmp_path / "shop.jsonl"),))
    with pytest.raises(InputFileError, match="--strict"):
        sort_log(Settings(), options, tmp_path / "t", strict, lambda _count, _note: None)
    assert (tmp_path / "t").stat().st_size == line["bytes"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop.jsonl", "t"]


def test_a_log_without_records_is_a_table_without_rows(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    table = table_of(tmp_path / "log.jsonl")
    assert list(open_log([table]).records()) == []
    assert EventTable(table).rows == 0
    assert parquet.read_schema(table).equals(event_table_schema([]))


def test_huge_values_make_smaller_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_table_writer, "_GROUP_BYTES", 1_000)
    records = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, None, b"x" * 400) for at in range(10)]
    with EventTableWriter(tmp_path / "t", [("log", "line")]) as writer:
        writer.write(records)
    assert EventTable(tmp_path / "t").ends() == [3, 6, 9, 10]
    assert list(EventTable(tmp_path / "t").records()) == records


def test_huge_keys_and_headers_make_smaller_row_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_table_writer, "_GROUP_BYTES", 3_000)
    keys = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, b"k" * 1_600, b"{}") for at in range(4)]
    named = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, None, None, [("h" * 800, b"v" * 800)]) for at in range(4, 8)]
    many = [LogRecord(at, (0, at, 0), "clicks", 0, at, at, None, None, [("h", None)] * 8) for at in range(8, 12)]
    with EventTableWriter(tmp_path / "t", [("log", "line")]) as writer:
        writer.write([*keys, *named, *many])
    assert EventTable(tmp_path / "t").ends() == [2, 4, 6, 8, 10, 12]
    assert list(EventTable(tmp_path / "t").records()) == [*keys, *named, *many]


def test_a_label_that_is_nested_too_deeply_is_none_in_the_log_and_in_its_table(tmp_path: Path) -> None:
    label = f'{{"event_id":"e","user":"u-1","label_time_ms":{BASE_MS},"task":"fraud","value":1,"more":{"[" * 1_000_000}'
    log = tmp_path / "log.jsonl"
    log.write_bytes(msgspec.json.encode(RecordLine("labels", "u-1", label, BASE_MS)))
    problems, told = LogIssues(), "no label: the JSON is nested too deeply"
    table = tmp_path / "t"
    line = sort_log(Settings(), LogOptions(paths=(str(log),)), table, problems, lambda _count, _note: None)
    assert (line["records"], line["labels"]) == (1, 1)
    assert [problem["reason"] for problem in problems.summary()] == [told]
    for path in (log, table):
        read, file = open_log([path]), LogFile(path, 0, None, LogIssues())
        assert list(chunks_of(read, 10)) == []
        assert list(file.events()) == []
        assert [problem["reason"] for problem in read.problems.summary()] == [told]
        assert file.refused == 1


def test_a_table_knows_its_length_at_once_and_who_reads_it_tells_the_progress(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", EVENTS)
    table, told = table_of(path), list[str]()
    log = open_log([table], progress=told.append)
    next(log.records())
    assert (log.total, told) == (len(EVENTS), [])
    list(open_log([path], window_ms=0, progress=told.append).records())
    assert told == []
    list(open_log([table, path], progress=told.append).records())  # these are sorted first
    assert told == ["reading log.table (1 of 2), 100%", "reading log.jsonl (2 of 2), 100%"]
