"""The checks of `millrace doctor`: each has a status, a finding and an action.

A check never raises: an error in it is its finding. FAIL: a worker would refuse to start or give wrong answers; WARN: it works,
but is not fit for production.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.markup import escape
from rich.table import Table

from stream_app.errors import MillraceError

_STYLES: Final = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `action` is empty when there is nothing to do."""

    name: str
    status: Literal["OK", "WARN", "FAIL"]
    finding: str
    action: str = ""


def examined(name: str, examine: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return the findings of `examine`; an error of ours or a missing package becomes a FAIL with the name `name`."""
    checks: list[Check] = []
    try:
        checks.extend(examine())
    except MillraceError as err:
        finding, _, action = str(err).partition("Operator action: ")
        checks.append(Check(name, "FAIL", finding.strip(), action or "see the finding"))
    except ImportError as err:
        checks.append(Check(name, "FAIL", f"cannot be imported: {err}", "install with requirements/default.txt"))
    return checks


def failed(checks: Sequence[Check]) -> bool:
    """Return whether any check is a FAIL."""
    return any(check.status == "FAIL" for check in checks)


def checks_table(checks: Sequence[Check]) -> Table:
    """Return the checks as a table, in their order."""
    table = Table("", "what", "finding", "what to do", show_lines=False)
    for check in checks:
        style = _STYLES[check.status]
        table.add_row(f"[{style}]{check.status}[/]", escape(check.name), escape(check.finding), escape(check.action))
    return table
