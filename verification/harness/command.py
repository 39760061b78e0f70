"""Options and error handling that the commands share: where the logs and the services are, and how an error ends a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from stream_app.errors import MillraceError
from stream_app.reporting.progress import Reporter
from verification.harness.processes import ROOT, FleetError
from verification.harness.raw_files import RawFiles, find_files, stand_in

Command = TypeVar("Command", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path, file_okay=False)


def data_option(absent: str = "") -> Callable[[Command], Command]:
    """Return the option `--data`; `absent` describes what happens without the logs."""
    text = f"Folder with clickstream/ and fraud/; default: ../shared/data of the checkout. {absent}".rstrip()
    return click.option("--data", type=_FOLDER, default=ROOT.parent / "shared" / "data", help=text)


def home_option(command: Command) -> Command:
    """Give a command the option `--home`."""
    text = "Folder whose .services holds Kafka and Redis, and the logs; default: the checkout."
    return click.option("--home", type=_FOLDER, default=ROOT, help=text)(command)


@contextmanager
def reporting(*also: type[Exception]) -> Iterator[Reporter]:
    """Yield a reporter of progress; an error of ours, or one of `also`, ends the command with its message alone."""
    reporter = Reporter(elapsed=True)
    ours: tuple[type[Exception], ...] = (FleetError, MillraceError, *also)
    try:
        yield reporter
    except ours as err:
        raise click.ClickException(str(err)) from err
    finally:
        reporter.close()


def files_of(data: Path, made: Path, taobao: int, cards: int, reporter: Reporter, *, short: bool) -> RawFiles:
    """Return the logs under `data`; for a short run, where they are absent, made-up ones in the folder `made`.

    Args:
        data: see `data_option`.
        made: is written where needed.
        taobao: rows of the clickstream, where it is made up.
        cards: card transactions, where they are made up.
        reporter: gets a line where files are made up.
        short: whether made-up ones will do.

    Raises:
        ClickException: They are absent, and made-up ones would prove little.
    """
    files = find_files(data)
    if files is not None:
        return files
    if not short:
        raise click.ClickException(f"no real data under {data}: name it with --data, or use --short")
    reporter.say(f"no real data under {data}: using made-up files of the same shape")
    return stand_in(made, taobao, cards)
