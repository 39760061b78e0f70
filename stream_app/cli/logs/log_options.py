"""The options of commands that read a whole log: `millrace replay`, `millrace sort`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final

import click

_MAPPING: Final = "Mapping from rows to events: a packaged one or a TOML file. Not for logs that Millrace wrote."
_WINDOW: Final = (
    "Sort within this window, for a log nearly in order; later records are left out and counted. Default: sort all, on disk."
)

_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.argument("log", nargs=-1),
    click.option("--mapping", "mapping_name", help=_MAPPING),
    click.option("--from-topics", is_flag=True, help="Read the source topics of kafka.bootstrap instead of files."),
    click.option("--since", type=click.DateTime(), help="With --from-topics: only records from this timestamp on (UTC)."),
    click.option("--until", type=click.DateTime(), help="With --from-topics: only records before this timestamp (UTC)."),
    click.option(
        "--offsets", multiple=True, metavar="TOPIC-PARTITION=FROM:TO", help="With --from-topics: only these offsets; repeatable."
    ),
    click.option("--sort-window", type=click.FloatRange(min=0), metavar="MINUTES", help=_WINDOW),
    click.option("--strict", is_flag=True, help="Stop at the first error in the log."),
)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument LOG and the options of its source and order; see `chosen_log`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def chosen_log(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of stream_app.logs.log_options.LogOptions from the command line.

    Raises:
        ConfigError: The mapping is wrong, or absent.
    """
    from stream_app.logs.ingest.mapping import load_mapping

    return {
        "paths": arguments["log"],
        "mapping": load_mapping(arguments["mapping_name"]) if arguments["mapping_name"] else None,
        "from_topics": arguments["from_topics"],
        "since_ms": _epoch_ms(arguments["since"]),
        "until_ms": _epoch_ms(arguments["until"]),
        "offsets": arguments["offsets"],
        "window_ms": None if arguments["sort_window"] is None else round(arguments["sort_window"] * 60_000),
    }


def _epoch_ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.replace(tzinfo=UTC).timestamp() * 1_000)
