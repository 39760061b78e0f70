from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stream_app.errors import InputFileError
from stream_app.logs.ingest.open_rows import open_rows
from stream_app.logs.ingest.rows import BadRow, RowSource
from tests.unit.stream_app.logs.ingest.mappings_for_tests import HEADER, VISITS, mapping_from, read_until_it_ends, visits

HEADERLESS = VISITS.replace("header = true", 'header = false\ncolumns = ["who", "when", "what", "thing", "price"]')


def open_(path: Path, mapping_text: str = VISITS) -> RowSource:
    mapping = mapping_from(path.parent, mapping_text)
    return open_rows(path, mapping)


def rows_of(path: Path, mapping_text: str = VISITS, skip: int = 0, size: int = 100) -> list[object]:
    source = open_(path, mapping_text)
    try:
        return [row for chunk in source.chunks(skip, size) for row in chunk]
    finally:
        source.close()


def write(path: Path, text: str | bytes, *, zipped: bool = False) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_plain_and_zipped_with_mark_or_not_read_the_same(tmp_path: Path, zipped: bool, mark: bytes, newline: bytes) -> None:
    path = write(tmp_path / "x.csv", mark + visits(3).encode().replace(b"\n", newline), zipped=zipped)
    assert rows_of(path) == [line.split(",") for line in visits(3).splitlines()[1:]]


def test_a_file_without_header_takes_the_columns_of_the_mapping(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", visits(3).removeprefix(HEADER))
    assert len(rows_of(path, HEADERLESS)) == 3


@pytest.mark.parametrize("skip", [0, 1, 5, 9, 10, 11])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_chunks_after_a_position_are_the_rest_of_the_rows(tmp_path: Path, skip: int, size: int) -> None:
    path = write(tmp_path / "x.csv", visits(10))
    assert rows_of(path, skip=skip, size=size) == rows_of(path)[skip:]


def test_rows_of_the_wrong_width_are_handed_over_as_bad_and_blank_lines_are_none(tmp_path: Path) -> None:
    lines = visits(3).splitlines()
    path = write(tmp_path / "x.csv", "\n".join([*lines[:2], "1,2", "", *lines[2:], "1,2,3,4,5,6"]))
    rows = rows_of(path)
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False, False, True]
    assert isinstance(rows[1], BadRow)
    assert "2 cells" in rows[1].reason
    assert "5 columns" in rows[1].reason


def test_a_broken_quote_costs_its_row_and_not_the_file(tmp_path: Path) -> None:
    lines = visits(3).splitlines()
    path = write(tmp_path / "x.csv", "\n".join([*lines[:2], '"1"x,2,3,4,5', *lines[2:]]))
    rows = rows_of(path)
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False, False]


def test_other_delimiters_and_files_without_quoting_are_read(tmp_path: Path) -> None:
    text = VISITS.replace("header = true", 'delimiter = "\\t"\nquote = ""')
    path = write(tmp_path / "x.tsv", visits(2).replace(",", "\t").replace("look", '"look'))
    assert [row[2] for row in rows_of(path, text)] == ['"look', '"look']  # type: ignore[index]


def test_a_zip_that_was_cut_gives_its_rows_and_then_says_where(tmp_path: Path) -> None:
    whole = gzip.compress(visits(20_000).encode())
    path = write(tmp_path / "x.csv.gz", whole[: len(whole) // 2])
    source = open_(path)
    got: list[object] = []

    with pytest.raises(InputFileError, match=r"ends too early, after row (\d+)") as caught:
        read_until_it_ends(source, got)
    source.close()
    assert 1_000 < len(got) < 20_000
    assert f"after row {len(got)} " in str(caught.value)


def test_a_zip_with_a_broken_middle_says_where(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(visits(20_000).encode()))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xff" * 40
    with pytest.raises(InputFileError, match="after row"):
        rows_of(write(tmp_path / "x.csv.gz", bytes(whole)))


def test_missing_columns_are_named_beside_those_there_are(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "who,when,price\n1,2,3\n")
    with pytest.raises(InputFileError, match=r"lacks the columns what, thing .* it has who, when, price"):
        rows_of(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "who,when,what,thing,price,who\n")
    with pytest.raises(InputFileError, match="who more than once"):
        rows_of(path)


def test_an_empty_file_and_a_missing_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="empty"):
        open_(write(tmp_path / "x.csv", ""))
    with pytest.raises(InputFileError, match="No such file"):
        open_(tmp_path / "none.csv")


def test_parquet_where_csv_is_wanted_and_the_other_way_round_say_so(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="is a Parquet file"):
        open_(write(tmp_path / "x.csv", b"PAR1...."), VISITS.replace("header = true", 'format = "csv"'))
    with pytest.raises(InputFileError, match="no Parquet file"):
        open_(write(tmp_path / "y.csv", visits(1)), VISITS.replace("header = true", 'format = "parquet"'))
