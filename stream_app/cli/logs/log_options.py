"""The options of commands that read a whole log: `millrace replay`, `millrace sort`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import reduce
from typing import Any, Final

import click

__all__ = ["chosen_log", "log_options"]

_MAPPING: Final = "How rows become events: a packaged mapping or a TOML file. Not for what Millrace wrote."
_WINDOW: Final = (
    "Sort on the way, for a log nearly in order; what comes later is left out, and counted. Without: sort all, on disk."
)

_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.argument("log", nargs=-1),
    click.option("--mapping", "mapping_name", help=_MAPPING),
    click.option("--from-topics", is_flag=True, help="Read the source topics of kafka.bootstrap in place of files."),
    click.option("--since", type=click.DateTime(), help="Of topics: only records with a timestamp from then on (UTC)."),
    click.option("--until", type=click.DateTime(), help="Of topics: only records with a timestamp before that (UTC)."),
    click.option(
        "--offsets", multiple=True, metavar="TOPIC-PARTITION=FROM:TO", help="Of topics: only these offsets, each partition."
    ),
    click.option("--sort-window", type=click.FloatRange(min=0), metavar="MINUTES", help=_WINDOW),
    click.option("--strict", is_flag=True, help="End at the first thing that is wrong with the log."),
)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument LOG and the options that choose a log and say how it is sorted; see `chosen_log`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def chosen_log(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of stream_app.logs.log_options.LogOptions that were given on the command line.

    Raises:
        ConfigError: The mapping is wrong, or is not there.
    """
    from stream_app.logs.ingest.mapping import load_mapping

    return {
        "paths": given["log"],
        "mapping": load_mapping(given["mapping_name"]) if given["mapping_name"] else None,
        "from_topics": given["from_topics"],
        "since_ms": _epoch_ms(given["since"]),
        "until_ms": _epoch_ms(given["until"]),
        "offsets": given["offsets"],
        "window_ms": None if given["sort_window"] is None else round(given["sort_window"] * 60_000),
    }


def _epoch_ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.replace(tzinfo=UTC).timestamp() * 1_000)
