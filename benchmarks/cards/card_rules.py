"""Mine rules with points for card transactions from the training weeks: the source of `rules-cards.toml` of the backtest.

    python -m benchmarks.cards.card_rules --data ../shared/data --out stream_app/backtest/configs/rules-cards.toml

Shallow trees propose conjunctions of conditions (RuleFit: Friedman and Popescu, "Predictive Learning via Rule Ensembles", Annals
of Applied Statistics 2008); a logistic regression that is pulled to zero keeps those that are worth their points. Thresholds are
rounded before the points are chosen, so the file is what was fitted. Only labels that were known when the test week began count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from benchmarks.cards.card_models import CARDS_FILE, card_dataset
from stream_app.decision.rules import Condition, Rule, RuleSet
from stream_app.evaluation.metrics import average_precision
from stream_app.events import KINDS
from training.data.dataset import Dataset

# What a fraud team would look at: the amount, the customer's own habits, what was heard of the terminal.
FEATURES: Final = (
    "amount",
    "user_amount_vs_mean_30d",
    "user_amount_zscore_30d",
    "user_order_std_30d",
    "user_order_mean_30d",
    "user_order_max_30d",
    "user_order_mean_7d",
    "user_spend_trend_1d_30d",
    "user_carts_1d",
    "user_seconds_since_cart",
    "item_cart_rate_7d",
    "category_cart_rate_7d",
    "device_orders_7d",
    "device_orders_30d",
    "device_amount_vs_mean_7d",
)
_TREES: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.1,
    "num_leaves": 8,
    "max_depth": 3,
    "min_child_samples": 100,
    "max_bin": 63,
    "verbosity": -1,
    "num_threads": 1,
    "deterministic": True,
    "seed": 1,
}
_ROUNDS: Final = 80
_STRENGTHS: Final = (0.03, 0.06)  # of the regression (larger keeps more rules): chosen on the validation week
_LEAST_POINTS: Final = 0.05
_JUST_ABOVE_ZERO: Final = 0.001  # LightGBM writes 1e-35
_ORDER: Final = KINDS.index("order")


def mine(dataset: Dataset) -> tuple[tuple[Rule, ...], dict[str, float]]:
    """Return rules with points, strongest first, and what they are worth on the validation week."""
    fit, held = dataset.known("fraud", "train"), dataset.known("fraud", "validation")
    rules = _proposed(dataset, fit)
    names = tuple(dataset.feature_names)
    fired = {
        part: sparse.csr_matrix(_fired(RuleSet(rules, names), dataset, rows)) for part, rows in (("fit", fit), ("held", held))
    }
    best: tuple[float, NDArray[np.float64]] = (-1.0, np.zeros(len(rules)))
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", max_iter=100)
        points = np.round(model.fit(fired["fit"], dataset.labels["fraud"][fit]).coef_[0], 2)
        points[np.abs(points) < _LEAST_POINTS] = 0.0
        worth = average_precision(fired["held"] @ points, dataset.labels["fraud"][held])
        best = max(best, (worth, points), key=lambda each: each[0])
    worth, points = best
    order = [place for place in np.argsort(-points, kind="stable").tolist() if points[place]]
    chosen = tuple(Rule(rules[place].name, rules[place].conditions, (_ORDER,), float(points[place])) for place in order)
    return chosen, {"rules": float(len(chosen)), "validation_average_precision": worth}


def _fired(rules: RuleSet, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return rules.fired(dataset.inputs["dense"][rows], np.full(len(rows), _ORDER, np.int32))


def _proposed(dataset: Dataset, fit: NDArray[np.int64]) -> tuple[Rule, ...]:
    """Return the paths of shallow trees as rules, each once."""
    columns = [dataset.feature_names.index(name) for name in FEATURES]
    table = lightgbm.Dataset(dataset.inputs["dense"][fit][:, columns], dataset.labels["fraud"][fit], feature_name=list(FEATURES))
    dumped = lightgbm.train(_TREES, table, _ROUNDS).dump_model()
    candidates: dict[str, Rule] = {}
    for tree in dumped["tree_info"]:
        for bounds in _paths(tree["tree_structure"], {}):
            conditions = tuple(Condition(FEATURES[place], low, high) for place, (low, high) in sorted(bounds.items()))
            name = " and ".join(_condition_text(condition) for condition in conditions)
            if conditions and all(condition.at_least < condition.below for condition in conditions):
                candidates.setdefault(name, Rule(name, conditions, (_ORDER,)))
    return tuple(candidates.values())


def _paths(node: dict[str, Any], bounds: dict[int, tuple[float, float]]) -> Iterator[dict[int, tuple[float, float]]]:
    """Yield the bounds [low, high) by feature of every leaf."""
    if "split_feature" not in node:
        yield bounds
        return
    place, threshold = node["split_feature"], float(f"{node['threshold']:.3g}")
    threshold = _JUST_ABOVE_ZERO if 0 < threshold < _JUST_ABOVE_ZERO else threshold
    low, high = bounds.get(place, (-np.inf, np.inf))
    yield from _paths(node["left_child"], bounds | {place: (low, min(high, threshold))})
    yield from _paths(node["right_child"], bounds | {place: (max(low, threshold), high)})


def _condition_text(condition: Condition) -> str:
    if condition.at_least == -np.inf:
        return f"{condition.feature} below {condition.below:g}"
    upper = "" if condition.below == np.inf else f" to {condition.below:g}"
    return f"{condition.feature} from {condition.at_least:g}{upper}"


def toml_of(rules: Sequence[Rule], head: str) -> str:
    """Return the file of rules (`decision.rule_files`); `head` is put before it as comments."""
    parts = ["\n".join(f"# {line}" for line in head.splitlines())]
    for rule in rules:
        conditions = ", ".join(
            "{ "
            + ", ".join(
                [f'feature = "{c.feature}"']
                + ([f"at_least = {c.at_least:g}"] if c.at_least > -np.inf else [])
                + ([f"below = {c.below:g}"] if c.below < np.inf else [])
            )
            + " }"
            for c in rule.conditions
        )
        parts.append(f'[[rule]]\nname = "{rule.name}"\nkinds = ["order"]\npoints = {rule.points:g}\nwhen = [{conditions}]')
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Mine, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--keep", type=Path, help="Keep the training set in this .npz file, or take it from there.")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rules, worth = mine(card_dataset(arguments.data / CARDS_FILE, arguments.keep))
    head = (
        "Rules for card transactions with points, by which a backtest ranks events: negative points speak for the customer.\n"
        "Made by `python -m benchmarks.cards.card_rules` from the transactions of 2018-06-09 to 2018-07-31 (chosen on\n"
        "2018-06-02 to 2018-06-08) and the frauds that were known by 2018-08-08, before the week that is judged. Write it anew,\n"
        "not by hand."
    )
    arguments.out.write_text(toml_of(rules, head))
    print(json.dumps(worth))


if __name__ == "__main__":
    main()
