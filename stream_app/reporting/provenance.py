"""Provenance of a figure: commit, machine, cores, date. Every published figure has it."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from model.commit import commit
from stream_app.clock import Clock, SystemClock

__all__ = ["commit", "cpu_model", "machine", "origin"]


def origin(clock: Clock | None = None) -> dict[str, str | int]:
    """Return `commit`, `machine`, `cores` and `date` (ISO 8601, UTC, to the second)."""
    now_s = (clock or SystemClock()).now_ms() // 1_000
    return {
        "commit": commit(),
        "machine": machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "date": datetime.datetime.fromtimestamp(now_s, datetime.UTC).isoformat(timespec="seconds"),
    }


def machine() -> str:
    """Return processor, system and Python version in one line."""
    return f"{cpu_model()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
