"""Training reads a log as a replay does: the same events and order, the same rows refused, never half of a file."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs.event_table_writer import EventTableWriter
from stream_app.logs.ingest.mapping import load_mapping
from stream_app.logs.log_source import decoded, open_log
from training.data.sources.log_reading import read_log
from training.data.sources.logs import dataset_from_log


def rows(count: int, seed: int) -> str:
    """Return rows of the mapping `taobao`, out of order and many at one time, some of them no event."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        what = draw.choice(("pv", "pv", "cart", "buy", "swim"))
        when = "noon" if number % 31 == 5 else str(1_511_544_000 + draw.randrange(300))
        lines.append(
            f"{draw.randrange(9)},{draw.randrange(50)},{draw.randrange(5)},{what},{when}" + ("" if number % 17 else ",x")
        )
    return "\n".join(lines) + "\n"


def test_events_and_refused_rows_are_those_of_a_replay(tmp_path: Path) -> None:
    mapping, paths = load_mapping("taobao"), [tmp_path / "b.csv.gz", tmp_path / "a.csv"]
    paths[0].write_bytes(gzip.compress(rows(3_000, 1).encode()))
    paths[1].write_text(rows(500, 2))
    progress: list[str] = []
    log, replayed = read_log(paths, mapping, progress.append), open_log(paths, mapping)
    assert log.events == [event for events, _ in decoded(replayed, 100) for event in events]
    assert (log.rows, log.refused) == (3_500, replayed.problems.count)
    assert 500 < log.refused < 1_500
    assert any(f"{paths[1]}, row 1: " in line for line in progress)


def test_labels_come_with_their_events_and_in_order_of_the_file(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "transaction_id": [1, 2, 3], "customer_id": [7, 7, 8], "terminal_id": [1, 1, 2], "time": [3_000, 1_000, 2_000],
        "amount": [1.0, 2.0, 3.0], "fraud": [1, 0, 1], "scenario": [1, 0, 3],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    log = read_log([tmp_path / "x.parquet"], load_mapping("cards"), lambda _: None)
    assert [event.event_id for event in log.events] == ["card-2", "card-3", "card-1"]
    assert [label.event_id for label in log.labels] == ["card-1", "card-3"]


def test_half_of_a_file_and_a_file_of_other_columns_end_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(rows(3_000, 3).encode())[:-500])
    with pytest.raises(InputFileError, match=r"x\.csv\.gz: the compressed stream ends too early, after row"):
        read_log([path], load_mapping("taobao"), lambda _: None)
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputFileError, match="lacks the columns"):
        read_log([tmp_path / "y.csv"], load_mapping("ecommerce"), lambda _: None)


def test_the_event_tables_of_files_are_read_as_the_files(tmp_path: Path) -> None:
    mapping, paths = load_mapping("taobao"), [tmp_path / "a.csv", tmp_path / "b.csv"]
    paths[0].write_text(rows(300, 4))
    paths[1].write_text(rows(200, 5))
    tables = []
    for path in paths:
        source = open_log([path], mapping)
        tables.append(path.with_suffix(".parquet"))
        with EventTableWriter(tables[-1], source.sources) as writer:
            writer.write(source.records())
    log, from_tables = read_log(paths, mapping, lambda _: None), read_log(tables, None, lambda _: None)
    assert from_tables.events == log.events
    assert (from_tables.rows, from_tables.refused) == (len(log.events), 0)
    with pytest.raises(ConfigError, match="the rows of the file have no mapping"):
        dataset_from_log([tables[0], paths[1]], {"kind": "log"}, lambda _: None, "sessions")
    dataset = dataset_from_log(tables, {"kind": "log"}, lambda _: None, "sessions")
    expected = dataset_from_log(paths, {"kind": "log", "mapping": "taobao"}, lambda _: None, "sessions")
    assert dataset.time_ms.tolist() == expected.time_ms.tolist()
    assert all((dataset.inputs[name] == expected.inputs[name]).all() for name in expected.inputs)
    assert all((dataset.labels[name] == expected.labels[name]).all() for name in expected.labels)
