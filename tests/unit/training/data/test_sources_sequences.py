"""Histories as rows: each protocol against the histories themselves, each file format, and the errors."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from model.inputs import SequenceInputs
from stream_app.errors import ConfigError, ContractError, InputFileError
from stream_app.evaluation.metrics import ndcg_at, recall_at
from tests.unit.training.data.rows_of_tables import neighbour_places
from training.data.dataset import Dataset
from training.data.sources.sequences import dataset_from_sequences
from training.evaluation.neighbours import neighbours_of

SHARED = Path(__file__).parents[5] / "shared" / "data"
HISTORIES = {"anna": [10, 2, 33, 4, 10], "ben": [2, 33, 5], "cy": [7, 2]}
LINES = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in HISTORIES.items())
ONE_OUT = {"kind": "sequences", "protocol": "leave_one_out", "length": 3}


def _told(dataset: Dataset) -> set[tuple[str, tuple[str, ...], str]]:
    """Every row as (split, item ids before, item id that came next)."""
    assert dataset.table is not None
    ids = dataset.table.ids
    rows = set()
    for row, sequence in enumerate(dataset.inputs["sequence"]):
        before = tuple(ids[code - 1] for code in sequence if code)
        rows.add((("train", "validation", "test")[dataset.split[row]], before, ids[dataset.labels["next_item"][row]]))
    return rows


def _as_lines(folder: Path) -> Path:
    file = folder / "people.txt.gz"
    file.write_bytes(gzip.compress(LINES.encode()))
    return file


def _as_lists(folder: Path) -> Path:
    file = folder / "people.parquet"
    parquet.write_table(pa.table({"items": list(HISTORIES.values())}), file)
    return file


def _as_rows(folder: Path) -> Path:
    file = folder / "people.csv"
    touches = [(at, user, item) for user, items in HISTORIES.items() for at, item in enumerate(items)]
    lines = [f"{user},{item},{1_600_000_000 + at * 60}" for at, user, item in sorted(touches)]
    file.write_text("user,item,time\n" + "\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("write", [_as_lines, _as_lists, _as_rows])
def test_leave_one_out_is_the_last_for_test_the_one_before_for_validation_and_every_earlier_prefix(
    tmp_path: Path, write: Any
) -> None:
    dataset = dataset_from_sequences(write(tmp_path), ONE_OUT | ({"time": "time"} if write is _as_rows else {}))
    assert _told(dataset) == {
        ("train", ("10",), "2"),
        ("train", ("10", "2"), "33"),
        ("validation", ("10", "2", "33"), "4"),
        ("test", ("2", "33", "4"), "10"),  # cut to the newest three
        ("validation", ("2",), "33"),
        ("test", ("2", "33"), "5"),
        ("train", ("7",), "2"),  # too short for a test row
    }
    assert dataset.spec == SequenceInputs(items=6, length=3)
    assert dataset.table is not None
    assert dataset.table.ids == ["2", "4", "5", "7", "10", "33"]  # as numbers, not as texts
    assert {array.dtype.str for array in (dataset.inputs["sequence"], dataset.labels["next_item"])} == {"<i4"}
    first = dataset.inputs["sequence"][np.count_nonzero(dataset.inputs["sequence"], axis=1) == 1]
    assert (first[:, :2] == 0).all()  # padding in front


def test_rows_of_one_user_share_a_key_and_carry_the_time_of_their_target(tmp_path: Path) -> None:
    dataset = dataset_from_sequences(_as_rows(tmp_path), ONE_OUT | {"time": "time"})
    assert sorted(np.bincount(dataset.key).tolist()) == [1, 2, 4]
    assert dataset.time_ms[dataset.key == 0].tolist() == [1_600_000_000_000 + at * 60_000 for at in range(1, 5)]


def test_sessions_take_test_rows_of_a_file_as_they_are_and_the_last_histories_for_validation(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"items": [[1, 2, 3], [2, 2], [4, 1, 2]]}), tmp_path / "train.parquet")
    parquet.write_table(pa.table({"prefix": [[3, 9], [1]], "target": [4, 1]}), tmp_path / "test.parquet")
    section = {"kind": "sequences", "protocol": "sessions", "length": 4, "train": "train.parquet", "test": "test.parquet"}
    assert _told(dataset_from_sequences(tmp_path, section | {"validation": 0.3})) == {
        ("train", ("1",), "2"),
        ("train", ("1", "2"), "3"),
        ("train", ("2",), "2"),
        ("validation", ("4",), "1"),
        ("validation", ("4", "1"), "2"),
        ("test", ("3", "9"), "4"),
        ("test", ("1",), "1"),
    }


def test_sessions_without_test_rows_go_to_the_splits_whole_in_order_of_their_end(tmp_path: Path) -> None:
    file = tmp_path / "touches.csv"
    times = {"late": (50, 900), "first": (1, 10), "middle": (40, 60), "third": (70, 80)}
    file.write_text("s,i,t\n" + "".join(f"{name},{n},{t}\n" for name, (a, b) in times.items() for n, t in ((1, a), (2, b))))
    section = {"kind": "sequences", "protocol": "sessions", "user": "s", "item": "i", "time": "t"}
    dataset = dataset_from_sequences(file, section | {"validation": 0.25, "test_share": 0.25})
    of_split = {name: dataset.time_ms[dataset.rows(name)].tolist() for name in ("train", "validation", "test")}
    assert of_split == {"train": [10_000, 60_000], "validation": [80_000], "test": [900_000]}


def test_by_time_nothing_of_the_test_is_older_than_anything_before_it(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    touches = zip(draw.integers(0, 20, 400), draw.integers(0, 9, 400), draw.permutation(400), strict=True)
    file = tmp_path / "touches.csv"
    file.write_text("user,item,time\n" + "".join(f"u{user},i{item},{1e9 + time:.0f}\n" for user, item, time in touches))
    dataset = dataset_from_sequences(file, {"kind": "sequences", "protocol": "time", "time": "time"})
    train, validation, test = (dataset.time_ms[dataset.rows(name)] for name in ("train", "validation", "test"))
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert len(dataset) == 380  # all but the first of each user
    assert len(test) == pytest.approx(38, abs=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lenght": 3}, "lenght"),
        ({"protocol": "last"}, "protocol"),
        ({"length": 0}, "length = 0"),
        ({"test": "test.parquet"}, "only protocol sessions reads test rows"),
        ({"protocol": "time"}, "time = "),
    ],
)
def test_a_wrong_section_is_refused_with_what_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataset_from_sequences(_as_lines(tmp_path), ONE_OUT | changes)


def test_a_split_without_rows_is_refused_with_the_counts(tmp_path: Path) -> None:
    file = tmp_path / "short.txt"
    file.write_text("a 1 2\nb 2 1\n")
    with pytest.raises(ContractError, match=r"'next_item'.*'test': 0.*Operator action"):
        dataset_from_sequences(file, ONE_OUT)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a 1 2\nb\n", "line 2: 'b' alone"), (b"\n \n", "holds no history"), (b"a 1 \xff\n", "not UTF-8")],
)
def test_a_damaged_file_of_lines_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        dataset_from_sequences(file, ONE_OUT)


def test_a_file_that_is_not_there_and_null_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"no file 'x\.parquet', only"):
        dataset_from_sequences(tmp_path, ONE_OUT | {"train": "x.parquet"})
    parquet.write_table(pa.table({"items": [[1, 2], None]}), tmp_path / "nulls.parquet")
    with pytest.raises(InputFileError, match="1 of 2 rows are null"):
        dataset_from_sequences(tmp_path / "nulls.parquet", ONE_OUT)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent: real histories are not part of the repository")
def test_neighbours_reach_their_floor_on_real_histories() -> None:
    dataset = dataset_from_sequences(SHARED / "sequences" / "beauty.txt.gz", ONE_OUT | {"length": 50})
    assert [len(dataset.rows(name)) for name in ("train", "validation", "test")] == [131_413, 22_363, 22_363]
    rows = dataset.rows("test")
    neighbours = neighbours_of(dataset, "next_item")
    places = neighbour_places(neighbours, dataset.inputs["sequence"][rows], dataset.labels["next_item"][rows], exclude_seen=True)
    assert recall_at(places, 10) > 0.0819
    assert ndcg_at(places, 10) > 0.0512
