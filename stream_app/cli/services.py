"""`millrace services`: start, stop and look at a local Kafka and Redis. The last line printed is JSON."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from pathlib import Path

import click

__all__ = ["command"]

_ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder whose .services/ holds them; the current one by default.",
)


@click.group(
    "services",
    epilog="""\b
Examples:
  millrace services up                    fetch, start, wait until both answer
  millrace services status                are they still there?
  millrace services restart kafka --kill  what a worker sees when a broker dies
  millrace services down                  stop just these two
  millrace services embedded -t clicks:8  in memory, until Ctrl-C""",
)
def command() -> None:
    """Kafka and Redis on this machine, without Docker."""


@command.command(
    "up",
    epilog="""\b
Examples:
  millrace services up
  millrace services up --root /srv/millrace""",
)
@_ROOT
def up(root: Path) -> None:
    """Start both, or reuse those that run. Prints where they are as JSON.

    Apache Kafka comes from Maven and needs Java 17; as root, what is missing is installed with apt-get.
    """
    from stream_app.services import real

    click.echo(real.up(root, _progress).to_json())


@command.command(
    "down",
    epilog="""\b
Examples:
  millrace services down
  millrace services down --wipe""",
)
@_ROOT
@click.option("--wipe", is_flag=True, help="Remove their topics and keys too.")
def down(root: Path, *, wipe: bool) -> None:
    """Stop both; topics and keys stay for the next `up`."""
    from stream_app.services import real

    done = real.down(root, wipe=wipe)
    for line in done:
        _progress(line)
    click.echo(json.dumps({"done": done}))


@command.command(
    "status",
    epilog="""\b
Example:
  millrace services status""",
)
@_ROOT
@click.pass_context
def status(ctx: click.Context, root: Path) -> None:
    """Look at both now. Exit code 1 unless both run and answer."""
    from stream_app.services import real

    statuses = real.status(root)
    for each in statuses:
        where = f" on 127.0.0.1:{each.port}, pid {each.pid}" if each.pid else ""
        _progress(f"{each.name}: {each.condition}{where} (log: {each.log})")
    click.echo(json.dumps({each.name: dataclasses.asdict(each) for each in statuses}))
    if any(each.condition != "running" for each in statuses):
        ctx.exit(1)


@command.command(
    "restart",
    epilog="""\b
Examples:
  millrace services restart kafka
  millrace services restart redis --kill""",
)
@click.argument("server", type=click.Choice(["kafka", "redis"]))
@_ROOT
@click.option("--kill", is_flag=True, help="End it with SIGKILL, as a crash would.")
def restart(server: str, root: Path, *, kill: bool) -> None:
    """Stop and start one of the two, on its data and port."""
    from stream_app.services import real

    one = real.restart_kafka if server == "kafka" else real.restart_redis
    click.echo(one(root, kill=kill, progress=_progress).to_json())


@command.command(
    "embedded",
    epilog="""\b
Example:
  millrace services embedded -t searches:8 -t clicks:8 -t orders:8 --state state.json""",
)
@_ROOT
@click.option("-t", "--topic", "topics", multiple=True, metavar="NAME:PARTITIONS", help="Topic to create; repeatable.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="Also write the state to this file.")
def embedded(root: Path, topics: tuple[str, ...], state: Path | None) -> None:
    """Hold an in-memory broker and Redis until Ctrl-C or SIGTERM; leaves no process and no file.

    Prints where they are as one line of JSON when both answer. Topics can only be made here, not later.
    """
    from stream_app.services.embedded import embedded_services

    wanted = dict(_topic(spec) for spec in topics)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with embedded_services(wanted, root=root) as services:
        if state is not None:
            services.save(state)
        click.echo(services.to_json())
        try:
            stop.wait()
        finally:
            if state is not None:
                state.unlink(missing_ok=True)


def _topic(spec: str) -> tuple[str, int]:
    name, colon, partitions = spec.rpartition(":")
    if not colon or not name or not partitions.isdigit() or int(partitions) < 1:
        msg = f"{spec!r} is not NAME:PARTITIONS, for example clicks:8"
        raise click.BadParameter(msg, param_hint="--topic")
    return name, int(partitions)


def _progress(line: str) -> None:
    click.echo(line, err=True)
