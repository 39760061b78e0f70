"""`millrace tail`: prints the records of a topic as they arrive."""

from __future__ import annotations

import itertools
from typing import Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, SOURCE_TOPICS

_TOPICS: Final = (*ANSWER_TOPICS, *SOURCE_TOPICS, *SIDE_TOPICS)


@click.command("tail")
@click.argument("topic", type=click.Choice(_TOPICS))
@click.option("--from", "start", type=click.Choice(["beginning", "end"]), default="end", help="Where to start; default: end.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option("--user", help="Only the records of this user (the record's key).")
@click.option("--no-follow", is_flag=True, help="Stop where the topic ends now.")
@click.option("--json", "as_json", is_flag=True, help="Print the values alone, one JSON line each.")
def tail(topic: str, start: str, limit: int | None, user: str | None, no_follow: bool, as_json: bool) -> None:
    """Print the records of TOPIC as they arrive, until Ctrl-C.

    \b
    Examples:
      millrace tail fraud-alerts
      millrace tail intent-labels --user u-1042
      millrace tail orders --from beginning --limit 10 --json
    """
    from rich.console import Console

    from stream_app.monitor.tail import json_line, pretty_line, records

    kafka = cli_settings(announce=False).kafka
    stream = records(
        kafka.bootstrap,
        topic,
        prefix=kafka.topic_prefix,
        beginning=start == "beginning",
        follow=not no_follow,
    )
    chosen = (record for record in stream if user is None or record.key == user.encode())
    console = Console(soft_wrap=True)
    try:
        for record in itertools.islice(chosen, limit):
            if as_json:
                click.echo(json_line(record))
            else:
                console.print(pretty_line(record))
    except KeyboardInterrupt:
        pass  # the usual end, no error
    finally:
        stream.close()
