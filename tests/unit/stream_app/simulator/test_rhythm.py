from __future__ import annotations

from itertools import islice, pairwise

import pytest

from stream_app.simulator.draws import seeded
from stream_app.simulator.rhythm import WEEK, arrival_times

HOUR_MS = 3_600_000
MONDAY_MS = 4 * 24 * HOUR_MS  # 1970-01-05


def test_the_week_has_mean_one_with_quiet_nights_and_fuller_saturdays() -> None:
    assert len(WEEK) == 168
    assert sum(WEEK) / 168 == pytest.approx(1.0)
    assert WEEK[20] > 5 * WEEK[3]
    assert WEEK[5 * 24 + 20] > WEEK[20]


def test_arrivals_follow_the_hours_and_keep_the_mean_rate() -> None:
    times = list(islice(arrival_times(seeded(1, "t"), 0.0001, MONDAY_MS, rhythm=True), 200_000))
    week = [t for t in times if t < MONDAY_MS + 7 * 24 * HOUR_MS]
    assert len(week) == pytest.approx(0.0001 * 7 * 24 * HOUR_MS, rel=0.03)
    by_hour = [sum(1 for t in week if (t - MONDAY_MS) // HOUR_MS == hour) for hour in (3, 20)]
    assert by_hour[1] > 5 * by_hour[0]
    assert all(before <= after for before, after in pairwise(times))
