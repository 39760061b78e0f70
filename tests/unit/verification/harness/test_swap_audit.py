"""The swap benchmark's books: an answer of another model than its commit's is seen."""

from __future__ import annotations

from typing import Any

import msgspec

from verification.harness.swap_audit import SwapAudit


def line(commit: int, start: int, end: int, version: str, **more: Any) -> bytes:
    record = {"group": 1, "commit": commit, "ranges": {"clicks": (start, end)}, "model_version": version, **more}
    return msgspec.json.encode(record)


def answer(offset: int, version: str, **more: Any) -> bytes:
    return msgspec.json.encode(
        {"source": {"topic": "clicks", "partition": 1, "offset": offset}, "model_version": version, **more}
    )


def run(*answers: bytes) -> SwapAudit:
    books = SwapAudit()
    for record in (line(1, 0, 3, "a"), line(2, 3, 5, "b"), line(3, 5, 9, "b", challengers={"c": 5.0})):
        books.enter_line(record)
    for record in answers:
        books.enter_answer(record)
    return books


def test_a_run_whose_answers_are_those_of_their_commits_is_not_mixed() -> None:
    books = run(answer(0, "a"), answer(2, "a"), answer(3, "b"), answer(6, "c"), answer(8, "b"))
    assert books.mixed(swaps=1) == {}
    assert books.versions() == {1: ["a", "b"]}
    assert books.swaps_seen() == 1


def test_an_answer_of_another_model_than_its_commits_is_mixed() -> None:
    assert run(answer(2, "b")).mixed(swaps=1) == {"answers of another model than their commit's": 1}
    assert run(answer(4, "c")).mixed(swaps=1) == {"answers of another model than their commit's": 1}


def test_an_answer_without_a_commit_is_mixed_and_what_repeats_another_is_not() -> None:
    assert run(answer(9, "b")).mixed(swaps=1) == {"answers without a commit": 1}
    assert run(answer(4, "a", duplicate_of="clicks-1-0")).mixed(swaps=1) == {}


def test_a_champion_that_changes_more_often_than_it_was_asked_to_is_mixed() -> None:
    assert run().mixed(swaps=0) == {"changes that the registry did not ask for": 1}


def test_answers_without_a_model_are_counted() -> None:
    assert run(answer(0, "a", degraded=True), answer(1, "a")).degraded() == 1
