"""Splits by protocol: train rows never depend on test rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stream_app.errors import ConfigError, ContractError
from tests.unit.training import toy
from training.data.splitting import SplitRules, resplit, split_rows, splitting_from

DAY_MS = 86_400_000
TRAIN, VALIDATION, TEST, NONE = 0, 1, 2, -1


def rows(splitting: SplitRules, times: list[int], keys: list[int]) -> list[int]:
    return [int(split) for split in split_rows(splitting, np.array(times, np.int64), np.array(keys, np.int64))]


def test_by_time_the_newest_rows_are_test_in_whatever_order_they_stand() -> None:
    splitting = splitting_from("time", {"shares": [0.5, 0.25, 0.25]})
    assert rows(splitting, [8, 1, 7, 2, 6, 3, 5, 4], [0] * 8) == [2, 0, 2, 0, 1, 0, 1, 0]


def test_ranges_are_of_dates_and_what_is_in_none_is_left_out() -> None:
    settings = {"train": ["1970-01-02", "1970-01-04"], "test": ["1970-01-05T12:00:00Z", "1970-01-06"]}
    splitting = splitting_from("cards", settings)
    days = [0.99, 1.0, 2.99, 3.0, 4.49, 4.5, 4.99, 5.0]
    assert rows(splitting, [round(day * DAY_MS) for day in days], [0] * 8) == [-1, 0, 0, -1, -1, 2, 2, -1]


def test_leaving_one_out_takes_the_last_two_of_each_key() -> None:
    splitting = splitting_from("leave_one_out", {})
    times, keys = [5, 1, 9, 2, 3, 4, 7], [1, 1, 1, 2, 2, 3, 1]
    #             1: 1 5 7 9        2: 2 3   3: 4
    assert rows(splitting, times, keys) == [TRAIN, TRAIN, TEST, VALIDATION, TEST, TEST, VALIDATION]
    assert rows(splitting, [], []) == []


def test_a_session_is_whole_in_one_split_by_when_it_began() -> None:
    splitting = splitting_from("sessions", {"shares": [0.5, 0.25, 0.25]})
    times, keys = [1, 50, 2, 3, 4, 5], [7, 7, 8, 9, 9, 6]
    #                                  7 began first, then 8, 9, 6
    assert rows(splitting, times, keys) == [TRAIN, TRAIN, TRAIN, VALIDATION, VALIDATION, TEST]


def test_a_data_set_is_split_anew_and_an_empty_split_is_refused() -> None:
    dataset = toy.table(100)
    apart = resplit(replace(dataset, key=np.arange(100, dtype=np.int64) // 4), splitting_from("leave_one_out", {}))
    assert [len(apart.rows(split)) for split in ("train", "validation", "test")] == [50, 25, 25]
    with pytest.raises(ContractError, match=r"leaves no row for train and test; 100 rows are of 1970-01-01.*--protocol"):
        resplit(dataset, splitting_from("time", {"train": ["2020-01-01", "2020-01-02"], "test": ["2020-01-02", "2020-01-03"]}))


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        splitting_from("newest", {"shares": [0.9, 0.9, 0.1], "test": ["yesterday", "today"], "gap": 3})
    message = str(error.value)
    for part in ("'newest'", "leave_one_out", "add up to 1", "gap: no such key", "give two dates"):
        assert part in message
    with pytest.raises(ConfigError, match="dates are for the protocols time, cards, not sessions"):
        splitting_from("sessions", {"train": ["2020-01-01", "2020-01-02"], "test": ["2020-01-02", "2020-01-03"]})
    with pytest.raises(ConfigError, match="give train and test one at least"):
        splitting_from("time", {"train": ["2020-01-01", "2020-01-02"]})
