"""Paired tests against SciPy's own, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stream_app.errors import ContractError
from training.evaluation.significance import holm, paired, paired_all


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_values_and_interval_are_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=8)
    second = first + rng.normal(0.3, 0.5, 8)
    found, theirs = paired(first, second), stats.ttest_rel(second, first)
    interval = theirs.confidence_interval(0.95)
    assert found.t_test == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(second, first).pvalue)
    assert found.difference == pytest.approx((second - first).mean())


def test_what_both_owe_to_the_seed_does_not_count() -> None:
    of_seed = np.array([0.1, 0.9, 0.4, 0.7, 0.2])
    better = of_seed + 0.01 + np.array([0.001, -0.001, 0.0, 0.001, -0.001])
    assert paired(of_seed, better).t_test < 0.001 < stats.ttest_ind(of_seed, better).pvalue


def test_pairs_that_are_all_equal_differ_in_nothing_and_equal_gaps_leave_nothing_to_chance() -> None:
    assert paired([0.5, 0.6], [0.5, 0.6]).t_test == 1.0
    assert paired([0.5, 0.75, 1.0], [0.625, 0.875, 1.125]).t_test == 0.0


def test_other_seeds_cannot_be_paired() -> None:
    with pytest.raises(ContractError, match="here are 2 and 3 values"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])
    assert set(paired_all({"a": [1.0, 2.0], "b": [2.0, 1.0], "c": [1.0, 2.0, 4.0]})) == {("a", "b")}


def test_looking_often_costs_certainty() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
