"""What a validation found: for a terminal, as JSON, and as pieces of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from rich.markup import escape as escape_markup
from rich.table import Table

from stream_app.profiling.validate_findings import Finding

__all__ = ["Report"]

_STYLES: Final = {"info": "cyan", "warning": "yellow", "error": "bold red"}
_CHECKS: Final = ("schema", "order", "duplicates", "gaps", "clock", "leakage", "cardinality")
_HEAD: Final = ("", "check", "finding", "times", "where", "what to do")


@dataclass(slots=True)
class Report:
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

    def html(self) -> list[str]:
        """Return the pieces of a page."""
        facts = {
            "events": f"{self.events:,}", "rows": f"{self.rows:,}" + (" (the file has more)" if self.more else ""),
            "from": _moment(self.first_ms), "until": _moment(self.last_ms),
            **{f"different values of {name}, about": f"{count:,}" for name, count in self.cardinality.items()},
        }  # fmt: skip
        said = ("Nothing that matters was found.", "There are findings that matter.", "This log cannot be used.")[self.status]
        rows = [(f.level, f.check, f.message, _times(f), "; ".join(f.places), f.action) for f in self.ranked()]
        return [
            f"<h1>{escape(self.file)}</h1>", f"<p>{said}</p>", _html_table(("", ""), list(facts.items())),
            "<h2>Findings</h2>", _html_table(_HEAD, rows) if rows else "<p>None.</p>",
        ]  # fmt: skip


def _times(finding: Finding) -> str:
    return f"{finding.count:,}" if finding.count else ""


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds") if time_ms >= 0 else "unknown"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'
