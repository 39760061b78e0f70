"""Which of the groups that hold a replica of a shared entity a read asks: a bounded number, always the same ones.

A device that everybody uses has a replica in each of hundreds of groups. A read asks the next `most` holders after the own group,
by group number, beginning anew after the last one. So what a read sees depends on nothing but the index of holders; over the
groups each replica is read equally often; and the cost of a row has a bound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["select_replicas"]


def select_replicas(holders: Sequence[int], group: int, most: int) -> tuple[list[int], int]:
    """Choose the holders to ask.

    Args:
        holders: Groups that hold a replica, ascending.
        group: The group that reads; its own replica is not asked for.
        most: Upper bound of the groups asked.

    Returns:
        The groups to ask, in order, and how many other groups hold one.
    """
    at = bisect_right(holders, group)
    before = at - 1 if at and holders[at - 1] == group else at
    others = [*holders[at:], *holders[:before]]
    return others[:most], len(others)
