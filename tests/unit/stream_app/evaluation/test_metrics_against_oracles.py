"""The figures that decide between candidates, against other ways to count them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from stream_app.backtest.config import DAY_MS, Costs
from stream_app.backtest.costs import cost_of, sweep
from stream_app.backtest.decisions import NO_ALERTS, budget_threshold, known_threshold
from stream_app.evaluation.bootstrap import BootstrapSamples, interval_of
from stream_app.evaluation.card_precision import CardDays, card_precision_at, known_compromised
from stream_app.evaluation.label_history import NEVER_MS, UNKNOWN, LabelHistory
from stream_app.evaluation.metrics import Ranking, average_precision, roc_auc

Array = NDArray[Any]


@pytest.fixture(params=range(5))
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


def events(random: np.random.Generator, count: int = 400, users: int = 40) -> tuple[Array, Array, Array, Array]:
    """Scores with ties, labels that hang on them, users, times over five days."""
    scores = np.round(random.random(count), 1 + int(random.integers(3)))
    labels = (random.random(count) < 0.3 * scores + 0.05).astype(np.int64)
    return scores, labels, random.integers(0, users, count), np.sort(random.integers(0, 5 * DAY_MS, count))


def test_average_precision_and_auc_are_those_of_scikit_learn_with_and_without_weights(random: np.random.Generator) -> None:
    scores, labels, user, _ = events(random)
    draws = BootstrapSamples(user, 3, seed=7)
    ranking = Ranking(scores, labels, draws.of_event)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores))
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    for weights in (np.ones(len(draws.users)), *draws.weights()):
        weight = weights[draws.of_event]
        assert ranking.average_precision(weights) == pytest.approx(average_precision_score(labels, scores, sample_weight=weight))
        assert ranking.roc_auc(weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weight))


def handbook_card_precision(scores: Array, labels: Array, days: Array, cards: Array, budget: int) -> float:
    """`card_precision_top_k` of the handbook, in plain Python; of cards of one score those of the lower number come first."""
    found: set[int] = set()
    shares = []
    for day in sorted(set(days.tolist())):
        best: dict[int, tuple[float, int]] = {}
        for score, label, when, card in zip(scores, labels, days, cards, strict=True):
            if when == day and int(card) not in found:
                old = best.get(int(card), (-np.inf, 0))
                best[int(card)] = (max(old[0], float(score)), max(old[1], int(label)))
        first = sorted(best, key=lambda card: (-best[card][0], card))[:budget]
        compromised = [card for card in first if best[card][1]]
        found.update(compromised)
        shares.append(len(compromised) / budget)
    return float(np.mean(shares))


def test_card_precision_is_the_handbooks_by_brute_force(random: np.random.Generator) -> None:
    scores, labels, user, time_ms = events(random)
    days = time_ms // DAY_MS
    for budget in (1, 3, 10, 100):
        wanted = handbook_card_precision(scores, labels, days, user, budget)
        assert card_precision_at(scores, labels, days, user, budget) == pytest.approx(wanted)
        numbers, of_event = np.unique(user, return_inverse=True)
        cards = CardDays(scores, labels, days, of_event, len(numbers))
        assert cards.precision(np.ones(len(numbers)), budget) == pytest.approx(wanted)


def test_a_card_that_was_drawn_twice_counts_as_two_cards(random: np.random.Generator) -> None:
    scores, labels, user, time_ms = events(random, count=150, users=15)
    scores = scores + random.random(len(scores)) * 1e-3  # no two are equal, so that copies stand beside each other
    days = time_ms // DAY_MS
    draws = BootstrapSamples(user, 4, seed=3)
    cards = CardDays(scores, labels, days, draws.of_event, len(draws.users))
    for weights in draws.weights():
        copies = [
            (scores[place], labels[place], days[place], 1_000 * draws.of_event[place] + copy)
            for place in range(len(scores))
            for copy in range(int(weights[draws.of_event[place]]))
        ]
        score, label, day, card = (np.array(column) for column in zip(*copies, strict=True))
        assert cards.precision(weights, 4) == pytest.approx(handbook_card_precision(score, label, day, card, 4))


def test_who_is_found_on_which_day_is_what_card_precision_counts(random: np.random.Generator) -> None:
    scores, labels, user, time_ms = events(random)
    days, draws = time_ms // DAY_MS, BootstrapSamples(user, 2, seed=1)
    cards = CardDays(scores, labels, days, draws.of_event, len(draws.users))
    of_days = len(np.unique(days))
    found = cards.detection_day(5)
    assert (found < of_days).sum() / (5 * of_days) == pytest.approx(card_precision_at(scores, labels, days, draws.of_event, 5))


def test_the_bootstraps_spread_is_the_closed_form_of_a_mean() -> None:
    # One event a user: the mean of n draws has the standard deviation sqrt(p (1 - p) / n), and its interval is 1.96 of it wide.
    users, rate = 1_000, 0.3
    labels = (np.arange(users) < rate * users).astype(np.int64)
    drawn = BootstrapSamples(np.arange(users), 4_000, seed=1).ratios(labels, np.ones(users))
    spread = (rate * (1 - rate) / users) ** 0.5
    found = interval_of(drawn)
    assert found["value"] == pytest.approx(rate)
    assert drawn[1:].std() == pytest.approx(spread, rel=0.05)
    assert found["low"] == pytest.approx(rate - 1.96 * spread, abs=0.003)
    assert found["high"] == pytest.approx(rate + 1.96 * spread, abs=0.003)


def test_events_of_one_user_are_drawn_together() -> None:
    # Ten equal events a user say no more than one: the interval must not shrink.
    labels = (np.arange(200) < 60).astype(np.int64)
    alone = BootstrapSamples(np.arange(200), 500, seed=1).ratios(labels, np.ones(200))
    often = np.repeat(labels, 10)
    together = BootstrapSamples(np.repeat(np.arange(200), 10), 500, seed=1).ratios(often, np.ones(2_000))
    assert together == pytest.approx(alone)


def test_draws_are_the_same_with_one_seed_and_others_with_another() -> None:
    user = np.arange(50)
    first, again, other = (list(BootstrapSamples(user, 5, seed=seed).weights()) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert all(weights.sum() == 50 for weights in first)


def test_the_sweep_is_a_direct_recount_at_every_threshold(random: np.random.Generator) -> None:
    scores, labels, _, _ = events(random)
    amount = random.random(len(scores)) * 100
    costs = Costs(review=3.0, false_alarm=1.5, missed_share=0.8, missed=20.0)
    found = sweep(scores, labels, amount, costs)
    for place, threshold in enumerate(found["threshold"]):
        alert = scores >= threshold
        fraud = labels == 1
        assert found["alerts"][place] == alert.sum()
        assert found["hits"][place] == (alert & fraud).sum()
        assert found["recall"][place] == pytest.approx((alert & fraud).sum() / fraud.sum())
        assert found["value_caught"][place] == pytest.approx(amount[alert & fraud].sum() / amount[fraud].sum())
        by_hand = 3.0 * alert.sum() + 1.5 * (alert & ~fraud).sum() + (0.8 * amount + 20.0)[fraud & ~alert].sum()
        assert found["cost"][place] == pytest.approx(by_hand)
        assert cost_of(alert, labels, amount, costs).sum() == pytest.approx(by_hand)
    least = min(cost_of(scores >= level, labels, amount, costs).sum() for level in [*np.unique(scores), np.inf])
    assert min(found["cost"]) == pytest.approx(least)


def test_what_is_known_at_a_time_is_what_was_said_by_then(random: np.random.Generator) -> None:
    count = 200
    time_ms = np.sort(random.integers(0, 10 * DAY_MS, count))
    row = random.integers(0, count, 150)  # some have several labels, some none
    known_ms = time_ms[row] + random.integers(0, 5 * DAY_MS, 150)
    value = random.integers(0, 2, 150)
    truth = LabelHistory.of(time_ms, np.full(count, 5), (row, known_ms, value), end_ms=NEVER_MS)
    for moment_ms in (0, 2 * DAY_MS, 5 * DAY_MS, 20 * DAY_MS):
        for event in range(count):
            heard = [(known_ms[k], k) for k in range(150) if row[k] == event and known_ms[k] <= moment_ms]
            assert truth.at(moment_ms)[event] == (value[max(heard)[1]] if heard else UNKNOWN)


def test_silence_means_honest_once_an_event_is_older_than_the_longest_delay() -> None:
    time_ms, kind = np.array([0, 10, 20, 30]), np.array([5, 5, 5, 1])
    truth = LabelHistory.of(time_ms, kind, (np.array([0]), np.array([100]), np.array([1])), end_ms=NEVER_MS)
    assert truth.at(99).tolist() == [UNKNOWN] * 4
    assert truth.at(100).tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert truth.at(110).tolist() == [1, 0, UNKNOWN, UNKNOWN]
    assert truth.final.tolist() == [1, 0, 0, UNKNOWN]  # nothing is ever said of a click
    assert truth.first_known_ms(1).tolist() == [100, NEVER_MS, NEVER_MS, NEVER_MS]


@pytest.mark.parametrize("maturity_ms", [None, 100])
def test_an_event_that_is_young_when_the_log_ends_is_not_judged_whatever_was_said(maturity_ms: int | None) -> None:
    time_ms, kind = np.array([0, 10, 20, 30, 40]), np.full(5, 5)
    said = (np.array([0, 3]), np.array([100, 90]), np.array([1, 1]))
    truth = LabelHistory.of(time_ms, kind, said, end_ms=120, maturity_ms=maturity_ms)
    assert truth.final.tolist() == [1, 0, 0, UNKNOWN, UNKNOWN]
    assert truth.first_known_ms(1)[3] == 90  # known all the same, to whoever blocks its user


def test_verdicts_need_no_time(random: np.random.Generator) -> None:
    value = random.permutation([0, 1, 0, 1])
    truth = LabelHistory.of(np.arange(4), np.full(4, 5), (np.arange(4), np.arange(4) + 50, value), end_ms=53)
    assert truth.final.tolist() == value.tolist()


def test_a_verdict_that_overturns_a_complaint_counts_from_its_own_time() -> None:
    said = (np.array([0, 0]), np.array([100, 200]), np.array([1, 0]))
    truth = LabelHistory.of(np.array([0]), np.array([5]), said, end_ms=NEVER_MS)
    assert [int(truth.at(moment)[0]) for moment in (99, 100, 199, 200)] == [UNKNOWN, 1, 1, 0]
    assert truth.final.tolist() == [0]


def test_who_was_known_when_the_day_began_is_the_handbooks_known_compromised(random: np.random.Generator) -> None:
    scores, labels, user, time_ms = events(random, count=600, users=60)
    time_ms = np.sort(random.integers(0, 20 * DAY_MS, len(scores)))
    frauds = np.flatnonzero(labels)
    said = (frauds, time_ms[frauds] + 7 * DAY_MS, np.ones(len(frauds), np.int64))
    truth = LabelHistory.of(time_ms, np.full(len(scores), 5), said, end_ms=NEVER_MS)
    first = np.full(60, NEVER_MS)
    np.minimum.at(first, user, truth.first_known_ms(1))
    known = first[user] <= time_ms // DAY_MS * DAY_MS
    assert np.array_equal(known, known_compromised(time_ms // DAY_MS, user, labels, 7))


def test_the_precision_threshold_sees_no_label_before_its_time(random: np.random.Generator) -> None:
    scores, labels, _, time_ms = events(random)
    known_ms = time_ms + random.integers(0, 3 * DAY_MS, len(scores))
    truth = LabelHistory.of(time_ms, np.full(len(scores), 5), (np.arange(len(scores)), known_ms, labels), end_ms=NEVER_MS)
    for moment_ms in (DAY_MS, 3 * DAY_MS, 5 * DAY_MS):
        found = known_threshold(scores, time_ms, truth, 0.3, moment_ms, lookback_days=2)
        seen = [
            (float(scores[k]), int(labels[k]))
            for k in range(len(scores))
            if moment_ms - 2 * DAY_MS <= time_ms[k] < moment_ms and known_ms[k] <= moment_ms
        ]
        fine = []
        for level in sorted({score for score, _ in seen}):
            alerts = [label for score, label in seen if score >= level]
            fine += [level] if sum(alerts) >= 0.3 * len(alerts) else []
        assert found == (min(fine) if fine and any(label for _, label in seen) else NO_ALERTS)


def test_where_only_frauds_are_told_the_precision_threshold_is_of_events_whose_silence_counts(
    random: np.random.Generator,
) -> None:
    scores, labels, _, time_ms = events(random, count=900)
    time_ms = np.sort(random.integers(0, 20 * DAY_MS, len(scores)))
    frauds = np.flatnonzero(labels)
    known_ms = time_ms[frauds] + random.integers(0, 4 * DAY_MS, len(frauds))  # most are told long before silence counts
    delay_ms = 6 * DAY_MS
    truth = LabelHistory.of(
        time_ms, np.full(len(scores), 5), (frauds, known_ms, np.ones(len(frauds), np.int64)), end_ms=NEVER_MS,
        maturity_ms=delay_ms,
    )  # fmt: skip
    for day in (2, 8, 12, 19):
        moment_ms = day * DAY_MS
        old = [k for k in range(len(scores)) if moment_ms - delay_ms - 5 * DAY_MS <= time_ms[k] <= moment_ms - delay_ms]
        levels = sorted({float(scores[k]) for k in old})
        fine = [s for s in levels if np.mean([labels[k] for k in old if scores[k] >= s]) >= 0.5]
        wanted = min(fine) if fine and any(labels[k] for k in old) else NO_ALERTS
        assert known_threshold(scores, time_ms, truth, 0.5, moment_ms, lookback_days=5) == wanted


def test_the_budget_threshold_spends_the_budget_and_no_more_on_the_days_before(random: np.random.Generator) -> None:
    scores, _, user, time_ms = events(random)
    for budget in (1, 4, 30):
        found = budget_threshold(scores, time_ms, user, budget, 4 * DAY_MS, lookback_days=3)
        past = (time_ms < 4 * DAY_MS) & (time_ms >= DAY_MS)

        def spent(level: float, past: Array = past) -> int:
            return len(
                {
                    (int(t // DAY_MS), int(u))
                    for s, t, u in zip(scores[past], time_ms[past], user[past], strict=True)
                    if s >= level
                }
            )

        assert found == NO_ALERTS or spent(found) <= 3 * budget
        lower = [level for level in np.unique(scores[past]) if level < found]
        assert all(spent(level) > 3 * budget for level in lower)


def test_the_budget_threshold_looks_at_nothing_from_the_moment_on() -> None:
    time_ms = np.array([0, DAY_MS])
    assert budget_threshold(np.array([0.5, 0.9]), time_ms, np.array([1, 2]), 1, DAY_MS, 7) == 0.5
    assert budget_threshold(np.array([0.5, 0.9]), time_ms, np.array([1, 2]), 1, 0, 7) == NO_ALERTS


def test_draws_do_not_depend_on_how_users_are_numbered(random: np.random.Generator) -> None:
    user, values = random.integers(0, 40, 300), random.random(300)
    found = [
        BootstrapSamples(numbers, 20, 3).sums(values[:, None]) for numbers in (user, 7 * user + 5, random.permutation(40)[user])
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
