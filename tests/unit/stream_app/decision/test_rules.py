"""A rule fires when all of its conditions hold, for the kinds of events it is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from stream_app.decision.rules import SHIPPED_RULES, Condition, Rule, RuleSet
from stream_app.errors import ContractError
from stream_app.events import KINDS
from stream_app.features.catalog import CATALOGUE

NAMES = ("a", "b", "c")
CLICK, ORDER = KINDS.index("click"), KINDS.index("order")
RULES = RuleSet(
    (
        Rule("both", (Condition("c", 2.0), Condition("a", 1.0)), kinds=(ORDER,)),
        Rule("any kind", (Condition("b", 5.0),), kinds=(CLICK, ORDER)),
    ),
    NAMES,
)


def fired(features: Sequence[Sequence[float]], kinds: list[int]) -> list[list[bool]]:
    found: list[list[bool]] = RULES.fired(np.array(features, np.float32).reshape(-1, 3), np.array(kinds, np.int32)).tolist()
    return found


def test_every_condition_must_hold_and_the_bound_belongs_to_it() -> None:
    rows: list[list[float]] = [[1, 0, 2], [1, 0, 1.99], [0.99, 0, 2], [9, 9, 9]]
    assert fired(rows, [ORDER] * 4) == [[True, False], [False, False], [False, False], [True, True]]


def test_a_rule_is_silent_about_other_kinds() -> None:
    assert fired([[9, 9, 9]] * 3, [ORDER, CLICK, KINDS.index("search")]) == [[True, True], [False, True], [False, False]]


def test_a_batch_of_none_fires_nothing() -> None:
    assert fired([], []) == []


def test_a_rule_over_an_unknown_feature_is_refused_and_named() -> None:
    with pytest.raises(ContractError, match=r"nosuch.*Operator action"):
        RuleSet((Rule("r", (Condition("nosuch", 1.0),), kinds=(ORDER,)),), NAMES)


def test_the_shipped_rules_fit_the_shipped_catalogue() -> None:
    names = tuple(feature.name for feature in CATALOGUE.features)
    assert RuleSet(SHIPPED_RULES, names).names == [rule.name for rule in SHIPPED_RULES]
    assert all(0 <= kind < len(KINDS) for rule in SHIPPED_RULES for kind in rule.kinds)
