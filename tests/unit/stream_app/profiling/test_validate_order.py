"""What is there twice or too late is found however far apart it stands, against a scan that remembers everything."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import IO

import pytest

from stream_app.errors import InputFileError
from stream_app.profiling.validate_order import late_of, repeats_of
from stream_app.profiling.validate_sorted import SortedRows

Found = tuple[int, list[tuple[int, int]]]


def scanned(events: list[tuple[int, int, int]]) -> tuple[Found, Found]:
    """Repeats among (number, name, content), event by event."""
    first: dict[int, int] = {}
    first_of_content: dict[tuple[int, int], int] = {}
    twice: list[tuple[int, int]] = []
    reused: list[tuple[int, int]] = []
    for number, name, content in events:
        if (name, content) in first_of_content:
            twice.append((number, first_of_content[name, content]))
        elif name in first:
            reused.append((number, first[name]))
        first.setdefault(name, number)
        first_of_content.setdefault((name, content), number)
    return (len(twice), twice[:5]), (len(reused), reused[:5])


@pytest.mark.parametrize("run", [1, 7, 64, 10_000])
@pytest.mark.parametrize(("names", "contents"), [(1, 1), (1, 40), (30, 3), (400, 2), (100_000, 1)])
def test_repeats_are_those_of_a_scan_that_remembers_everything(run: int, names: int, contents: int) -> None:
    draw = random.Random(names + run)
    events = [(number, draw.randrange(names), draw.randrange(contents)) for number in range(1, 401)]
    with SortedRows(4, run) as rows:
        for number, name, content in events:
            rows.add((name // 7, name, content, number))
        assert repeats_of(rows.rows()) == scanned(events)


@pytest.mark.parametrize("run", [1, 13, 10_000])
def test_late_events_are_those_of_a_scan_that_knows_every_user(run: int) -> None:
    draw = random.Random(run)
    events = [(number, draw.randrange(25), 10 * number + draw.randrange(600)) for number in range(1, 501)]
    newest: dict[int, int] = {}
    late: list[tuple[int, int]] = []
    for number, user, time_ms in events:
        if time_ms < newest.get(user, 0) - 100:
            late.append((number, newest[user] - time_ms))
        newest[user] = max(newest.get(user, 0), time_ms)
    assert len(late) > 5
    with SortedRows(3, run) as rows:
        for number, user, time_ms in events:
            rows.add((user, number, time_ms))
        assert late_of(rows.rows(), 100) == ((len(late), late[:5]), max(by_ms for _, by_ms in late))


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 1_000])
def test_rows_come_in_order_wherever_the_runs_were_cut(count: int) -> None:
    draw = random.Random(count)
    given = [[draw.randrange(-9, 9), draw.randrange(-(1 << 62), 1 << 62)] for _ in range(count)]
    with SortedRows(2, 7) as rows:
        for row in given:
            rows.add(row)
        assert list(rows.rows()) == sorted(given)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> IO[bytes]:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with SortedRows(2, 2) as rows:
        rows.add((1, 1))
        with pytest.raises(InputFileError, match=r"No space left .* TMPDIR"):
            rows.add((2, 2))
