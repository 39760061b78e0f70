"""An event is an alert from the threshold on or when a rule fires, and an alert says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stream_app.decision.decide import Decider, Decisions
from stream_app.decision.rules import Condition, Rule, RuleSet
from stream_app.events import Reason
from stream_app.inference.ranker import PriorRanker
from stream_app.ranked import Challenger, ModelNorms

NAMES = tuple(f"f{number}" for number in range(8))
ORDER = 5
DECIDER = Decider(rules=RuleSet((Rule("many", (Condition("f7", 100.0),), kinds=(ORDER,)),), NAMES), feature_names=NAMES)
CHAMPION = ModelNorms("champion", 0.8, np.arange(8, dtype=np.float32), np.full(8, 2.0, np.float32))
CHALLENGER = ModelNorms("challenger", 0.1, np.zeros(8, np.float32), np.ones(8, np.float32))
USUAL = list(range(8))


def decide(fraud: Sequence[float], dense: Sequence[Sequence[float]], versions: Sequence[str] = ()) -> Decisions:
    kinds = np.full(len(fraud), ORDER, np.int32)
    features = np.array(dense, np.float32).reshape(-1, 8)
    ranked = replace(PriorRanker().rank({"dense": features}, [b""] * len(fraud)), fraud=np.array(fraud, np.float32))
    challengers = (Challenger(CHALLENGER, 10.0),) if versions else ()
    versions = versions or [CHAMPION.version] * len(fraud)
    return DECIDER.decide(replace(ranked, champion=CHAMPION, versions=versions, challengers=challengers), features, kinds)


def test_the_threshold_belongs_to_the_alerts() -> None:
    assert decide([0.79, 0.81, float(np.float32(0.8)), 0.0], [USUAL] * 4).alert.tolist() == [False, True, True, False]


def test_a_rule_raises_an_alert_whatever_the_model_says() -> None:
    decided = decide([0.0, 0.99, 0.99], [[*USUAL[:7], 100.0], [*USUAL[:7], 100.0], USUAL])
    assert decided.alert.tolist() == [True, True, True]
    assert decided.rules == {0: ["many"], 1: ["many"], 2: []}


def test_reasons_are_what_stands_out_most_with_what_is_usual_beside_it() -> None:
    decided = decide([0.9, 0.1], [[0, 1, 2, 13, 0, 5, 6, 8], USUAL])
    assert decided.reasons == {0: [Reason("f3", 13.0, 3.0), Reason("f4", 0.0, 4.0), Reason("f7", 8.0, 7.0)]}


def test_there_are_at_most_five_reasons_and_none_for_the_usual() -> None:
    decided = decide([0.9, 0.9], [[50.0] * 8, USUAL])
    assert [len(decided.reasons[row]) for row in (0, 1)] == [5, 0]


def test_a_batch_of_none_decides_nothing() -> None:
    decided = decide([], [])
    assert (decided.alert.tolist(), decided.rules, decided.reasons) == ([], {}, {})


def test_each_row_is_decided_by_the_threshold_and_the_usual_values_of_the_model_that_made_it() -> None:
    decided = decide([0.3, 0.3, 0.9], [USUAL] * 3, ["champion", "challenger", "champion"])
    assert decided.alert.tolist() == [False, True, True]
    assert [reason.usual for reason in decided.reasons[1]] == [0.0] * 5
    assert decided.reasons[2] == []
