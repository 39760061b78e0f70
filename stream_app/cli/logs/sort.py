"""`millrace sort`: writes a log as one event table in canonical order, for logs that are replayed often."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from stream_app.cli.logs.log_options import chosen_log, log_options
from stream_app.cli.settings import cli_settings

_EXAMPLES: Final = """\b
Examples:
  millrace sort shop.jsonl --out shop.parquet                then: millrace replay shop.parquet --out answers
  millrace sort 'logs/2026-*.csv.gz' --mapping visits.toml --out visits.parquet --strict
  millrace sort transactions.parquet --mapping cards --out cards-log.parquet
  millrace sort recorded/log --out recorded.parquet
  millrace sort --from-topics --since 2026-01-01 --out january.parquet
"""


@click.command("sort", epilog=_EXAMPLES)
@log_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The event table (Parquet).")
def command(out: Path, **arguments: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Write a log (files, folders, patterns) in canonical order as one event table.

    A replay of the table gives the same bytes as a replay of the log, without reading JSON, and needs no sorting. Warnings about
    jumps of the time may differ: they follow the order of the file, and a table is in order of time. The table holds every
    record, also those that are no valid event; unreadable rows are counted.
    """
    from stream_app.logs.event_table_writer import sort_log
    from stream_app.logs.log_issues import LogIssues
    from stream_app.logs.log_options import LogOptions
    from stream_app.reporting.progress import ProgressLine

    options = LogOptions(**chosen_log(arguments))
    problems = LogIssues(strict=arguments["strict"], report=lambda line: click.echo(f"millrace: {line}", err=True))
    with ProgressLine("sorting", "records", None, sys.stderr) as line:
        result = sort_log(cli_settings(), options, out, problems, line.show)
    click.echo(json.dumps(result))
