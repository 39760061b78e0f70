"""Threads that may not slow down the answers: they give way to every other thread of the machine."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

__all__ = ["give_way"]

_NICE: Final = 10  # of 19: a full core's worth of other work leaves it a tenth, enough to come to an end


def give_way() -> None:
    """Lower the priority of the calling thread, where the system has one for threads (Linux)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
