"""`millrace snapshot`: writes the live state to a file that a replay can start from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from stream_app.cli.settings import cli_settings

_EXAMPLES: Final = """\b
Examples:
  millrace snapshot monday.state
  millrace replay --from-topics --since 2026-01-05 --from-snapshot monday.state --out answers
  millrace replay --order journal recorded --from-snapshot monday.state --out replayed      identical to the bit from there on
"""


@click.command("snapshot", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def command(file: Path) -> None:
    """Write the state under redis.prefix to FILE. It blocks Redis for about a second for each group of a million keys."""
    from stream_app.replay.snapshot import take_snapshot
    from stream_app.reporting.progress import ProgressLine

    settings = cli_settings()
    with ProgressLine("reading state", "groups", settings.kafka.partitions, sys.stderr) as line:
        summary = take_snapshot(settings, file, line.show)
    click.echo(json.dumps(summary))
