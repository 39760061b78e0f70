"""What the layout and the documents must know of an aggregation; its arithmetic stands beside its `SPECS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stream_app.features.declarations import Feature
from stream_app.features.state.state_schema import Need

__all__ = ["Spec"]


class Spec(NamedTuple):
    """One aggregation.

    code: its number in fold.py's switch. needs: the state that a feature reads, at most three parts; the switch gets where they
    are as operands a, b, c. formula: how a feature is computed, for people.
    """

    code: int
    needs: Callable[[Feature], tuple[Need, ...]]
    formula: Callable[[Feature], str]
