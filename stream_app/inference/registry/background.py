"""Low-priority background threads: they yield to all other work of the machine, and the process does not wait long for them."""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

log = logging.getLogger(__name__)

_NICE: Final = 10  # of 19: on a busy core the thread gets a tenth, enough to finish
_END_S: Final = 5.0  # a call that hangs cannot be cancelled; the thread is a daemon, so the process ends without it


class Background(ABC):
    """Runs `_run` in a thread between `__enter__` and `__exit__`; `late` is logged when it has not ended in time."""

    def __init__(self, name: str, late: str) -> None:
        self._late = late
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._begin, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ask the thread to end, and wait a bounded time."""
        self._ending.set()
        self._thread.join(timeout=_END_S)
        if self._thread.is_alive():
            log.warning("the %s %s", self._thread.name, self._late)

    @abstractmethod
    def _run(self) -> None:
        """Work until `_ending` is set."""

    def _begin(self) -> None:
        with suppress(OSError):  # only Linux has a priority for threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        self._run()
