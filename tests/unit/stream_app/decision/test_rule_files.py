"""Rules from a file are the worker's rules; all errors of a file are reported at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_app.backtest.config import packaged_file
from stream_app.decision.rule_files import load_rules
from stream_app.decision.rules import Condition, Rule, RuleSet
from stream_app.errors import ConfigError
from stream_app.events import KINDS
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine

GOOD = """
[[rule]]
name = "between"
kinds = ["order", "click"]
points = 2.5
when = [{ feature = "a", at_least = 1, below = 2 }, { feature = "b", at_least = 0.5 }]

[[rule]]
name = "small"
when = [{ feature = "a", below = 1.5 }]
"""


def rules_of(folder: Path, text: str) -> tuple[Rule, ...]:
    path = folder / "rules.toml"
    path.write_text(text)
    return load_rules(path)


def test_a_file_says_what_the_worker_s_own_rules_say(tmp_path: Path) -> None:
    between, small = rules_of(tmp_path, GOOD)
    kinds = (KINDS.index("order"), KINDS.index("click"))
    assert between == Rule("between", (Condition("a", 1.0, 2.0), Condition("b", 0.5)), kinds, 2.5)
    assert small == Rule("small", (Condition("a", below=1.5),), tuple(range(len(KINDS))), 1.0)


def test_a_bound_below_is_not_reached_and_infinity_is_at_least_anything(tmp_path: Path) -> None:
    rules = RuleSet(rules_of(tmp_path, GOOD), ("a", "b"))
    rows = np.array([[1, 1], [1.99, 1], [2, 1], [np.inf, np.inf], [1, np.inf], [np.nan, 1]], np.float32)
    fired = rules.fired(rows, np.full(len(rows), KINDS.index("order"), np.int32))
    assert fired[:, 0].tolist() == [True, True, False, False, True, False]
    assert fired[:, 1].tolist() == [True, False, False, False, True, False]
    assert (fired @ rules.points).tolist() == [3.5, 2.5, 0.0, 0.0, 3.5, 0.0]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = """
[[rule]]
name = "twice"
kinds = ["purchase"]
when = []

[[rule]]
name = "twice"
points = nan
when = [{ feature = "a" }, { feature = "b", at_least = 2, below = 1 }]
"""
    with pytest.raises(ConfigError) as error:
        rules_of(tmp_path, text)
    for said in (
        "2 rules are named 'twice'",
        "kinds has purchase",
        "`when` is empty",
        "points is nan",
        "a has neither",
        "b has neither",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("text", ["rule = 3", "[[rule]]\nname = 3", "no toml", "[[rule]]\nname = 'a'\nwhen = [{ column = 'a' }]"])
def test_what_is_no_file_of_rules_is_refused_with_the_format(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="a file of rules has"):
        rules_of(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no rules at .*nowhere\.toml"):
        load_rules(tmp_path / "nowhere.toml")


def test_the_packaged_rules_fit_the_catalogue() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=1)
    assert len(RuleSet(load_rules(packaged_file("rules-cards.toml")), engine.feature_names).names) > 1
