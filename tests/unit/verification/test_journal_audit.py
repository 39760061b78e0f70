"""A hole, an overlap, a line that changed: each is seen in the journal."""

from __future__ import annotations

import json

from verification.journal_audit import Journal


def line(commit: int, start: int, end: int, group: int = 0) -> bytes:
    return json.dumps({"group": group, "commit": commit, "epoch": "1", "ranges": {"run.clicks": [start, end]}}).encode()


def journal(*lines: bytes) -> Journal:
    book = Journal("run.")
    for value in lines:
        book.enter(value)
    return book


ENDS = {("clicks", 0): 20}


def test_commits_that_follow_each_other_cover_the_topic() -> None:
    book = journal(line(2, 5, 20), line(1, 0, 5))
    assert book.faults(ENDS) == []
    assert book.commits() == 2


def test_a_repeated_line_is_no_fault_if_it_is_the_same() -> None:
    assert journal(line(1, 0, 20), line(1, 0, 20)).faults(ENDS) == []
    assert len(journal(line(1, 0, 20), line(1, 0, 19)).faults(ENDS)) == 1


def test_a_hole_and_an_overlap_are_faults() -> None:
    assert len(journal(line(1, 0, 5), line(2, 6, 20)).faults(ENDS)) == 1
    assert len(journal(line(1, 0, 5), line(2, 4, 20)).faults(ENDS)) == 1


def test_an_end_that_is_not_reached_is_a_fault() -> None:
    assert len(journal(line(1, 0, 5)).faults(ENDS)) == 1
    assert len(journal(line(1, 0, 20)).faults({**ENDS, ("orders", 3): 1})) == 1


def test_groups_are_counted_apart() -> None:
    assert journal(line(1, 0, 20), line(1, 0, 7, group=4)).faults({**ENDS, ("clicks", 4): 7}) == []


def test_a_line_that_cannot_be_read_is_a_fault() -> None:
    assert len(journal(line(1, 0, 20), b"{").faults(ENDS)) == 1
