"""A limit for log lines that a library repeats while a server is away."""

from __future__ import annotations

import logging
import time
from collections import Counter


class RepeatFilter(logging.Filter):
    """Passes a message of a library once, then at most once in `pause_s` with the number of lines left out in between.

    Messages are the same if their format strings are, whatever their arguments. Add it to a handler: a filter of a logger does
    not see the records of the loggers below it.
    """

    def __init__(self, library: str, pause_s: float = 30.0) -> None:
        super().__init__()
        self._prefix = f"{library}."
        self._pause_s = pause_s
        self._next_s: dict[tuple[str, str], float] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be logged; may add the number of lines left out to its message."""
        if not f"{record.name}.".startswith(self._prefix):
            return True
        message, now_s = (record.name, str(record.msg)), time.monotonic()
        if now_s < self._next_s.get(message, 0.0):
            self._left_out[message] += 1
            return False
        self._next_s[message] = now_s + self._pause_s
        if count := self._left_out.pop(message, 0):
            record.msg = f"{record.msg} (and {count} lines like it in between)"
        return True
