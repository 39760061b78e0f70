"""JSON lines by a mapping are the events that the same rows give as CSV; a line that is none costs itself and not the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from click.testing import CliRunner

from stream_app.__main__ import millrace
from stream_app.errors import ConfigError, InputFileError, InvalidEventError
from stream_app.logs.ingest.convert import Converter, Produced
from stream_app.logs.ingest.open_rows import open_rows
from stream_app.logs.ingest.rows import BadRow
from stream_app.logs.log_source import decoded, open_log
from tests.unit.stream_app.logs.ingest.mappings_for_tests import VISITS, mapping_from, read_jsonl, read_until_it_ends, visits

# The same shop, whose tracker nests: who and what are objects, and a payment holds its basket.
NESTED = VISITS.replace("header = true", 'format = "jsonl"')
for _flat, _nested in {
    "{who}": "{visitor.id}", '"when"': '"at"', "where = { what": 'where = { "did.what"', '"what"': '"did.what"',
    "{thing}": "{did.thing}", '"price"': '"did.price"',
}.items():  # fmt: skip
    NESTED = NESTED.replace(_flat, _nested)


def nested_lines(n: int) -> list[bytes]:
    rows = [line.split(",") for line in visits(n).splitlines()[1:]]
    return [
        json.dumps(
            {"visitor": {"id": int(who)}, "at": when, "did": {"what": what, "thing": int(thing), "price": float(price)}}
        ).encode()
        for who, when, what, thing, price in rows
    ]


def written(path: Path, lines: list[bytes], how: str = "") -> Path:
    data = b"\n".join(lines) + b"\n"
    packed = {"": lambda: data, "gz": lambda: gzip.compress(data), "zst": lambda: zstandard.ZstdCompressor().compress(data)}
    path.write_bytes(packed[how]())
    return path


def produced(path: Path, mapping_text: str, skip: int = 0) -> tuple[list[Produced], dict[int, str]]:
    """Return the records of a file, and why which rows were refused."""
    mapping = mapping_from(path.parent, mapping_text)
    source = open_rows(path, mapping)
    convert = Converter(mapping, source.index, "x").convert
    records: list[Produced] = []
    refused: dict[int, str] = {}
    try:
        rows = (cells for chunk in source.chunks(skip, 7) for cells in chunk)
        for row, cells in enumerate(rows, skip + 1):
            try:
                if isinstance(cells, BadRow):
                    refused[row] = cells.reason
                else:
                    records += convert(cells, row)
            except InvalidEventError as err:
                refused[row] = str(err)
    finally:
        source.close()
    return records, refused


@pytest.mark.parametrize("how", ["", "gz", "zst"])
def test_nested_objects_give_the_events_of_the_same_rows_in_csv(tmp_path: Path, how: str) -> None:
    (tmp_path / "x.csv").write_text(visits(40))
    path = written(tmp_path / "x.jsonl", nested_lines(40), how)
    assert produced(path, NESTED) == produced(tmp_path / "x.csv", VISITS)
    assert produced(path, NESTED, skip=25) == produced(tmp_path / "x.csv", VISITS, skip=25)


def test_a_file_is_known_as_json_lines_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "x.ndjson.gz", nested_lines(4), "gz")
    assert produced(path, NESTED.replace('format = "jsonl"', ""))[0] == produced(path, NESTED)[0]


def test_lines_that_are_no_objects_or_lack_fields_are_refused_by_row_and_the_others_go_on(tmp_path: Path) -> None:
    lines = nested_lines(6)
    lines[0] = b"\xef\xbb\xbf" + lines[0]
    lines[1:1] = [b"", b'{"visitor": {"id": 7}', b"[1, 2]", b'{"at": "2026-01-31 12:00:00", "did": {"what": "look", "thing": 5}}']
    lines += [b"[" * 900_000, b'{"visitor": {"id": {"a": 1}}, "at": "2026-01-31 12:00:00", "did": {"what": "look", "thing": 5}}']
    lines += [b'{"visitor": {"id": "\xff"}}', b'{"visitor": 3, "at": [1], "did": {"what": "look"}}']
    records, refused = produced(written(tmp_path / "x.jsonl", lines), NESTED)
    assert len(records) == 6
    said = [f"{row}: {reason[:26]}" for row, reason in refused.items()]
    assert said == [
        "2: not JSON: Input data was t", "3: no JSON object, but a list", "4: column visitor.id is empty",
        "10: the JSON is nested too dee", "11: column visitor.id holds an", "12: not JSON: 'utf-8' codec ca",
        "13: column visitor.id is empty",
    ]  # fmt: skip


def test_a_stream_that_was_cut_gives_its_rows_and_then_says_where(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl.gz", nested_lines(5_000), "gz")
    path.write_bytes(path.read_bytes()[:-1_000])
    mapping = mapping_from(tmp_path, NESTED)
    source, got = open_rows(path, mapping), list[object]()

    with pytest.raises(InputFileError, match=r"ends too early, after row (\d+)") as caught:
        read_until_it_ends(source, got)
    source.close()
    assert 1_000 < len(got) < 5_000
    assert f"after row {len(got)} " in str(caught.value)


def test_a_name_with_dots_is_a_path_unless_a_field_is_called_so_and_lists_count_from_0(tmp_path: Path) -> None:
    text = """
name = "orders"
[source]
format = "jsonl"
[[record]]
topic = "orders"
where = { paid = [true] }
[record.fields]
event_id = "{no}"
user = "{user.id}"
device = "{devices.1}"
event_time_ms = { column = "ms", unit = "ms" }
lines = { each = "order.basket", item = "i-{sku}", quantity = { column = "n", default = 1 }, unit_price = { column = "cost.e" } }
amount = { column = "sum" }
currency = "EUR"
"""
    basket = [{"sku": 1, "cost": {"e": 2.5}}, {"sku": "b", "n": "3", "cost.e": 4}]
    order = {"no": "o1", "user.id": "u1", "user": {"id": "u2"}, "devices": ["a", "b"], "ms": 5, "sum": 14.5, "paid": True}
    other = {"no": "o2", "user": {"id": "u2"}, "devices": ["a", "b"], "ms": 5, "sum": 1, "paid": True, "order": {"basket": [3]}}
    lines = [{**order, "order": {"basket": basket}}, {**order, "order": {"basket": []}}, other, {**order, "paid": False}]
    records, refused = produced(written(tmp_path / "x.jsonl", list(map(msgspec.json.encode, lines))), text)
    [found] = [json.loads(record.value) for record in records]
    assert (found["user"], found["device"]) == ("u1", "b")
    assert [(line["item"], line["quantity"], line["unit_price"]) for line in found["lines"]] == [("i-1", 1, 2.5), ("i-b", 3, 4.0)]
    assert refused[2].startswith("orders: Expected `array` of length >= 1")
    assert refused[3] == "column order.basket holds no list of objects, but '[3]'"
    assert list(refused) == [2, 3, 4]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([b"[", b'{"at": 1},', b"]"], "none of its first 3 lines is a JSON object.*`jq -c`"),
        ([b'{"user": {"name": "a"}, "time": 1}'], "have none of the fields did.what, .*; they have user.name, time"),
        ([b"", b" "], "none of its first 0 lines"),
    ],
)
def test_a_file_that_holds_nothing_of_the_mapping_is_refused_before_a_row_is_read(
    tmp_path: Path, lines: list[bytes], said: str
) -> None:
    with pytest.raises(InputFileError, match=said):
        produced(written(tmp_path / "x.jsonl", lines), NESTED)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('format = "jsonl"', 'format = "jsonl"\ndelimiter = ";"', "has delimiter, which is for CSV"),
        ('where = { "did.what" = ["pay"] }', 'where = { did.what = ["pay"] }', "a column with dots stands in quotes"),
        ('item = "i{did.thing}"\nprice', 'item = { each = "x" }\nprice', "clicks.item takes no list"),
        ("lines = [{ item", "lines = { each = 3, item", "it names the column that holds a list of objects"),
    ],
)
def test_what_is_wrong_with_a_mapping_of_json_is_said(tmp_path: Path, before: str, after: str, said: str) -> None:
    text = NESTED.replace(before, after)
    if "each = 3" in after:
        text = text.replace("} }]", "} }")
    assert text != NESTED
    with pytest.raises(ConfigError, match=said):
        mapping_from(tmp_path, text)


def test_the_commands_read_them_and_name_the_rows_and_fields_that_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = nested_lines(30)
    lines.insert(4, b"not json")
    written(tmp_path / "x.jsonl.zst", lines, "zst")
    mapping = mapping_from(tmp_path, NESTED.replace("\nprice =", '\ndwell_ms = { column = "dwel", default = 0 }\nprice ='))
    done = CliRunner().invoke(millrace, ["import", "x.jsonl.zst", "--mapping", "mapping.toml", "--to", "out.jsonl"])
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["rows"], summary["events"], summary["never_filled"]) == (31, 30, ["dwel"])
    assert [found["first_rows"] for found in summary["refused_by_reason"].values()] == [[5]]

    log = open_log([tmp_path / "x.jsonl.zst"], mapping)
    replayed = sorted(event.event_id for events, _ in decoded(log, 8) for event in events)
    assert replayed == sorted(json.loads(value)["event_id"] for _, _, value, _ in read_jsonl(tmp_path / "out.jsonl"))
    assert [problem["first"] for problem in log.problems.summary()] == [["row 5"]]


def test_a_log_of_json_lines_can_be_validated_and_its_first_line_may_be_a_bad_one(tmp_path: Path) -> None:
    mapping_from(tmp_path, NESTED)
    path = written(tmp_path / "x.jsonl.zst", [b"not json", *nested_lines(60)], "zst")
    done = CliRunner().invoke(millrace, ["validate", str(path), "--mapping", str(tmp_path / "mapping.toml"), "--json"])
    found = json.loads(done.stdout)
    assert found["events"] == 60
    assert [(one["check"], one["level"], one["count"]) for one in found["findings"] if one["check"] == "schema"] == [
        ("schema", "warning", 1)
    ]


def test_the_mapping_in_the_handbook_makes_an_order_of_the_line_beside_it(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[5] / "docs" / "imports.md").read_text(encoding="utf-8")
    told = page.split("### JSON lines")[1]
    path = written(tmp_path / "day.jsonl", [told.split("`")[1].encode()])
    [order], refused = produced(path, told.split("```toml")[1].split("```")[0])
    assert not refused
    assert order.topic == "orders"
    assert json.loads(order.value)["lines"] == [{"item": "ia1", "category": "", "quantity": 1, "unit_price": 9.5}]
