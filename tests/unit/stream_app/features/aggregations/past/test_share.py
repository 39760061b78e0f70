"""share, top_share and rank."""

from __future__ import annotations

import pytest
from hypothesis import given

from stream_app.events import Click, Event
from tests.unit.stream_app.features.aggregations.laws import check_agreement, check_monoid, checked, declared, single, visits
from tests.unit.stream_app.features.cases import NOON

HOUR = 3_600_000
SIZES = {"measure": "hour", "cells": 24}, {"measure": "category", "cells": 3}, {"measure": "quantity", "cells": 1}
ALL = {
    "share": declared("share", *({**size, "prior": (1.0, 4.0)} for size in SIZES), windows=False),
    "top_share": declared("top_share", *({**size, "top": max(1, size["cells"] // 2)} for size in SIZES), windows=False),  # type: ignore[operator]
    "rank": declared("rank", *SIZES, windows=False),
}
all_three = pytest.mark.parametrize("how", ALL)


@all_three
@checked
@given(log=visits(40))
def test_histograms_are_the_oracles(how: str, log: list[Event]) -> None:
    check_agreement(ALL[how], log)


@all_three
@checked
@given(a=visits(8), b=visits(8), c=visits(8))
def test_histograms_merge_as_a_monoid(how: str, a: list[Event], b: list[Event], c: list[Event]) -> None:
    check_monoid(ALL[how], (a, b, c), idempotent=False)


def test_an_hour_has_its_share_its_rank_and_the_fullest_theirs() -> None:
    hours = [9, 9, 21, 9, 3]
    log: list[Event] = [
        Click(event_id=f"e{n}", user="u", event_time_ms=NOON + n * 24 * HOUR + hour * HOUR, action="view", item="i")
        for n, hour in enumerate(hours)
    ]
    words = {"measure": "hour", "cells": 24}
    assert single("share", log, prior=(1.0, 24.0), **words) == pytest.approx([-1.0, 2 / 25, 1 / 26, 3 / 27, 1 / 28])
    assert single("top_share", log, top=1, **words) == pytest.approx([-1.0, 1.0, 1.0, 2 / 3, 3 / 4])
    assert single("top_share", log, top=2, **words) == pytest.approx([-1.0, 1.0, 1.0, 1.0, 1.0])
    assert single("rank", log, **words) == [-1.0, 1.0, 0.0, 1.0, 0.0]


def test_the_fullest_cells_are_found_among_the_most_there_can_be() -> None:
    log: list[Event] = []
    for cell, times in enumerate([3, 1, 4, 1, 5, 9, 2, 6]):
        log += [
            Click(event_id=f"e{cell}.{n}", user="u", event_time_ms=NOON, action="click", item="i", position=cell + 1)
            for n in range(times)
        ]
    log.append(Click(event_id="last", user="u", event_time_ms=NOON, action="click", item="i", position=3))
    words = {"measure": "position", "cells": 64}
    assert single("top_share", log, top=3, **words)[-1] == pytest.approx(20 / 31)
    assert single("top_share", log, top=64, **words)[-1] == 1.0
    assert single("rank", log, **words)[-1] == 4.0
