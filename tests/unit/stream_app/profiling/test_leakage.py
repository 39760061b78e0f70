from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from stream_app.profiling.columns import inspect_columns, time_column
from stream_app.profiling.leakage import ColumnWarning, warnings_of
from stream_app.profiling.table_files import ColumnTable

N = 3_000
TIMES = [1_700_000_000 + 60 * n for n in range(N)]


def warnings(columns: dict[str, Sequence[Any]]) -> dict[tuple[str, str], ColumnWarning]:
    found = inspect_columns(ColumnTable(list(columns), [list(values) for values in columns.values()]))
    time = time_column(found)
    return {(w.column, w.about): w for w in warnings_of(found, time.column if time else None)}


@pytest.fixture
def fraud() -> list[int]:
    rng = Random(2)
    return [int(rng.random() < 0.1) for _ in range(N)]


def test_a_number_or_a_word_that_gives_the_truth_away_is_reported_and_an_honest_one_is_not(fraud: list[int]) -> None:
    rng = Random(4)
    found = warnings(
        {
            "time": TIMES,
            "review_score": [f + rng.random() * 0.9 for f in fraud],
            "status": ["blocked" if f else rng.choice(["ok", "fine"]) for f in fraud],
            "amount": [rng.random() * (2.0 if f else 1.0) for f in fraud],
            "fraud": fraud,
        }
    )
    assert found["review_score", "predicts the label"].auc == 1.0
    assert "tells fraud alone" in found["status", "predicts the label"].message
    assert ("amount", "predicts the label") not in found
    assert found["fraud", "label"].message.startswith("taken for the truth")


def test_a_column_that_is_filled_only_for_true_rows_is_reported(fraud: list[int]) -> None:
    found = warnings({"time": TIMES, "case": [f"case{n % 200}" if f else "" for n, f in enumerate(fraud)], "fraud": fraud})
    assert "known only once the truth is" in found["case", "known later"].message


def test_a_time_after_the_event_is_reported() -> None:
    found = warnings({"event_time": TIMES, "delivered_time": [t + 86_400 for t in TIMES], "signup_time": [t - 99 for t in TIMES]})
    assert "is after the event in 100% of the rows, typically by 86,400 s" in found["delivered_time", "known later"].message
    assert ("signup_time", "known later") not in found


def test_ids_of_rows_constants_and_second_labels_are_reported(fraud: list[int]) -> None:
    found = warnings(
        {"time": TIMES, "user_id": list(range(N)), "shop": ["x"] * N, "scenario": [3 * f for f in fraud], "fraud": fraud}
    )
    assert "no history" in found["user_id", "row id"].message
    assert ("shop", "constant") in found
    assert ("scenario", "second label") in found
    assert found["scenario", "predicts the label"].auc == 1.0


def test_a_label_that_drifts_and_entities_that_are_all_bad_ask_for_a_split_by_time() -> None:
    rng = Random(6)
    fraud = [int(rng.random() < (0.5 if n < N // 5 else 0.02)) for n in range(N)]
    device = [f"bad{n % 60}" if f else f"good{rng.randrange(300)}" for n, f in enumerate(fraud)]
    found = warnings({"time": TIMES, "device": device, "class": fraud})
    assert "split by time" in found["class", "drift"].message
    assert "in every row" in found["device", "split"].message


def test_without_a_label_of_two_values_the_label_is_only_named() -> None:
    found = warnings({"time": TIMES, "class": [n % 5 for n in range(N)], "x": [n * 0.5 for n in range(N)]})
    assert set(found) == {("class", "label"), ("x", "known later")} or set(found) == {("class", "label")}


def test_too_few_true_rows_say_nothing() -> None:
    found = warnings({"time": TIMES, "leak": [0.5] * (N - 5) + [1.5] * 5, "fraud": [0] * (N - 5) + [1] * 5})
    assert ("leak", "predicts the label") not in found
