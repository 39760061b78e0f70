"""Stop a long command in order: the first Ctrl-C or SIGTERM requests the stop, a second one interrupts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType


@contextmanager
def stop_on_signals(*, second_interrupts: bool = True) -> Iterator[Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; by default a second one raises KeyboardInterrupt.

    Main thread only.
    """
    stop = Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if second_interrupts and stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
