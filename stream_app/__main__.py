"""The command `millrace`: finds the sub-command and turns our errors into one message and an exit status.

`millrace --help` imports no sub-command, so it is fast. Exit status: 0 success, 1 an error (the message describes it), 2 wrong
usage, settings or local services, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from stream_app import __version__
from stream_app.cli import COMMANDS
from stream_app.errors import ConfigError, MillraceError, ServiceError

_USAGE_STATUS: Final = 2
_INTERRUPTED_STATUS: Final = 130  # 128 + SIGINT, what shells expect


class LazyGroup(click.Group):
    """A group that imports the module of a sub-command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the sub-commands whose module exists, in the order of the table."""
        return [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(f"stream_app.cli.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and return its click command; None for an unknown sub-command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"stream_app.cli.{COMMANDS[cmd_name][0]}")
        commands = [item for item in vars(module).values() if isinstance(item, click.Command) and item.name == cmd_name]
        assert commands, f"{module.__name__} holds no click command named {cmd_name!r}"
        return commands[0]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of sub-commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401 (click's signature)
        """Parse the command line; the reader of `--help` may close the pipe early."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the sub-command; our own errors become a message on stderr and an exit status."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(0)  # the reader (`| head`) closed the pipe
        except OSError as err:  # of files; clients of servers raise ours
            if ctx.params.get("debug") or err.filename is None:
                raise
            fix = "; name a place that this user can write" if err.errno in (errno.EACCES, errno.EROFS, errno.EPERM) else ""
            click.echo(f"millrace: {err.filename}: {err.strerror}{fix}", err=True)
            ctx.exit(1)
        except MillraceError as err:
            if ctx.params.get("debug"):
                raise
            click.echo(f"millrace: {err}", err=True)
            ctx.exit(_USAGE_STATUS if isinstance(err, ConfigError | ServiceError) else 1)


def _show_settings(ctx: click.Context, _param: click.Parameter, requested: bool) -> None:
    if not requested or ctx.resilient_parsing:
        return
    from stream_app.config import setting_docs

    for item in setting_docs():
        click.echo(f"{item.env} ({item.key}, {item.type}, default {item.default!r})\n    {item.doc}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  millrace demo --seconds 30        a whole deployment on this machine, nothing to install
  millrace services up              a real Kafka and Redis on this machine
  millrace topics create            then: millrace worker
  millrace tail fraud-alerts        the alerts of the fraud team
  millrace doctor                   checks, and fixes for what fails

Settings (millrace.toml, MILLRACE_* variables): millrace --settings""",
)
@click.version_option(__version__, prog_name="millrace")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML); else MILLRACE_CONFIG, ./millrace.toml.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--settings", is_flag=True, is_eager=True, expose_value=False, callback=_show_settings, help="List every setting.")
def millrace(config: Path | None, debug: bool) -> None:
    """Score shop events in real time: one event, one pass, three answers."""


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line (None: the process's own) and return its exit status.

    Raises:
        MillraceError: Only with `--debug`.
    """
    try:
        status = millrace.main(args, prog_name="millrace", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as err:
        err.show()
        return err.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED_STATUS
    except BrokenPipeError:
        status = 0
    return status if isinstance(status, int) else 0


def main() -> None:
    """Run the command line of this process and exit."""
    status = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Without this the interpreter reports the unwritten buffer at exit.
        sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115, PTH123
    sys.exit(status)


if __name__ == "__main__":
    main()
