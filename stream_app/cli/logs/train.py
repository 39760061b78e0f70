"""`millrace train`: runs `python -m training` (extra `train`) in its own process, since this package may not import torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click

from stream_app.errors import ConfigError


@click.command(
    "train",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog="""\b
Examples:
  millrace train --data visits.csv --mapping visits.toml --tasks intent,next_action
  millrace train --config cards --data transactions.parquet
  millrace train --preset demo --out model/artifacts/demo""",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Train a model on any log that `millrace import` reads; `millrace train --help` shows all options."""
    missing = [name for name in ("training", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training needs {' and '.join(missing)}: install the extra with `pip install 'millrace[train]'`")
    ctx.exit(subprocess.run([sys.executable, "-m", "training", "train", *arguments], check=False).returncode)
