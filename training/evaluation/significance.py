"""Paired tests of two ways of training over the same seeds.

Pairs remove the effect that the seed has on both (initial weights, order of batches, split), which is most of the spread. With
few seeds only the t-test can reach a small p-value: the least p-value of Wilcoxon's test over n pairs is 2 / 2**n, .0625
for five.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError


@dataclass(frozen=True)
class PairedTest:
    """How the second way differs from the first over N seeds.

    Attributes:
        seeds: N.
        difference: mean of second minus first.
        low: lower end of the 95 % confidence interval of that mean.
        high: upper end.
        t_test: two-sided p-value of Student's paired t-test; 1 where all pairs are equal.
        wilcoxon: two-sided p-value of Wilcoxon's signed-rank test, exact; 1 where all pairs are equal.
    """

    seeds: int
    difference: float
    low: float
    high: float
    t_test: float
    wilcoxon: float


def paired(first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]) -> PairedTest:
    """Compare N values of a metric by two ways, of the same seeds in the same order.

    Raises:
        ContractError: The numbers of seeds differ, or are less than two.
    """
    from scipy import stats

    if len(first) != len(second) or len(first) < 2:
        raise ContractError(
            f"a paired test needs the same seeds twice, two of them at least; here are {len(first)} and {len(second)} values. "
            "Operator action: train both with the same --seeds."
        )
    gaps = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    wilcoxon = float(stats.wilcoxon(gaps).pvalue) if gaps.any() else 1.0
    if not np.ptp(gaps):  # equal gaps have no spread: the t-value is infinite, or undefined where they are 0
        mean = float(gaps[0])
        return PairedTest(len(gaps), mean, mean, mean, 0.0 if mean else 1.0, wilcoxon)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # SciPy warns of gaps that differ by rounding alone
        test = stats.ttest_1samp(gaps, 0.0)
    interval = test.confidence_interval(0.95)
    return PairedTest(len(gaps), float(gaps.mean()), float(interval.low), float(interval.high), float(test.pvalue), wilcoxon)


def paired_all(values: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], PairedTest]:
    """Compare each way with each later one of `values` that has as many seeds."""
    return {
        (a, b): paired(values[a], values[b])
        for a, b in combinations(values, 2)
        if len(values[a]) == len(values[b]) and len(values[a]) > 1
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests, in the same order.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.
    """
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * float(p_values[number])))
        corrected[number] = highest
    return corrected
