"""Plain values: JSON holds them, and nothing is lost but what is no number."""

from __future__ import annotations

import json

import numpy as np

from stream_app.reporting.json_values import json_tree


def test_a_tree_of_anything_becomes_json_and_what_is_no_number_is_none() -> None:
    tree = {"folds": [float("nan"), np.float32("inf"), np.int64(3)], 1: ("a", True, None), "deep": {"x": {"y": -float("inf")}}}
    found = json.loads(json.dumps(json_tree(tree), allow_nan=False))
    assert found == {"folds": [None, None, 3], "1": ["a", True, None], "deep": {"x": {"y": None}}}
