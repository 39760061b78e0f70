"""Progress of a run: a bar on a terminal, plain lines elsewhere; on stderr, since stdout ends with the JSON."""

from __future__ import annotations

import time
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Reporter", "open_reporter"]

_LINE_EVERY_S = 5.0


class Reporter(Protocol):
    """Shows the progress of a run."""

    def say(self, line: str) -> None:
        """Show a line that stays."""
        ...

    def at(self, what: str, done: int, total: int) -> None:
        """Show how far `what` is."""
        ...

    def close(self) -> None:
        """Give the terminal back."""
        ...


class _Lines:
    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = 0.0

    def say(self, line: str) -> None:
        click.echo(f"{time.monotonic() - self._start:6.1f} s  {line}", err=True)

    def at(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            self._last = time.monotonic()
            self.say(f"{what}: {done:,} of {total:,}")

    def close(self) -> None:
        return


class _Bar:
    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False)

    def at(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def close(self) -> None:
        self._progress.stop()


def open_reporter() -> Reporter:
    """Return a bar if stderr is a terminal, else plain lines."""
    console = Console(stderr=True)
    return _Bar(console) if console.is_terminal else _Lines()
