"""`millrace record`: writes the topics of a live run to files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click

from stream_app.cli.settings import cli_settings

_EXAMPLES: Final = """\b
Examples:
  millrace record recorded
  millrace replay --order journal recorded --out replayed
  millrace replay recorded/log --out answers        the same events by event time
"""


@click.command("record", epilog=_EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Write source, answer, journal and feature topics of kafka.bootstrap to FOLDER, up to their present end."""
    from stream_app.logs.recording import record_topics
    from stream_app.reporting.progress import ProgressLine

    kafka = cli_settings().kafka
    with ProgressLine("recording", "records", None, sys.stderr) as line:
        counts = record_topics(kafka.bootstrap, kafka.topic_prefix, folder, line.show)
    click.echo(json.dumps({"folder": str(folder), "records": sum(counts.values()), "by_topic": counts}))
