"""`millrace backtest`: evaluates any number of contenders in one pass over a log, with each label at its time of arrival."""

from __future__ import annotations

import io
import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream_app.backtest.config import BacktestConfig, ContenderConfig

_EXAMPLES: Final = """\b
Examples:
  millrace backtest card-handbook --data transactions.parquet --json
  millrace backtest shop.toml --data 'logs/2026-*.jsonl.gz' --out reports/june
  millrace backtest shop.toml --candidate new=model:artifacts/new --candidate stricter=rules:stricter.toml --against current

The format of a backtest's file is described in docs/backtest.md.
"""


@click.command("backtest", epilog=_EXAMPLES)
@click.argument("config_name", metavar="CONFIG")
@click.option("--data", multiple=True, help="File, folder or pattern of the log, instead of the configuration's; repeatable.")
@click.option("--mapping", help="A packaged mapping or a TOML file, instead of the configuration's.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    metavar="NAME=KIND:PATH",
    help="A further candidate: model, trees, rules or scores.",
)
@click.option("--against", help="The candidate to compare the others with.")
@click.option(
    "--before",
    type=click.Path(file_okay=False, path_type=Path),
    help="Report of an earlier run, for a list of changed decisions.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.  [default: runs/backtest/NAME]"
)
@click.option(
    "--engine", default="auto", show_default=True, help="Engine of the models: auto, tensorrt, onnxruntime-cuda, onnxruntime."
)
@click.option("--draws", type=click.IntRange(2), help="Bootstrap samples for the intervals, instead of the configuration's.")
@click.option("--strict", is_flag=True, help="Stop at the first error in the log, with exit status 1.")
@click.option("--json", "quiet", is_flag=True, help="Print the line of JSON alone.")
def backtest(**arguments: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Evaluate models, rules and thresholds on a log, as if they had decided then.

    Writes report.html, report.json, decisions.parquet and the decisions that differ; prints one line of JSON last.
    """
    from stream_app.backtest.config import load_config

    config = _changed(load_config(arguments["config_name"]), arguments)
    out = arguments["out"] or Path("runs") / "backtest" / config.name
    click.echo(json.dumps(_run(config, out, arguments)))


def _changed(config: BacktestConfig, arguments: Mapping[str, Any]) -> BacktestConfig:
    """Return the configuration with the values of the command line."""
    import msgspec

    from stream_app.backtest.config import problems_of

    new = {name: arguments[name] for name in ("mapping", "against", "draws") if arguments[name] is not None}
    new |= {"data": arguments["data"]} if arguments["data"] else {}
    new["candidates"] = config.candidates | dict(map(_candidate, arguments["candidates"]))
    changed = msgspec.structs.replace(config, **new)
    problems = problems_of(changed)
    if not changed.data:
        problems.append("there is no log: give --data FILE, or data = [...] in the configuration")
    if problems:
        raise ConfigError("the command line does not fit the backtest:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return changed


def _candidate(text: str) -> tuple[str, ContenderConfig]:
    from stream_app.backtest.config import ContenderConfig

    name, _, source = text.partition("=")
    kind, _, path = source.partition(":")
    if not name or not path or kind not in ("model", "trees", "rules", "scores"):
        raise ConfigError(f"--candidate {text!r}: write NAME=KIND:PATH, KIND being model, trees, rules or scores")
    return name, ContenderConfig(kind=kind, path=path)  # type: ignore[arg-type]  # one of the four


def _run(config: BacktestConfig, out: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    import msgspec

    from stream_app.backtest.config import DAY_MS
    from stream_app.backtest.report.report import claim_folder, need_packages, read_decisions, short_form, write_report
    from stream_app.backtest.run import Backtest
    from stream_app.logs.ingest.mapping import load_mapping
    from stream_app.logs.log_issues import LogIssues
    from stream_app.logs.log_source import open_log
    from stream_app.privacy import Pseudonymizer
    from stream_app.reporting.progress import ProgressLine
    from stream_app.reporting.provenance import origin
    from stream_app.wiring import build_engine

    need_packages()
    claim_folder(out)
    settings = cli_settings(announce=False)
    features = build_engine(settings)
    features.warm()
    identity = Pseudonymizer(settings.privacy.id_key.get_secret_value().encode())
    before = read_decisions(arguments["before"]) if arguments["before"] is not None else {}
    mapping = load_mapping(config.mapping) if config.mapping else None
    stream = io.StringIO() if arguments["quiet"] else sys.stderr
    problems = LogIssues(strict=arguments["strict"], report=lambda line: click.echo(f"millrace: {line}", file=stream))
    with (
        Backtest(config, features, identity, arguments["engine"]) as judge,
        ProgressLine("judging", "events", None, stream) as line,
    ):
        log = open_log(config.data, mapping, problems=problems)
        outcome = judge.run(log, lambda events, time_ms: line.show(events, _day(time_ms)), before)
        extra = {
            "command": f"millrace {shlex.join(sys.argv[1:])}",
            "config": msgspec.to_builtins(config),
            "origin": origin(),
            "days": -(-(config.judge.end_ms - config.judge.begin_ms) // DAY_MS),
            "budget": config.judge.daily_budget,
        }
        report = write_report(outcome, out, extra)
    return {**short_form(report), "report": str(out / "report.html")}


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).date().isoformat()
