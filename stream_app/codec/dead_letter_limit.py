"""Stops a worker when too many records of a topic are no events, if the operator wants that.

A release of ours with a fault in its decoder would send a whole topic to `dead-letters`, and go on. The limit is off by default,
since a producer with a fault must not stop the workers either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from stream_app.errors import ContractError

_FEWEST: Final = 100  # records of a topic before its share means anything
_LAST: Final = 2_000  # about so many records count; older ones fade


class DeadLetterLimit:
    """Compares the share of dead letters among the last records of each topic with a limit.

    Args:
        most: Largest share, 0 to 1; 0: no limit.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._records: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()

    def check(self, records: Iterable[str], dead: Iterable[str]) -> None:
        """Take a batch before its commit: the topic of each of its records, and of each dead one among them.

        Raises:
            ContractError: The share of a topic is above the limit; nothing of the batch may be committed.
        """
        if not self._most:
            return
        self._records.update(records)
        self._dead.update(dead)
        for topic, total in self._records.items():
            share = self._dead[topic] / total
            if total >= _FEWEST and share > self._most:
                raise ContractError(
                    f"{share:.0%} of the last {total} records of {topic} are no valid events, worker.max_dead_share allows "
                    f"{self._most:.0%}; nothing of the last batch was committed. Operator action: see the reasons with `millrace "
                    "tail dead-letters`; mend the producer or go back to the last release, or raise the limit (0: none)."
                )
            if total >= _LAST:
                self._records[topic] //= 2
                self._dead[topic] //= 2
