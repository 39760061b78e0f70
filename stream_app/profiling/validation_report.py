"""What a validation found: for a terminal, as JSON, and as a page."""

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
    """All that is known of one log.

    Attributes:
        file: As it was named.
        events: How many events were looked at.
        rows: How many rows (or lines) of the file, as far as it was read.
        first_ms: Of the oldest event, -1 if there is none.
        last_ms: Of the newest.
        more: The file has further rows that were not looked at.
        cardinality: About how many different values each identifier has.
        findings: The gravest first.
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
            **{f"different values of {name}, about": f"{count:,}" for name, count in self.cardinality.items()},
        }  # fmt: skip
        values = {
            "title": f"validation of {Path(self.file).name}",
            "file": self.file,
            "verdict": ("Nothing that matters was found.", "There are findings that matter.", "This log cannot be used.")[
                self.status
            ],
            "facts": facts,
            "heads": _HEAD,
            "findings": [(f.level, f.check, f.message, _times(f), "; ".join(f.places), f.action) for f in self.ranked()],
        }
        return render_page("stream_app.profiling", "validation.html", values, {})


def _times(finding: Finding) -> str:
    return f"{finding.count:,}" if finding.count else ""


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds") if time_ms >= 0 else "unknown"
