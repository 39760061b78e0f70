"""Duplicates, late events and counts are exact however far apart events stand, against a scan that remembers everything."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from stream_app.errors import InputFileError
from stream_app.profiling import event_index
from stream_app.profiling.database import insert, open_database
from stream_app.profiling.event_index import EventIndex, Matches


@pytest.fixture
def index() -> Iterator[EventIndex]:
    with open_database() as database:
        yield EventIndex(database)


def scanned(events: list[tuple[int, int, int]]) -> tuple[Matches, Matches]:
    """Repeats among (number, key, content), event by event."""
    first: dict[int, int] = {}
    first_of_content: dict[tuple[int, int], int] = {}
    repeated: list[tuple[int, int]] = []
    reused: list[tuple[int, int]] = []
    for number, key, content in events:
        if (key, content) in first_of_content:
            repeated.append((number, first_of_content[key, content]))
        elif key in first:
            reused.append((number, first[key]))
        first.setdefault(key, number)
        first_of_content.setdefault((key, content), number)
    return Matches(len(repeated), repeated[:5]), Matches(len(reused), reused[:5])


@pytest.mark.parametrize("chunk", [1, 64, 10_000])
@pytest.mark.parametrize(("keys", "contents"), [(1, 1), (1, 40), (30, 3), (400, 2), (100_000, 1)])
def test_repeats_are_those_of_a_scan_that_remembers_everything(
    index: EventIndex, monkeypatch: pytest.MonkeyPatch, chunk: int, keys: int, contents: int
) -> None:
    monkeypatch.setattr(event_index, "_CHUNK", chunk)
    draw = random.Random(keys + chunk)
    events = [(row // 2, draw.randrange(keys), draw.randrange(contents)) for row in range(2, 402)]  # a row is two events
    for number, key, content in events:
        index.add(number, f"k-{key}", f"c-{content}", "", 0, {})
    index.add(500, "", "c-0", "", 0, {})
    index.add(501, "", "c-0", "", 0, {})
    assert index.repeats() == scanned(events)


@pytest.mark.parametrize("chunk", [1, 13, 10_000])
def test_late_events_are_those_of_a_scan_that_knows_every_user(
    index: EventIndex, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(event_index, "_CHUNK", chunk)
    draw = random.Random(chunk)
    events = [(number, draw.randrange(25), 10 * number + draw.randrange(600)) for number in range(1, 501)]
    newest: dict[int, int] = {}
    late: list[tuple[int, int]] = []
    for number, user, time_ms in events:
        if time_ms < newest.get(user, 0) - 100:
            late.append((number, newest[user] - time_ms))
        newest[user] = max(newest.get(user, 0), time_ms)
        index.add(number, "", "", f"u-{user}", time_ms, {})
    assert len(late) > 5
    assert index.late_events(100) == (Matches(len(late), late[:5]), max(by_ms for _, by_ms in late))


@pytest.mark.parametrize("count", [1, 100, 60_000])
def test_different_values_are_counted_and_the_most_frequent_is_found(index: EventIndex, count: int) -> None:
    for number in range(count):
        index.add(number, "", "", "", 0, {"user": f"v-{number}", "device": "", "ip": "\ud800 '; DROP TABLE events; --\0"})
        index.add(number, "", "", "", 0, {"user": f"v-{number}" if number % 4 else "robot"})
    uses = index.identifiers()
    assert list(uses) == ["user", "ip"]
    assert uses["user"].distinct == count + 1
    assert uses["user"].events == 2 * count
    assert uses["ip"].distinct == 1
    if count > 4:
        assert uses["user"].most_frequent == "robot"
        assert uses["user"].top_share == pytest.approx(0.125)


def test_words_for_none_are_found_alone_and_behind_a_prefix(index: EventIndex) -> None:
    for number, value in enumerate(["NULL", "v-nan", "u-", "-1", "-", "u--1", "nano", "a-1", "test", "x-N/A"], 1):
        index.add(number, "", "", "", 0, {"device": value})
    assert index.placeholders() == {"device": Matches(7, [(number, 0) for number in (1, 2, 3, 4, 5)])}


def test_a_full_disk_is_an_error_that_names_the_folder_to_change(tmp_path: Path) -> None:
    with duckdb.connect(config={"memory_limit": "20MB", "threads": 1, "temp_directory": str(tmp_path)}) as database:
        database.execute("SET max_temp_directory_size = '1MB'")
        database.execute("CREATE TABLE t (text VARCHAR)")
        texts = [random.Random(number).randbytes(500).hex() for number in range(30_000)]
        with pytest.raises(InputFileError, match="TMPDIR"):
            insert(database, "INSERT INTO t SELECT text FROM chunk", {"text": texts})


def test_the_database_reads_no_file_loads_no_extension_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\n1,2\n")
    with open_database() as database:
        assert len(list(tmp_path.iterdir())) == 2
        for statement in (f"FROM read_csv('{secret}')", "INSTALL spatial", "SET enable_external_access = true"):
            with pytest.raises(duckdb.Error):
                database.execute(statement)
    assert list(tmp_path.iterdir()) == [secret]
