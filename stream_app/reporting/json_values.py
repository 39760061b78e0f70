"""Values that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def json_tree(value: Any) -> Any:  # noqa: ANN401  # any tree of values
    """Return a tree for JSON: keys become text, tuples lists, NaN and infinite numbers None."""
    if isinstance(value, Mapping):
        return {str(name): json_tree(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_tree(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
