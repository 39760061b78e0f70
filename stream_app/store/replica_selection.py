"""Selects the replicas of a shared entity that a read takes: a bounded number of groups, always the same ones.

A device that everybody uses has a replica in hundreds of groups. A read takes the next `most` holders after the own group, by
group number, wrapping around after the last one. So a read depends only on the index of holders; over all groups each replica is
read equally often; and the cost of a row is bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def select_replicas(holders: Sequence[int], group: int, most: int) -> tuple[list[int], int]:
    """Choose the replicas to read.

    Args:
        holders: Groups that hold a replica, ascending.
        group: The group that reads; its own replica is not chosen.
        most: Upper bound of the groups chosen.

    Returns:
        The groups to read from, in order, and the number of other groups that hold a replica.
    """
    at = bisect_right(holders, group)
    before = at - 1 if at and holders[at - 1] == group else at
    others = [*holders[at:], *holders[:before]]
    return others[:most], len(others)
