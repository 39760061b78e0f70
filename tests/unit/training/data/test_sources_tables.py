"""Tables: every declared column in its place, every error with its place, splits with the stated shares."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.inputs import TableInputs
from stream_app.errors import ConfigError, ContractError, InputFileError
from training.config import load_config
from training.data.dataset import UNKNOWN, Dataset, load_dataset, save_dataset
from training.data.parsing.splits import SplitPlan, assign
from training.data.sources.tables import dataset_from_table

SHARED = Path(__file__).parents[5] / "shared" / "data"
ROWS = 200


def cells(row: int) -> list[str]:
    colour = ("red", "green", "blue")[row % 3] if row != 7 else "mauve"
    return [
        f"{row / 10}",
        "" if row % 10 == 0 else f"{row}",
        colour,
        f"shop{row % 2}",
        f"{1_700_000_000 + row}",
        "NY"[row % 4 == 0],
    ]


HEADER = ["size", "weight", "colour", "shop", "when", "sold"]


def text() -> str:
    return "".join(",".join(row) + "\n" for row in [HEADER, *map(cells, range(ROWS))])


def section(**more: Any) -> dict[str, Any]:
    return {
        "kind": "table",
        "numeric": ["size", "weight"],
        "categorical": ["colour"],
        "scene": "shop",
        "time": "when",
        "labels": [{"name": "sold", "column": "sold", "positive": ["Y"]}],
        **more,
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "things.csv"
    path.write_text(text())
    return path


def same(first: Dataset, second: Dataset) -> bool:
    return all(np.array_equal(first.inputs[name], second.inputs[name], equal_nan=True) for name in first.inputs) and bool(
        (first.split == second.split).all() and all((first.labels[name] == second.labels[name]).all() for name in first.labels)
    )


# ----------------------------------------------------------------------------------------------------------- columns


def test_every_declared_column_is_in_its_place(file: Path) -> None:
    dataset = dataset_from_table(file, section())
    assert dataset.feature_names == ("size", "weight")
    assert dataset.spec == TableInputs(dense=2, categories=(4,), scenes=3)
    for spec in dataset.spec.tensors():
        assert dataset.inputs[spec.name].shape == (ROWS, *spec.shape)
        assert dataset.inputs[spec.name].dtype == spec.dtype
    numbers = np.arange(ROWS)
    assert np.allclose(dataset.inputs["dense"][:, 0], numbers / 10)
    assert (np.isnan(dataset.inputs["dense"][:, 1]) == (numbers % 10 == 0)).all()
    assert (dataset.labels["sold"] == (numbers % 4 == 0)).all()
    assert dataset.segments == ("shop0", "shop1")
    assert (dataset.inputs["scene"] == 1 + numbers % 2).all()
    assert (dataset.time_ms == (1_700_000_000 + numbers) * 1_000).all()


def test_a_category_of_few_train_rows_is_unknown(file: Path) -> None:
    dataset = dataset_from_table(file, section())
    categories = dataset.fitted["category_colour"].tolist()
    assert categories == ["blue", "green", "red"]
    assert dataset.inputs["categories"][7, 0] == 0
    expected = [0 if row == 7 else 1 + categories.index(cells(row)[2]) for row in range(ROWS)]
    assert dataset.inputs["categories"][:, 0].tolist() == expected


def test_gzip_parquet_and_a_byte_order_mark_make_no_difference(file: Path, tmp_path: Path) -> None:
    expected_dataset = dataset_from_table(file, section())
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text().encode()))
    assert same(dataset_from_table(tmp_path / "t.csv.gz", section()), expected_dataset)
    columns = list(zip(*map(cells, range(ROWS)), strict=True))
    typed = [[float(n) for n in columns[0]], [float(n) if n else None for n in columns[1]], *map(list, columns[2:])]
    pq.write_table(pa.table(dict(zip(HEADER, typed, strict=True))), tmp_path / "t.parquet")
    assert same(dataset_from_table(tmp_path / "t.parquet", section()), expected_dataset)


def test_a_file_without_a_header_takes_its_names_from_the_config(file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.tsv"
    bare.write_text("".join("\t".join(cells(row)) + "\n" for row in range(ROWS)))
    reading = {"header": False, "columns": HEADER}
    assert same(dataset_from_table(bare, section(reading=reading)), dataset_from_table(file, section()))


def test_labels_by_number_by_class_and_missing(file: Path) -> None:
    labels = [
        {"name": "heavy", "column": "weight", "above": 100.0},
        {"name": "paint", "column": "colour", "kind": "classes"},
    ]
    dataset = dataset_from_table(file, section(labels=labels, numeric=["size"], categorical=["sold"]))
    heavy = dataset.labels["heavy"]
    assert (heavy[::10] == UNKNOWN).all()
    assert heavy[101] == 1
    assert heavy[99] == 0
    assert dataset.tasks[1].classes == ("blue", "green", "mauve", "red")
    assert [dataset.tasks[1].classes[code] for code in dataset.labels["paint"][:3]] == ["red", "green", "blue"]


def test_a_dataset_of_a_table_is_the_same_after_it_was_saved(file: Path, tmp_path: Path) -> None:
    dataset = dataset_from_table(file, section())
    save_dataset(dataset, tmp_path / "d.npz")
    again = load_dataset(tmp_path / "d.npz")
    assert same(again, dataset)
    assert again.spec == dataset.spec
    assert again.fitted["category_colour"].tolist() == dataset.fitted["category_colour"].tolist()


# ----------------------------------------------------------------------------------------------------------- splits


def test_each_row_is_test_in_exactly_one_fold_and_labels_are_spread_evenly(file: Path) -> None:
    tests = np.zeros(ROWS, np.int64)
    for fold in range(5):
        dataset = dataset_from_table(file, section(split={"kind": "folds", "folds": 5, "fold": fold}))
        rows = dataset.rows("test")
        tests[rows] += 1
        assert len(rows) == ROWS // 5
        assert dataset.labels["sold"][rows].sum() == ROWS // 4 // 5
    assert (tests == 1).all()


def test_a_random_split_has_its_shares_of_each_label(file: Path) -> None:
    dataset = dataset_from_table(file, section(split={"kind": "random", "test": 0.5, "validation": 0.1}))
    sold = dataset.labels["sold"]
    for code, share in enumerate((0.4, 0.1, 0.5)):
        assert (dataset.split == code).sum() == share * ROWS
        assert sold[dataset.split == code].sum() == share * ROWS / 4


def test_the_seed_of_a_split_decides_it(file: Path) -> None:
    first, again, other = (dataset_from_table(file, section(split={"seed": seed})).split for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_a_split_by_time_keeps_the_order(file: Path) -> None:
    dataset = dataset_from_table(file, section(split={"kind": "time", "time": "when", "test": 0.25, "validation": 0.25}))
    assert (np.diff(dataset.split[np.argsort(dataset.time_ms)]) >= 0).all()
    assert np.bincount(dataset.split).tolist() == [100, 50, 50]


@pytest.mark.parametrize("kind", ["random", "folds"])
def test_a_class_of_one_row_does_not_break_a_split(kind: Any) -> None:
    strata = np.array([0] * 30 + [1])
    split = assign(SplitPlan(kind=kind, folds=3), strata)
    assert set(split.tolist()) == {0, 1, 2}


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_a_text_in_a_numeric_column_is_reported_with_its_place(file: Path) -> None:
    file.write_text(text().replace("5.1,51,", "5.1,heavy,"))
    with pytest.raises(InputFileError, match=r"things\.csv, line 53, column 'weight': 'heavy' is no number.*categorical"):
        dataset_from_table(file, section())


def test_a_short_row_is_reported_with_its_line(file: Path) -> None:
    file.write_text(text() + "1,2,red\n")
    with pytest.raises(InputFileError, match=r"line 202: the row has 3 cells, the file 6 columns"):
        dataset_from_table(file, section())


def test_a_column_that_is_not_there_is_reported_with_those_that_are(file: Path) -> None:
    with pytest.raises(InputFileError, match=r"no column 'colour2'.*size, weight, colour"):
        dataset_from_table(file, section(categorical=["colour", "colour2"]))


def test_a_column_of_no_role_and_one_of_two_are_refused_together(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"weight are not declared.*sold \(categorical and label\)"):
        dataset_from_table(file, section(numeric=["size"], categorical=["colour", "sold"]))


def test_a_column_of_missing_values_only_is_refused(file: Path) -> None:
    with pytest.raises(ContractError, match=r"numeric column 'weight' has no number.*Operator action: move it to drop"):
        dataset_from_table(file, section(missing=["", *map(str, range(ROWS))], numeric=["size", "weight"]))


def test_an_empty_part_of_a_split_is_refused(file: Path) -> None:
    with pytest.raises(ContractError, match=r"leaves no validation rows of 200.*Operator action"):
        dataset_from_table(file, section(split={"kind": "random", "validation": 0.0}))


def test_a_wrong_type_in_the_section_names_its_place(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"Expected `int`, got `str` - at `\$\.least`"):
        dataset_from_table(file, section(least="three"))


def test_an_invalid_time_is_reported_with_its_place(file: Path) -> None:
    file.write_text(text().replace("1700000003", "yesterday"))
    with pytest.raises(InputFileError, match=r"line 5, column 'when': 'yesterday' is no time"):
        dataset_from_table(file, section())


def test_an_empty_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(InputFileError, match="is empty"):
        dataset_from_table(tmp_path / "empty.csv", section())
    with pytest.raises(InputFileError, match="cannot read"):
        dataset_from_table(tmp_path / "absent.csv", section())


# ----------------------------------------------------------------------------------------------------------- real files


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data of ../shared/data is not here")
def test_the_shoppers_of_uci_are_read_as_published() -> None:
    dataset = dataset_from_table(SHARED / "sessions" / "uci_online_shoppers_intention.csv.gz", load_config("uci").source)
    assert len(dataset) == 12_330
    assert int(dataset.labels["purchase"].sum()) == 1_908
    assert len(dataset.rows("test")) == 1_233
