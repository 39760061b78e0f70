"""Metrics of cards (customers): which are known to be compromised, and how many a daily budget detects.

Source: Le Borgne et al., "Reproducible Machine Learning for Credit Card Fraud Detection: Practical Handbook", 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def known_compromised(days: Labels, cards: Labels, labels: Labels, delay_days: int) -> NDArray[np.bool_]:
    """Return for each row (N,) whether its card had a fraud that was known before the row's day began.

    A fraud of day f is known from day f + delay_days + 1 on. The rows must begin with the first training day, and include those
    of the delay between training and test.

    Source: `get_train_test_set` of Le Borgne et al.
    """
    _, card = np.unique(cards, return_inverse=True)
    first = np.full(int(card.max(initial=-1)) + 1, np.iinfo(np.int64).max, np.int64)  # day of the card's first fraud
    np.minimum.at(first, card[labels == 1], days[labels == 1].astype(np.int64))
    known: NDArray[np.bool_] = days.astype(np.int64) - delay_days - 1 >= first[card]
    return known


def card_precision_at(scores: Scores, labels: Labels, days: Labels, cards: Labels, budget: int) -> float:
    """Return the mean over days of: compromised cards among the `budget` cards of the highest score, over `budget`.

    A card scores as its highest transaction of the day; a detected card is blocked and left out on later days. Scores, labels
    (1 = fraud), day numbers and numbers of cards (N,) are those of transactions.

    Source: `card_precision_top_k` of Le Borgne et al.
    """
    numbers, card = np.unique(cards, return_inverse=True)
    return CardDays(scores, labels, days, card, len(numbers)).precision(np.ones(len(numbers)), budget)


class CardDays:
    """Cards by day, for `card_precision_at` with weights of cards.

    A card of weight 2 counts as two cards of the same score. With unit weights the result is that of `card_precision_at`.

    Args:
        scores: (N,) of transactions.
        labels: (N,) 1 = fraud.
        days: (N,) day numbers.
        cards: (N,) numbers of cards, from 0, below `count`.
        count: of cards.
    """

    def __init__(self, scores: Scores, labels: Labels, days: Labels, cards: Labels, count: int) -> None:
        self._days: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []  # cards, the highest score first; whether a fraud
        self._count = count
        for day in np.unique(days):
            now = days == day
            of_day, card = np.unique(cards[now], return_inverse=True)
            highest, fraud = np.full(len(of_day), -np.inf), np.zeros(len(of_day), np.bool_)
            np.maximum.at(highest, card, scores[now])
            np.logical_or.at(fraud, card, labels[now] == 1)
            order = np.argsort(-highest, kind="stable")
            self._days.append((of_day[order].astype(np.int64), fraud[order]))

    def precision(self, weights: NDArray[np.float64], budget: int) -> float:
        """Return the mean over days of the share of `budget` that were compromised; weights (count,) of cards."""
        left, shares = weights.copy(), []
        for cards, fraud in self._days:
            reach = np.cumsum(left[cards])
            reviewed = np.clip(budget - (reach - left[cards]), 0.0, left[cards])  # how many of each card are within the budget
            detected = reviewed * fraud
            shares.append(detected.sum() / budget)
            left[cards] -= detected  # blocked
        return float(np.mean(shares)) if shares else float("nan")

    def detection_day(self, budget: int) -> NDArray[np.int64]:
        """Return for each card (count,) the index of the day of its detection; the number of days if there is none."""
        day_of = np.full(self._count, len(self._days), np.int64)
        for place, (cards, fraud) in enumerate(self._days):
            waiting = day_of[cards] == len(self._days)
            cards, fraud = cards[waiting][:budget], fraud[waiting][:budget]  # noqa: PLW2901 (without the blocked cards)
            day_of[cards[fraud]] = place
        return day_of
