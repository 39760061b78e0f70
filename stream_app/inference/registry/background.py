"""Threads that may not slow down the answers: they give way to all others of the machine, and no end waits long for them."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

__all__ = ["Background"]

log = logging.getLogger(__name__)

_NICE: Final = 10  # of 19: a full core's worth of other work leaves it a tenth, enough to come to an end
_END_S: Final = 5.0  # what is under way may hang and cannot be broken off; the process ends without it, the thread is a daemon


class Background(ABC):
    """Work in a thread of its own, between `__enter__` and `__exit__`.

    Args:
        name: Of the thread.
        late: What becomes of it, in the log, where it has not ended in time.
    """

    def __init__(self, name: str, late: str) -> None:
        self._late = late
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._begin, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell it to end, and wait a moment for it."""
        self._ending.set()
        self._thread.join(timeout=_END_S)
        if self._thread.is_alive():
            log.warning("the %s %s", self._thread.name, self._late)

    @abstractmethod
    def _run(self) -> None:
        """Work until `_ending` is set."""

    def _begin(self) -> None:
        _give_way()
        self._run()


def _give_way() -> None:
    """Lower the priority of the calling thread, where the system has one for threads (Linux)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
