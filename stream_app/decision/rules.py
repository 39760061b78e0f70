"""Rules: conditions on named features that raise an alert whatever the model answers.

A rule fires when all of its conditions hold. Rules are for what is certain and must not wait for a model; the alert names the
rule. Conditions compare the features of the event's own past, which does not include the event itself.

A backtest also ranks events by rules: an event gets the points of all rules that fire (`rule_files.py` reads rules and points
from a file).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from stream_app.errors import ContractError


@dataclass(frozen=True, slots=True)
class Condition:
    """`feature` is at least `at_least` and below `below`; false for NaN."""

    feature: str
    at_least: float = -math.inf
    below: float = math.inf


@dataclass(frozen=True, slots=True)
class Rule:
    """A conjunction of conditions for events of some kinds (codes of events.KINDS); `points` rank events in a backtest."""

    name: str
    conditions: tuple[Condition, ...]
    kinds: tuple[int, ...]
    points: float = 1.0


# Card testing tries many stolen cards from one account in a short time; six instruments and eight orders in an hour are far
# beyond a shopper (Fraud Detection Handbook, "velocity checks").
SHIPPED_RULES: Final = (
    Rule(
        "card_testing_velocity",
        (Condition("user_distinct_instruments_7d", 6.0), Condition("user_orders_1h", 8.0)),
        kinds=(5,),
    ),
)


class RuleSet:
    """Rules compiled against a catalogue's feature names."""

    def __init__(self, rules: tuple[Rule, ...], feature_names: tuple[str, ...]) -> None:
        position = {name: index for index, name in enumerate(feature_names)}
        unknown = sorted({c.feature for rule in rules for c in rule.conditions} - position.keys())
        if unknown:
            raise ContractError(
                f"rules name features that the catalogue does not have: {', '.join(unknown)}. "
                "Operator action: correct the rules (stream_app/decision/rules.py, or their file), or add them to the catalogue."
            )
        self.names = [rule.name for rule in rules]
        self.points = np.array([rule.points for rule in rules], np.float64)
        self._rules = [(rule, [(position[c.feature], c) for c in rule.conditions]) for rule in rules]

    def fired(self, dense: npt.NDArray[np.float32], kinds: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        """Return which rules fire, (B, R) bool, for features (B, F) and event kinds (B,)."""
        hits = np.zeros((len(dense), len(self._rules)), np.bool_)
        for column, (rule, conditions) in enumerate(self._rules):
            hit = np.isin(kinds, rule.kinds)
            for index, condition in conditions:
                hit &= dense[:, index] >= condition.at_least
                if condition.below < math.inf:  # without a bound an infinite value passes too
                    hit &= dense[:, index] < condition.below
            hits[:, column] = hit
        return hits
