"""`millrace topics create|describe|check`: the topics of Kafka, by the settings."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from stream_app.cli.settings import cli_settings
from stream_app.errors import StoreUnavailableError

if TYPE_CHECKING:
    from stream_app.admin.topics import TopicPlan
    from stream_app.config import Settings

_EMBEDDED = (
    "kafka.client_api_version is {version}, that of the embedded broker: `millrace demo` and `millrace services embedded` "
    "create its topics, and it takes no requests for new ones"
)


@click.group("topics")
def topics() -> None:
    """Create, describe or check the Kafka topics.

    \b
    Examples:
      millrace topics create
      millrace topics check && millrace worker
      millrace topics describe --json
    """


@topics.command("create")
@click.option("--update", is_flag=True, help="Also give existing topics the planned retention and limits.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def create(update: bool, as_json: bool) -> None:
    """Create the topics that are missing; refuse another partition count."""
    from stream_app.admin.broker import connect
    from stream_app.admin.topics import create_topics

    settings = cli_settings(announce=False)
    if settings.kafka.client_api_version:
        click.echo(_EMBEDDED.format(version=settings.kafka.client_api_version), err=True)
        if as_json:
            click.echo(json.dumps({"created": [], "embedded": True}))
        return
    _refuse_state_of_other_count(settings)
    with connect(settings.kafka.bootstrap) as admin:
        result = create_topics(admin, _plans(settings), update=update)
    if as_json:
        click.echo(json.dumps({**asdict(result), "partitions": settings.kafka.partitions}))
        return
    click.echo(
        f"{len(result.created)} created, {len(result.existing)} existed, {len(result.updated)} updated; "
        f"{settings.kafka.partitions} partitions each"
    )
    for line in result.differences:
        click.echo(f"  differs: {line}", err=True)


@topics.command("check")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """List the differences from the settings; exit status 1 if there are any."""
    from stream_app.admin.broker import connect, read_topics
    from stream_app.admin.topics import differences

    settings = cli_settings(announce=False)
    plans, embedded = _plans(settings), bool(settings.kafka.client_api_version)
    with connect(settings.kafka.bootstrap, settings.kafka.client_api_version) as admin:
        states = read_topics(admin, [plan.name for plan in plans], with_configs=not embedded)
    lines = differences(plans, states)
    if as_json:
        click.echo(json.dumps({"topics": len(plans), "differences": lines}))
    else:
        click.echo("\n".join(lines) if lines else f"all {len(plans)} topics are as configured")
    ctx.exit(1 if lines else 0)


@topics.command("describe")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def describe(as_json: bool) -> None:
    """Show the topics at the broker."""
    from stream_app.admin.broker import connect, read_topics
    from stream_app.admin.topics_table import topics_table

    settings = cli_settings(announce=False)
    plans, embedded = _plans(settings), bool(settings.kafka.client_api_version)
    with connect(settings.kafka.bootstrap, settings.kafka.client_api_version) as admin:
        states = read_topics(admin, [plan.name for plan in plans], with_configs=not embedded)
    if as_json:
        planned = {plan.name: plan.configs for plan in plans}
        rows = [
            {**asdict(state), "configs": {key: state.configs[key] for key in planned[name] if key in state.configs}}
            for name, state in sorted(states.items())
        ]
        click.echo(json.dumps({"bootstrap": settings.kafka.bootstrap, "topics": rows}))
        return
    from rich.console import Console

    Console().print(topics_table([plan.name for plan in plans], states))


def _refuse_state_of_other_count(settings: Settings) -> None:
    from stream_app.admin.positions import redis_client, refuse_state_of_other_count

    try:
        with redis_client(settings.redis.url, settings.redis.timeout_ms, cluster=settings.redis.cluster) as client:
            refuse_state_of_other_count(client, settings.redis.prefix, settings.kafka.partitions)
    except StoreUnavailableError as err:
        click.echo(f"not compared with the state: {err}", err=True)


def _plans(settings: Settings) -> list[TopicPlan]:
    from stream_app.admin.topics import plan_topics

    return plan_topics(settings.kafka.partitions, settings.kafka.replication, settings.kafka.topic_prefix)
