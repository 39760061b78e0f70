"""The report of a validation: table, JSON and HTML page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.markup import escape as escape_markup
from rich.table import Table

from stream_app.profiling.findings import Finding
from stream_app.reporting.html import render_page

_STYLES: Final = {"info": "cyan", "warning": "yellow", "error": "bold red"}
_CHECKS: Final = ("schema", "order", "duplicates", "gaps", "clock", "leakage", "cardinality")
_VERDICTS: Final = ("Nothing that matters was found.", "There are findings that matter.", "This log cannot be used.")
_HEAD: Final = ("", "check", "finding", "times", "where", "what to do")


@dataclass(slots=True)
class ValidationReport:
    """Result of validating one log.

    Attributes:
        file: Path as given.
        events: Number of checked events.
        rows: Number of rows (or lines) of the file that were read.
        first_ms: Time of the oldest event, -1 without events.
        last_ms: Time of the newest event.
        more: Whether the file has further, unchecked rows.
        cardinality: Number of different values of each identifier.
        findings: Findings, most severe first.
    """

    file: str
    events: int = 0
    rows: int = 0
    first_ms: int = -1
    last_ms: int = -1
    more: bool = False
    cardinality: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status: 0 nothing that matters, 1 something that does, 2 the log is of no use."""
        levels = {finding.level for finding in self.findings}
        return 2 if "error" in levels else 1 if "warning" in levels else 0

    def ranked(self) -> list[Finding]:
        """Return the findings, the gravest first."""
        grades = ("error", "warning", "info")
        return sorted(self.findings, key=lambda f: (grades.index(f.level), _CHECKS.index(f.check)))

    def line(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        whole = asdict(self)
        found = {check: sum(f.level != "info" for f in self.findings if f.check == check) for check in _CHECKS}
        return {**whole, "findings": [asdict(f) for f in self.ranked()], "checks": found, "status": self.status}

    def table(self) -> Table:
        """Return the findings for a terminal."""
        table = Table(*_HEAD, show_lines=True)
        for finding in self.ranked():
            style = _STYLES[finding.level]
            cells = (finding.check, finding.message, _times(finding), "\n".join(finding.places), finding.action)
            table.add_row(f"[{style}]{finding.level}[/]", *map(escape_markup, cells))
        return table

    def html(self) -> str:
        """Return the page."""
        facts = {
            "events": f"{self.events:,}", "rows": f"{self.rows:,}" + (" (the file has more)" if self.more else ""),
            "from": _moment(self.first_ms), "until": _moment(self.last_ms),
            **{f"different values of {name}": f"{count:,}" for name, count in self.cardinality.items()},
        }  # fmt: skip
        values = {
            "title": f"validation of {Path(self.file).name}",
            "file": self.file,
            "verdict": _VERDICTS[self.status],
            "facts": facts,
            "heads": _HEAD,
            "findings": [(f.level, f.check, f.message, _times(f), "; ".join(f.places), f.action) for f in self.ranked()],
        }
        return render_page("stream_app.profiling", "validation.html", values, {})


def _times(finding: Finding) -> str:
    return f"{finding.count:,}" if finding.count else ""


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds") if time_ms >= 0 else "unknown"
