"""How far a long command is, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ProgressLine"]

_LINE_EVERY_S: Final = 5.0
_BAR_EVERY_S: Final = 0.2


class ProgressLine:
    """Shows a count growing towards a total (None: not known).

    Args:
        what: What is done, for the left of the line, as "importing taobao".
        unit: What is counted, as "rows".
        total: Where the count ends.
        stream: Where to write.
    """

    def __init__(self, what: str, unit: str, total: int | None, stream: TextIO) -> None:
        self._what, self._unit, self._total = what, unit, total
        self._console = Console(file=stream)
        self._begin_s = time.monotonic()
        self._first: int | None = None
        self._moved = False
        self._next_s = 0.0 if self._console.is_terminal else self._begin_s + _LINE_EVERY_S
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(what, total=total, rate="")

    def __enter__(self) -> ProgressLine:
        """Start the bar."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the bar."""
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, count: int, note: str = "") -> None:
        """Show `count` if the last time is long enough ago; cheap enough to call for every hundred units."""
        now_s = time.monotonic()
        if self._first is None or (count == self._first and not self._moved):
            # What an earlier run did, and the time until the count moves (a log is sorted first), are not this run's rate.
            self._first, self._begin_s = count, now_s
        self._moved = self._moved or count != self._first
        if now_s < self._next_s:
            return
        rate = f"{(count - self._first) / max(now_s - self._begin_s, 1e-6):,.0f} {self._unit}/s"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=count, rate=f"{rate} {note}", refresh=True)
            self._next_s = now_s + _BAR_EVERY_S
            return
        of_total = f" of {self._total:,}" if self._total is not None else ""
        self._console.print(f"{self._what}: {count:,}{of_total} {self._unit}, {rate} {note}".rstrip(), highlight=False)
        self._next_s = now_s + _LINE_EVERY_S
