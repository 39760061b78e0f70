"""The commit of this checkout, for artefacts and figures; the only caller of git."""

from __future__ import annotations

import subprocess
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """Return the commit of this code's checkout, with "+" if files are changed; "unknown" outside a checkout."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown"
    return head + ("+" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_CHECKOUT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None  # installed as a wheel, on a machine without git
    return done.stdout.strip() if done.returncode == 0 else None
