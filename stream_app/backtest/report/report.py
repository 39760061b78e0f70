"""The report of a backtest: `report.json` with every figure and curve, `report.html` drawn from it alone, and files of events.

decisions.parquet             every evaluated event, with score, threshold and decision of each contender
changes-A-B.jsonl             the events that B decides differently from A, with the reasons of both
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.backtest.changes import ChangedDecision
from stream_app.backtest.report.number_formats import is_figure
from stream_app.backtest.report.page import html_from_json
from stream_app.backtest.run import BacktestOutcome
from stream_app.errors import ConfigError, InputFileError
from stream_app.reporting.html import require_packages
from stream_app.reporting.json_values import json_tree

_LISTED_CHANGES: Final = 25

Tree = Mapping[str, Any]


def need_packages() -> None:
    """Look for the packages that write and read a report; called before a log is read.

    Raises:
        ConfigError: One of them is not installed.
    """
    require_packages("the report of a backtest", ("jinja2", "matplotlib", "pyarrow"), "backtest")


def claim_folder(folder: Path) -> None:
    """Create the folder of a report and check that it is writable; called before a log is read.

    Raises:
        ConfigError: It is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as err:
        raise ConfigError(f"cannot write to {folder}: {err.strerror}. Name a folder that can be written with --out") from err


def write_report(outcome: BacktestOutcome, folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Write all files of a report to a folder that was claimed; return its JSON values.

    `extra` has more of the report: `command`, `config`, `origin`, `days`, `budget`.
    """
    changed = [
        _write_changes(changes(), folder / f"changes-{before}-{after}.jsonl".replace(" (run before)", "-before"), before, after)
        for (before, after), changes in outcome.changes.items()
    ]
    _write_decisions(outcome.decisions(), folder)
    report: dict[str, Any] = json_tree({**outcome.report, **extra, "changes": changed})
    (folder / "report.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    (folder / "report.html").write_text(html_from_json(report))
    return report


def short_form(report: Tree) -> dict[str, Any]:
    """Return the summary that the command prints: counts, and the figures of every contender that are numbers or intervals."""
    contenders = {}
    for name, figures in report["candidates"].items():
        contenders[name] = {key: value for key, value in figures.items() if is_figure(value)}
        for task in ("intent", "next_action", "candidates"):
            if task in figures:
                contenders[name][task] = {key: value for key, value in figures[task].items() if is_figure(value)}
    return {"name": report["name"], "candidates": contenders, "counts": report["counts"], "problems": report["problems"]}


def _write_changes(changes: Iterable[ChangedDecision], path: Path, before: str, after: str) -> dict[str, Any]:
    """Write changed decisions line by line; return counts and the first of them."""
    counts = dict.fromkeys(
        ("events", "alerts_more", "alerts_less", "frauds_found", "frauds_lost", "false_alarms_more", "false_alarms_less"), 0
    )
    first: list[Any] = []
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for change in changes:
            file.write(encode(change) + b"\n")
            more = change.after.alert
            counts["events"] += 1
            counts["alerts_more" if more else "alerts_less"] += 1
            if change.fraud is not None:
                pair = ("frauds_found", "frauds_lost") if change.fraud else ("false_alarms_more", "false_alarms_less")
                counts[pair[0] if more else pair[1]] += 1
            if len(first) < _LISTED_CHANGES:
                first.append(msgspec.to_builtins(change))
    return {"from": before, "to": after, "file": path.name, **counts, "first": first}


def read_decisions(folder: Path) -> dict[str, Any]:
    """Return the columns of an earlier run's decisions.

    Raises:
        InputFileError: The folder has none.
    """
    from pyarrow import ArrowInvalid, parquet

    path = folder / "decisions.parquet"
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowInvalid) as err:
        raise InputFileError(f"no decisions of an earlier backtest at {path}: {err}. Name the folder of its report") from err
    return {name: table[name].to_numpy() for name in table.column_names}


def _write_decisions(columns: Mapping[str, Any], folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(dict(columns)), folder / "decisions.parquet", compression="zstd")
