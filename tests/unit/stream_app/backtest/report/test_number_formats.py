"""Numbers are shown as a person reads them, and differences are coloured only where they are sure."""

from __future__ import annotations

from typing import Any

import pytest

from stream_app.backtest.report.number_formats import duration, number, threshold
from stream_app.backtest.report.page import FILTERS
from stream_app.reporting.html import page_environment


@pytest.mark.parametrize(
    ("value", "head", "sign", "said"),
    [
        (None, "", "", ""),
        (0.99986, "average_precision", "", "1.000"),
        (0.0004166, "", "", "0.00042"),
        (-0.0000108, "", "+", "-0.00001"),
        (0.0, "auc", "+", "0"),
        (0.25, "auc", "+", "+0.250"),
        (12_291.4, "cost_per_day", "+", "+12,291"),
        (6.5, "alerts_per_day", "+", "+6.5"),
        (11.88, "novelty", "", "11.9"),
        (2_592_000.0, "", "", "2,592,000"),
        (30.0, "", "", "30"),
    ],
)
def test_a_number_is_rounded_by_what_it_counts(value: float | None, head: str, sign: str, said: str) -> None:
    assert number(value, head, sign) == said


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (None, "never"),
        (0.003997, "14.4 seconds"),
        (0.5, "30 minutes"),
        (19.77, "19.8 hours"),
        (168.0, "7 days"),
    ],
)
def test_a_time_is_said_in_the_unit_that_a_person_would_take(hours: float | None, said: str) -> None:
    assert duration(hours) == said


def test_a_threshold_that_everything_above_nothing_reaches_is_called_that() -> None:
    assert threshold(1.4e-45) == "above 0"
    assert threshold(0.76312) == "0.7631"
    assert threshold(None) == "no alerts"


def test_only_a_difference_without_zero_in_its_interval_has_a_colour() -> None:
    def figures(low: float, high: float) -> dict[str, object]:
        of = {"value": (low + high) / 2, "low": low, "high": high}
        return {"against": "a", "recall": of, "cost_per_day": of, "difference": {"recall": of, "cost_per_day": of}}

    macros: Any = page_environment("stream_app.backtest.report", FILTERS).get_template("figures.html").module
    shown = {
        (low, high): macros.comparison(("recall", "cost_per_day"), {"b": figures(low, high)}, {"published: <x>": {"recall": 0.5}})
        for low, high in ((-0.1, 0.2), (0.1, 0.2), (-0.2, -0.1))
    }
    assert "better" not in shown[-0.1, 0.2]
    assert "worse" not in shown[-0.1, 0.2]
    for page in (shown[0.1, 0.2], shown[-0.2, -0.1]):  # more recall is better, more cost is worse
        assert page.count('class="better"') == page.count('class="worse"') == 1
    assert "<i>published: &lt;x&gt;</i>" in shown[0.1, 0.2]
