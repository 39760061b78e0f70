"""`millrace validate`: is a log fit to be imported, replayed and trained on?"""

from __future__ import annotations

import json
import re
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.errors import ConfigError, InputFileError, InvalidEventError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_app.config import Settings
    from stream_app.logs.ingest.mapping import LogMapping
    from stream_app.logs.log_issues import LogIssues
    from stream_app.profiling.findings import Finding, Level
    from stream_app.profiling.log_checks import LogChecks
    from stream_app.profiling.validation_report import ValidationReport

Into = tuple["LogChecks", "ValidationReport"]

_GET_AGAIN: Final = "get the whole file again"
_FIRST_LINES: Final = 20
_AT_BYTE: Final = re.compile(r" \(byte \d+\)")  # where in a line: lines that are wrong alike are one finding
_REPORT_EVERY: Final = 2_000
_EXAMPLES: Final = """\b
Examples:
  millrace validate shop.jsonl
  millrace validate transactions.parquet --mapping cards --report report.html
  millrace validate visits.csv.gz --label Revenue --json | jq .checks

Exit status: 0 nothing that matters, 1 findings that matter, 2 the log cannot be used.
"""


@click.command("validate", epilog=_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--mapping",
    "mapping_name",
    help="How rows become events (`taobao`, `cards`, a TOML file). Not for Millrace's own JSON lines.",
)
@click.option("--label", default="", help="The column that is the truth.  [default: by its name]")
@click.option("--rows", type=click.IntRange(min=10), help="Look at so many rows only.  [default: all]")
@click.option("--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a page (HTML) there.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
def command(file: Path, mapping_name: str | None, label: str, rows: int | None, report: Path | None, as_json: bool) -> None:
    """Check a log: schema, order, duplicates, gaps, clocks, leakage, cardinality.

    FILE holds JSON lines of Millrace, or rows that a mapping makes events of (CSV, JSON lines, Parquet; gzip, Zstandard). Without
    a mapping any table is looked at as it is. Leakage is looked for in the first four million cells, all else in the whole file.
    """
    from stream_app.logs.ingest.mapping import load_mapping
    from stream_app.reporting.html import require_packages

    if report is not None:
        require_packages("--report", ["jinja2"], "profiling")
    settings = cli_settings(announce=False)
    mapping = load_mapping(mapping_name) if mapping_name else None
    found = _examined(file, mapping, label, rows, settings)
    if report is not None:
        _write_page(report, found)
    if as_json:
        click.echo(json.dumps(found.line()))
    else:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 200)
        if found.findings:
            console.print(found.table())
        verdict = ("nothing that matters", "findings that matter", "this log cannot be used")[found.status]
        click.echo(f"{found.events:,} events of {found.rows:,} rows: {verdict}")
    if found.status:
        raise SystemExit(found.status)


def _examined(file: Path, mapping: LogMapping | None, label: str, rows: int | None, settings: Settings) -> ValidationReport:
    from stream_app.profiling.database import open_database
    from stream_app.profiling.findings import Finding
    from stream_app.profiling.log_checks import LogChecks, WorkerLimits
    from stream_app.profiling.validation_report import ValidationReport

    limits = WorkerLimits(settings.features.allowed_lateness_ms, settings.features.future_skew_ms)
    report = ValidationReport(str(file))
    with open_database() as database:
        checks = LogChecks(limits, database)
        try:
            _check_file(file, mapping, label, rows, (checks, report))
        except InputFileError as err:
            report.findings.append(Finding("schema", "error", str(err), "see the finding"))
        report.findings += checks.findings()
        report.events, report.cardinality = checks.events, checks.cardinality()
        report.first_ms, report.last_ms = checks.first_ms, checks.newest_ms
    if not report.events and report.status < 2:
        action = "check the mapping, or the topics of the lines"
        report.findings.append(Finding("schema", "error", "no row of it is an event", action))
    return report


def _check_file(file: Path, mapping: LogMapping | None, label: str, rows: int | None, into: Into) -> None:
    """Read the file and add its rows to the checks, its findings to the report."""
    from stream_app.logs.event_table import is_event_table
    from stream_app.reporting.progress import ProgressLine

    report, is_table = into[1], mapping is None and is_event_table(file)
    if is_table and label:
        raise ConfigError(f"--label {label}: {file} is an event table, whose labels are records; leave it out")
    is_log = mapping is not None or is_table or _is_json_lines(file)
    with ProgressLine(f"checking {file.name}", "rows", rows, sys.stderr) as line:
        if is_log:
            report.findings += _log_findings(file, mapping, rows, into, line.show)
        if not (is_table or (is_log and _cut_off(report))):  # its columns cannot be read either, and the report has that finding
            report.findings += _table_findings(file, mapping, label, rows, into, is_log=is_log, tell=line.show)


def _cut_off(report: ValidationReport) -> bool:
    return any(finding.action == _GET_AGAIN for finding in report.findings)


def _is_json_lines(file: Path) -> bool:
    """Whether one of the first lines is one that Millrace wrote: the very first may be blank or garbled."""
    from stream_app.logs.compression import DAMAGE, decompressed

    try:
        with file.open("rb") as raw:
            return any(map(_is_record, islice(filter(bytes.strip, decompressed(raw)), _FIRST_LINES)))
    except DAMAGE:
        return False
    except OSError as err:
        raise InputFileError(f"cannot read {file}: {err.strerror}") from err


def _is_record(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "topic" in found and ("value" in found or "value_base64" in found)


def _log_findings(
    file: Path,
    mapping: LogMapping | None,
    rows: int | None,
    into: Into,
    tell: Callable[[int], None],
) -> list[Finding]:
    """Check a log's events one by one."""
    from stream_app.codec.decode import ANY_SKEW_MS, Decoder
    from stream_app.logs.log_files import LogFile
    from stream_app.logs.log_issues import LogIssues
    from stream_app.logs.log_records import LABELS
    from stream_app.profiling.log_checks import row_from_event

    checks, report = into
    problems, decoder = LogIssues(), Decoder(future_skew_ms=ANY_SKEW_MS)
    log = LogFile(file, 0, mapping, problems)
    unit = "line" if mapping is None and not log.is_table else "row"
    for record in log.records():
        if rows is not None and log.rows > rows:
            report.more = True
            break
        report.rows = log.rows
        if record.topic != LABELS:
            try:
                event = decoder.decode(record.topic, record.key, record.value, record.timestamp)
            except InvalidEventError as err:
                problems.add(str(file), log.line_of(record), f"no event: {err}")
                continue
            checks.add(row_from_event(event, record.topic, (unit, log.rows), record.timestamp if mapping is None else -1))
        if report.rows % _REPORT_EVERY == 0:
            tell(report.rows)
    return list(_schema_findings(problems, checks.events))


def _schema_findings(problems: LogIssues, events: int) -> Iterator[Finding]:
    from stream_app.profiling.findings import PLACES, Finding

    alike: dict[str, tuple[int, list[str]]] = {}
    for problem in problems.summary():
        if "time jumps" in problem["reason"]:
            continue  # the check of the clock tells it
        reason = _AT_BYTE.sub("", problem["reason"])
        count, places = alike.get(reason, (0, []))
        alike[reason] = (count + problem["count"], sorted([*places, *problem["first"]], key=lambda place: (len(place), place)))
    for reason, (count, places) in sorted(alike.items(), key=lambda each: -each[1][0]):
        cut_off = places[0].startswith(("after", "the whole file"))
        level: Level = "error" if cut_off and not events else "warning"
        action = _GET_AGAIN if cut_off else "correct these rows, or the mapping; an import refuses them, and counts"
        yield Finding("schema", level, reason, action, count, tuple(places[:PLACES]))


def _table_findings(
    file: Path, mapping: LogMapping | None, label: str, rows: int | None, into: Into, *, is_log: bool,
    tell: Callable[[int], None],
) -> list[Finding]:  # fmt: skip
    """Check the columns of the first rows; of a file that is no log of events, its rows too."""
    from stream_app.cli.operate.features import mapped_columns
    from stream_app.logs.ingest.fields import used_columns
    from stream_app.logs.ingest.open_rows import format_of
    from stream_app.profiling.columns import inspect_columns, time_column
    from stream_app.profiling.log_checks import leak_findings, rows_from_columns
    from stream_app.profiling.table_files import read_table

    names, kinds = mapped_columns(mapping)
    table = read_table(file, rows, tell, names, is_log=is_log and (mapping is None or format_of(file, mapping) == "jsonl"))
    if label and label not in table.names:
        raise ConfigError(f"--label {label}: the file has no such column; it has {', '.join(table.names)}")
    columns = inspect_columns(table, label, kinds)
    time = time_column(columns)
    if not is_log:
        checks, report = into
        report.rows, report.more = table.rows, table.more
        for row in rows_from_columns(columns, time):
            checks.add(row)
    used = {c for record in mapping.records if record.topic != "labels" for c in used_columns(record.fields)} if mapping else None
    return leak_findings(columns, time, lambda column: used is None or column in used)


def _write_page(path: Path, report: ValidationReport) -> None:
    try:
        path.write_text(report.html(), encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"cannot write {path}: {err.strerror}") from err
