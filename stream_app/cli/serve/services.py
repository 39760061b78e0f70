"""`millrace services`: starts, stops and checks a local Kafka and Redis, or Redis Cluster. The last line of output is JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from devservices.cluster import ClusterNode

_ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder with .services/; default: the current one.",
)

_JSON = click.option("--json", "as_json", is_flag=True, help="Print the line of JSON alone.")


@click.group(
    "services",
    epilog="""\b
Examples:
  millrace services up                    fetch, start, wait until both answer
  millrace services status                check that both run
  millrace services restart kafka --kill  simulate a crash of the broker
  millrace services down                  stop these two
  millrace services embedded -t clicks:8  in memory, until Ctrl-C
  millrace services cluster up            a Redis Cluster of six nodes""",
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
    """Start both, or reuse running ones. Prints their addresses as JSON.

    Apache Kafka comes from Maven and needs Java 17; as root, what is missing is installed with apt-get.
    """
    from devservices import real

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
    from devservices import real

    lines = real.down(root, wipe=wipe)
    for line in lines:
        _progress(line)
    click.echo(json.dumps({"done": lines}))


@command.command(
    "status",
    epilog="""\b
Example:
  millrace services status""",
)
@_ROOT
@click.pass_context
def status(ctx: click.Context, root: Path) -> None:
    """Check both. Exit code 1 unless both run and answer."""
    from devservices import real

    statuses = real.status(root)
    for each in statuses:
        where = f" on 127.0.0.1:{each.port}, pid {each.pid}" if each.pid else ""
        version = f", {each.program.version}" if each.program.version else ""
        _progress(f"{each.name}: {each.condition}{where}{version} (log: {each.log})")
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
@click.option("--kill", is_flag=True, help="End it with SIGKILL, like a crash.")
def restart(server: str, root: Path, *, kill: bool) -> None:
    """Stop one of the two and start it again, with its data and port."""
    from devservices import real

    restart_server = real.restart_kafka if server == "kafka" else real.restart_redis
    click.echo(restart_server(root, kill=kill, progress=_progress).to_json())


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
    """Run an in-memory broker and Redis until Ctrl-C or SIGTERM; no process and no file stays behind.

    Prints their addresses as one line of JSON when both answer. Topics cannot be created later.
    """
    from devservices.embedded import embedded_services
    from stream_app.logs.ingest.stopping import stop_on_signals

    partitions = dict(_topic(spec) for spec in topics)
    with stop_on_signals(second_interrupts=False) as stop, embedded_services(partitions, root=root) as services:
        if state is not None:
            services.save(state)
        click.echo(services.to_json())
        try:
            stop.wait()
        finally:
            if state is not None:
                state.unlink(missing_ok=True)


@command.group(
    "cluster",
    epilog="""\b
Examples:
  millrace services cluster up        start or repair it, wait until it is healthy
  millrace services cluster status    roles and slots of the nodes
  millrace services cluster fail 0    kill -9 the primary of slot 0; its replica takes over
  millrace services cluster down      stop its six nodes""",
)
def cluster() -> None:
    """A Redis Cluster on this machine: three primaries, a replica each."""


@cluster.command(
    "up",
    epilog="""\b
Examples:
  millrace services cluster up
  MILLRACE_REDIS_CLUSTER=true MILLRACE_REDIS_URL=$(millrace services cluster up --json | jq -r .url) millrace worker""",
)
@_ROOT
@_JSON
def cluster_up(root: Path, *, as_json: bool) -> None:
    """Start it, or its missing nodes; prints its addresses as JSON when it is healthy."""
    from devservices import cluster as redis_cluster

    click.echo(redis_cluster.up(root, _silent if as_json else _progress).to_json())


@cluster.command(
    "down",
    epilog="""\b
Examples:
  millrace services cluster down
  millrace services cluster down --wipe""",
)
@_ROOT
@_JSON
@click.option("--wipe", is_flag=True, help="Remove its keys too; the next `up` forms a new one.")
def cluster_down(root: Path, *, wipe: bool, as_json: bool) -> None:
    """Stop its nodes; roles and keys stay for the next `up`."""
    from devservices import cluster as redis_cluster

    lines = redis_cluster.down(root, wipe=wipe)
    for line in lines:
        (_silent if as_json else _progress)(line)
    click.echo(json.dumps({"done": lines}))


@cluster.command(
    "status",
    epilog="""\b
Example:
  millrace services cluster status""",
)
@_ROOT
@_JSON
@click.pass_context
def cluster_status(ctx: click.Context, root: Path, *, as_json: bool) -> None:
    """Check its nodes. Exit code 1 unless it is healthy: all nodes answer, all slots are served, all replicas are linked."""
    from devservices import cluster as redis_cluster

    state = redis_cluster.status(root)
    for node in state.nodes:
        (_silent if as_json else _progress)(_node_line(node))
    click.echo(state.to_json())
    if not state.ok:
        ctx.exit(1)


@cluster.command(
    "fail",
    epilog="""\b
Example:
  millrace services cluster fail 0 && millrace services cluster up""",
)
@click.argument("slot", type=click.IntRange(0, 16_383))
@_ROOT
@_JSON
def cluster_fail(root: Path, slot: int, *, as_json: bool) -> None:
    """Kill the primary of SLOT with SIGKILL and wait for the failover to its replica. `up` restarts the node as a replica."""
    from devservices import cluster as redis_cluster

    node = redis_cluster.fail_over(root, slot)
    (_silent if as_json else _progress)(_node_line(node))
    click.echo(json.dumps(dataclasses.asdict(node)))


def _node_line(node: ClusterNode) -> str:
    where = f" on 127.0.0.1:{node.port}, pid {node.pid}" if node.pid else ""
    role = (
        f"replica of {node.primary}"
        if node.role == "replica"
        else f"{node.role} {', '.join('-'.join(map(str, each)) for each in node.slots)}"
    )
    return f"node {node.number}: {node.condition}{where}, {role.strip()} (log: {node.log})"


def _topic(spec: str) -> tuple[str, int]:
    name, colon, partitions = spec.rpartition(":")
    if not colon or not name or not partitions.isdigit() or int(partitions) < 1:
        msg = f"{spec!r} is not NAME:PARTITIONS, for example clicks:8"
        raise click.BadParameter(msg, param_hint="--topic")
    return name, int(partitions)


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _silent(_line: str) -> None:
    return
