"""Rules from a TOML file, with the same conditions as the worker's own rules.

[[rule]]
name = "amount far beyond this shopper's own"
kinds = ["order"]          # of events.KINDS; without it: all
points = 4.5               # added to an event's rank in a backtest; without it: 1
when = [{ feature = "user_amount_vs_mean_30d", at_least = 3.0 }, { feature = "amount", at_least = 100.0, below = 220.0 }]
"""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from stream_app.decision.rules import Condition, Rule
from stream_app.errors import ConfigError
from stream_app.events import KINDS

_FORMAT: Final = (
    "a file of rules has [[rule]] tables with name, when = [{ feature, at_least, below }], and if wanted kinds and points"
)


class _Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    feature: str
    at_least: float = -math.inf
    below: float = math.inf


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    when: list[_Condition]
    kinds: tuple[str, ...] = KINDS
    points: float = 1.0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rule: list[_Rule]


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read and check a file of rules; `rules.RuleSet` checks the names of features.

    Raises:
        ConfigError: The file cannot be read or is wrong; the message lists every problem.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        rules = msgspec.convert(tree, _File, strict=False).rule
    except OSError as err:
        raise ConfigError(f"no rules at {path}: {err.strerror}; name a TOML file") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise ConfigError(f"the rules of {path} are wrong: {err}; {_FORMAT}") from err
    problems = _problems(rules)
    if problems:
        raise ConfigError(f"the rules of {path} are wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return tuple(
        Rule(
            rule.name,
            tuple(Condition(c.feature, c.at_least, c.below) for c in rule.when),
            tuple(KINDS.index(kind) for kind in rule.kinds),
            rule.points,
        )
        for rule in rules
    )


def _problems(rules: list[_Rule]) -> list[str]:
    problems = [] if rules else ["there is no rule"]
    names = [rule.name for rule in rules]
    problems += [
        f"{names.count(name)} rules are named {name!r}; a name stands in an alert, so it must tell them apart"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    for rule in rules:
        unknown = [kind for kind in rule.kinds if kind not in KINDS]
        problems += [f"rule {rule.name!r}: kinds has {', '.join(unknown)}; known are {', '.join(KINDS)}"] if unknown else []
        problems += [] if rule.when else [f"rule {rule.name!r}: `when` is empty; it would fire for every event"]
        problems += (
            [f"rule {rule.name!r}: points is {rule.points}; give a finite number"] if not math.isfinite(rule.points) else []
        )
        problems += [
            f"rule {rule.name!r}: {c.feature} has neither at_least nor below, or at_least {c.at_least:g} is not less than "
            f"below {c.below:g}"
            for c in rule.when
            if not c.at_least < c.below or (math.isinf(c.at_least) and math.isinf(c.below))
        ]
    return problems
