"""What is wrong with this installation and what to do: a list of checks, each OK, WARN or FAIL.

A check never raises: what goes wrong in it is its finding. FAIL: a worker would refuse to start or give wrong answers;
WARN: it works, but not as production should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.markup import escape
from rich.table import Table

from stream_app.errors import MillraceError

__all__ = ["Check", "checks_table", "examined", "failed"]

_STYLES: Final = {"OK": "green", "WARN": "yellow", "FAIL": "bold red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and what to do about it ("" when nothing)."""

    name: str
    status: Literal["OK", "WARN", "FAIL"]
    finding: str
    action: str = ""


def examined(name: str, examine: Callable[[], Iterable[Check]]) -> list[Check]:
    """Return what `examine` finds; one of our errors in it, or a package that is not there, is a FAIL under `name`."""
    found: list[Check] = []
    try:
        found.extend(examine())
    except MillraceError as err:
        finding, _, action = str(err).partition("Operator action: ")
        found.append(Check(name, "FAIL", finding.strip(), action or "see the finding"))
    except ImportError as err:
        found.append(Check(name, "FAIL", f"cannot be imported: {err}", "install with requirements/default.txt"))
    return found


def failed(checks: Sequence[Check]) -> bool:
    """Tell whether any check is a FAIL."""
    return any(check.status == "FAIL" for check in checks)


def checks_table(checks: Sequence[Check]) -> Table:
    """Return the findings for a person, in their order."""
    table = Table("", "what", "finding", "what to do", show_lines=False)
    for check in checks:
        style = _STYLES[check.status]
        table.add_row(f"[{style}]{check.status}[/]", escape(check.name), escape(check.finding), escape(check.action))
    return table
