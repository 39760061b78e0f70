"""Progress of long work on stderr, since standard output ends with JSON: bars on a terminal, a plain line every 5 s elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final, Self, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_LINE_EVERY_S: Final = 5.0
_BAR_EVERY_S: Final = 0.2


class Reporter:
    """Shows lines that stay, and the progress of named pieces of work. Use it as a context manager, or call `close`.

    Args:
        stream: Where to write; None: stderr.
        elapsed: Whether plain lines begin with the seconds since the reporter was made.
    """

    def __init__(self, stream: TextIO | None = None, *, elapsed: bool = False) -> None:
        self._stream, self._elapsed = stream or sys.stderr, elapsed
        self._console = Console(file=self._stream)
        self._begin_s = time.monotonic()
        self._next_s = 0.0 if self._console.is_terminal else self._begin_s + _LINE_EVERY_S
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            auto_refresh=False,
        )

    def __enter__(self) -> Self:
        """Return the reporter; bars appear with the first progress."""
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if self._console.is_terminal:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            prefix = f"{time.monotonic() - self._begin_s:6.1f} s  " if self._elapsed else ""
            click.echo(prefix + line, file=self._stream)

    def at(self, what: str, done: int, total: int | None = None, unit: str = "", note: str = "") -> None:
        """Show that `done` of `total` (None: not known) of `what` are done, unless the last progress was just shown."""
        now_s, is_terminal = time.monotonic(), self._console.is_terminal
        if now_s < self._next_s and not (is_terminal and done == total):
            return
        self._next_s = now_s + (_BAR_EVERY_S if is_terminal else _LINE_EVERY_S)
        if not is_terminal:
            of_total = f" of {total:,}" if total is not None else ""
            self.say(", ".join(filter(None, (f"{what}: {done:,}{of_total} {unit}".rstrip(), note.rstrip()))))
            return
        if what not in self._tasks:
            self._bars.start()
            self._tasks[what] = self._bars.add_task(what, note="")
        self._bars.update(self._tasks[what], completed=done, total=total, note=note or unit, refresh=True)

    def close(self) -> None:
        """Remove the bars and give the terminal back."""
        if self._tasks:
            self._bars.stop()


class ProgressLine(Reporter):
    """Shows one count that grows towards a total, and its rate.

    Args:
        what: The work, for the left of the line, as "importing taobao".
        unit: The unit of the count, as "rows".
        total: Where the count ends; None: not known.
        stream: Where to write.
    """

    def __init__(self, what: str, unit: str, total: int | None, stream: TextIO) -> None:
        super().__init__(stream)
        self._what, self._unit, self._total = what, unit, total
        self._first: int | None = None
        self._since_s = 0.0
        self._moved = False

    def show(self, count: int, note: str = "") -> None:
        """Show `count` if the last time is long enough ago; cheap enough to call for every hundred units."""
        now_s = time.monotonic()
        if self._first is None or (count == self._first and not self._moved):
            # What an earlier run did, and the time until the count moves (a log is sorted first), are not this run's rate.
            self._first, self._since_s = count, now_s
        self._moved = self._moved or count != self._first
        rate = (count - self._first) / max(now_s - self._since_s, 1e-6)
        self.at(self._what, count, self._total, self._unit, f"{rate:,.0f} {self._unit}/s {note}")
