"""Print the figures of a run as one line of JSON, and with `--save` also write them to benchmarks/results/<name>.json."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from stream_app.reporting.provenance import cpu_model, origin
from verification.harness.processes import ROOT

RESULTS = ROOT / "benchmarks" / "results"
_ORIGIN = ("commit", "machine", "cores", "date")  # in a file they stand beside the figures

Command = TypeVar("Command", bound=Callable[..., Any])


def save_option(command: Command) -> Command:
    """Give a command the option `--save`."""
    text = "Write the figures to benchmarks/results too; `python -m benchmarks.figures` makes docs/benchmarks.md of them."
    return click.option("--save", is_flag=True, help=text)(command)


def print_figures(name: str, figures: Mapping[str, Any], *, save: bool, folder: Path = RESULTS) -> None:
    """Print one line of JSON; with `save` write `folder`/`name`.json with command, commit, machine and date."""
    click.echo(json.dumps(figures))
    if not save:
        return
    run = origin()
    head = str(run["commit"])
    result = {
        "name": name,
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "commit": head.removesuffix("+"),
        "dirty": head.endswith("+"),
        "machine": {
            "cores": run["cores"],
            "cpu": cpu_model(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
        "python": sys.version.split()[0],
        "date": run["date"],
        "figures": {key: value for key, value in figures.items() if key not in _ORIGIN},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem
