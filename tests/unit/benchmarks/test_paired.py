from __future__ import annotations

from benchmarks.paired import compared, order_of_runs


def test_the_sides_take_turns_and_each_is_first_as_often() -> None:
    assert order_of_runs(2) == ["old", "new", "new", "old"]
    assert sorted(order_of_runs(3)) == ["new"] * 3 + ["old"] * 3


def test_figures_of_both_sides_are_compared_by_their_medians() -> None:
    old = [{"events_per_s": rate, "only_old": 1.0} for rate in (90.0, 100.0, 200.0)]
    new = [{"events_per_s": rate} for rate in (80.0, 50.0, 40.0)]
    assert compared({"old": old, "new": new}) == {
        "events_per_s": {
            "old": {"median": 100.0, "low": 90.0, "high": 200.0},
            "new": {"median": 50.0, "low": 40.0, "high": 80.0},
            "ratio": 0.5,
        }
    }
