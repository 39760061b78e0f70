"""`millrace import`: sends the rows of a log file as events to Kafka or to a file, by a mapping."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.settings import cli_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from stream_app.logs.ingest.mapping import LogMapping
    from stream_app.logs.ingest.rows import RowSource
    from stream_app.logs.ingest.sink import Sink
    from stream_app.logs.ingest.state import ImportState

_EXAMPLES: Final = """\b
Examples:
  millrace import user_behavior.csv.gz --mapping taobao
  millrace import transactions.parquet --mapping cards --limit 200000
  millrace import visits.csv --mapping visits.toml --to visits.jsonl --refused refused.jsonl
  millrace import tracking.jsonl.zst --mapping tracking.toml
"""


@click.command("import", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--mapping",
    "mapping_name",
    required=True,
    help="`taobao`, `cards`, `ecommerce`, or a TOML file of your own (docs/imports.md).",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many rows.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Rows a second; 0 (default): as fast as it goes.")
@click.option("--to", "target", default="kafka", show_default=True, help="`kafka`, or a file for JSON lines.")
@click.option(
    "--refused",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write each refused row and the reason to this file (JSON lines).",
)
@click.option(
    "--resume/--restart", default=True, help="Continue where an interrupted import of this file stopped (default), or start over."
)
def command(
    file: Path, mapping_name: str, limit: int | None, rate: float, target: str, refused: Path | None, resume: bool
) -> None:
    """Produce the events of a log file: CSV or JSON lines (plain, gzip or Zstandard), or Parquet."""
    from stream_app.logs.ingest.importer import ImportPlan, check_file, import_file
    from stream_app.logs.ingest.mapping import load_mapping
    from stream_app.logs.ingest.pace import Pace
    from stream_app.logs.ingest.state import StateFile
    from stream_app.logs.ingest.stopping import stop_on_signals
    from stream_app.reporting.progress import ProgressLine
    from stream_app.work_folder import work_folder

    mapping = load_mapping(mapping_name)
    check_file(file, mapping)  # before connecting to a broker or creating a file
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        target_name, open_sink = _target(target, mapping)
        states = work_folder(cli_settings(announce=False).worker.folder) / "imports"
        state_file = StateFile(states, file, mapping.text, target_name)
        state = state_file.load() if resume else None
        if state is not None:
            click.echo(f"going on after row {state.rows:,} (--restart begins anew)", err=True)
        sink = stack.enter_context(open_sink(state))
        plan = ImportPlan(
            path=file,
            mapping=mapping,
            state_file=state_file,
            resumed=state,
            limit=limit,
            refused_path=refused,
            stop=stop.is_set,
        )
        line = stack.enter_context(ProgressLine(f"importing {mapping.name}", "rows", limit, sys.stderr))

        def show(rows: int, source: RowSource) -> None:
            line.show(rows, f"{source.done_ratio():.0%} of the file")

        # With a rate, a chunk lasts at most a second: Ctrl-C and checkpoints take effect between chunks.
        chunk_rows = max(1, min(2_000, int(rate))) if rate else 2_000
        summary = import_file(plan, sink, Pace(rate), show, chunk_rows)
    if not summary.complete:
        click.echo(f"stopped after row {summary.rows:,}; run the same command again to go on", err=True)
    if summary.never_filled:
        names = ", ".join(summary.never_filled)
        click.echo(f"no row has a value in {names}, which the mapping reads: are these the right names?", err=True)
    click.echo(json.dumps(summary.line()))


def _target(target: str, mapping: LogMapping) -> tuple[str, Callable[[ImportState | None], AbstractContextManager[Sink]]]:
    """Return the name of the target, and a function that opens it for the state of an interrupted import."""
    from stream_app.logs.ingest.sink import JsonlSink, KafkaSink

    if target != "kafka":
        path = Path(target)
        return str(path.resolve()), lambda state: JsonlSink(path, state.sink_position if state is not None else None)
    kafka = cli_settings().kafka
    topics = sorted({record.topic for record in mapping.records})
    return f"{kafka.bootstrap} {kafka.topic_prefix}", lambda _state: KafkaSink(kafka.bootstrap, topics, kafka.topic_prefix)
