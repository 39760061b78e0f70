"""`millrace replay`: scores a log, or a recorded live run, on the path of live events."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stream_app.cli.logs.log_options import chosen_log, log_options
from stream_app.cli.settings import cli_settings
from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_app.config import Settings
    from stream_app.replay.replay_job import ReplayOptions

_STOPPED: Final = 130  # the exit status of Ctrl-C
_EXAMPLES: Final = """\b
Examples:
  millrace replay shop.jsonl --out answers
  millrace replay 'logs/2026-*.csv.gz' --mapping visits.toml --out answers --strict
  millrace replay transactions.parquet --mapping cards --model none --features-out features
  millrace replay tracking.jsonl --mapping tracking.toml --out answers --answers-format parquet
  millrace replay shop.parquet --out answers                     a log that `millrace sort` wrote
  millrace replay --from-topics --since 2026-01-01 --out answers
  millrace replay --order journal recorded --out replayed     then: millrace diff recorded replayed
"""


@click.command("replay", epilog=_EXAMPLES)
@log_options
@click.option(
    "--order",
    type=click.Choice(["canonical", "journal"]),
    default="canonical",
    show_default=True,
    help="By event time, or in the order of a recorded live run (LOG: a folder of `millrace record`).",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the answers, one file per topic.")
@click.option("--answers-format", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True,
    help="Format of --out: <topic>.jsonl, or the folder <topic> with Parquet.",
)  # fmt: skip
@click.option("--to-topics", metavar="PREFIX", help="Send the answers to topics with this prefix, which must exist.")
@click.option("--features-out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the features (Parquet).")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="FOLDER",
    help="The model, as model.path; `none`: features and rules only. With --order journal: every model of the run.",
)
@click.option("--batch", type=click.IntRange(min=1), default=4_096, show_default=True, help="Events of a batch.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Worker processes; the output does not depend on it.",
)
@click.option(
    "--engine", type=click.Choice(["local", "spark"]), default="local", show_default=True, help="Local processes, or Spark."
)
@click.option("--spark-master", default="local[*]", show_default=True, help="Master of --engine spark, as spark://host:7077.")
@click.option("--store", type=click.Choice(["memory", "redis"]), default="memory", show_default=True, help="Store of the state.")
@click.option("--prefix", help="Prefix of the replay's keys in Redis; nothing else may use it.")
@click.option(
    "--from-snapshot", type=click.Path(path_type=Path, dir_okay=False), help="Start from this state (`millrace snapshot`)."
)
@click.option("--resume/--restart", default=True, help="Continue where a replay to this --out stopped (default), or start over.")
@click.option(
    "--checkpoint-s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds between checkpoints."
)
def command(**arguments: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Replay a log (files, folders, patterns) through the live path, with a virtual clock and a state of its own."""
    from stream_app.logs.ingest.stopping import stop_on_signals
    from stream_app.logs.log_issues import LogIssues
    from stream_app.replay.replay_job import Callbacks, replay_log, replay_recording
    from stream_app.reporting.progress import ProgressLine

    by_journal, models = arguments["order"] == "journal", arguments["models"]
    if by_journal and len(arguments["log"]) != 1:
        raise ConfigError("--order journal replays one folder of `millrace record`: name it")
    if not by_journal and len(models) > 1:
        raise ConfigError("a log is replayed with one --model; compare several with `millrace backtest`")
    settings, options = _settings("" if by_journal or not models else models[0]), _options(arguments)
    problems = LogIssues(strict=arguments["strict"], report=lambda line: click.echo(f"millrace: {line}", err=True))
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        line = stack.enter_context(ProgressLine("replaying", "records", None, sys.stderr))
        callbacks = Callbacks(line.show, stop.is_set)
        if by_journal:
            folder, folders = Path(arguments["log"][0]), [Path(model) for model in models]
            result = replay_recording(settings, folder, folders, options, problems, callbacks)
        else:
            result = replay_log(settings, options, problems, callbacks)
    click.echo(json.dumps(result))
    if not result["complete"]:
        click.echo(f"stopped after {result['records']:,} records; {_afterwards(arguments, result['resumable'])}", err=True)
        raise SystemExit(_STOPPED)


def _afterwards(arguments: Mapping[str, Any], resumable: bool) -> str:
    """Return the advice for continuing a stopped replay."""
    if resumable:
        return (
            "run the same command again to go on" if arguments["resume"] else "run the command again, without --restart, to go on"
        )
    return "the same command begins anew" if arguments["prefix"] is None else "begin anew with an empty --prefix"


def _settings(model: str) -> Settings:
    settings = cli_settings()
    if not model:
        return settings
    try:
        chosen = replace(settings.model, engine="none") if model == "none" else replace(settings.model, path=model)
    except ValueError as err:  # pydantic's, whose text is long
        raise ConfigError(f"--model {model!r} is not the path of an artefact folder") from err
    return replace(settings, model=chosen)


def _options(arguments: Mapping[str, Any]) -> ReplayOptions:
    from stream_app.replay.replay_job import ReplayOptions

    if (arguments["store"] == "redis") != (arguments["prefix"] is not None):
        raise ConfigError(
            "--store redis needs --prefix, a prefix of keys that nothing else uses; and --prefix needs --store redis"
        )
    return ReplayOptions(
        **chosen_log(arguments),
        out=arguments["out"],
        answers_format=arguments["answers_format"],
        to_topics=arguments["to_topics"],
        features_out=arguments["features_out"],
        batch=arguments["batch"],
        processes=arguments["processes"],
        spark=arguments["spark_master"] if arguments["engine"] == "spark" else None,
        prefix=arguments["prefix"],
        snapshot=arguments["from_snapshot"],
        resume=arguments["resume"],
        checkpoint_s=arguments["checkpoint_s"],
    )
