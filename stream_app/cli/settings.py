"""The settings of a sub-command: from `--config`, the environment, and the local services of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from stream_app.config import Settings, describe, load_settings

SERVICES_FILE: Final = Path(".services/services.json")


def cli_settings(*, announce: bool = True) -> Settings:
    """Load the settings of the running command; `announce`: print them and their sources to stderr.

    When neither `kafka.bootstrap` nor `redis.url` is named, the services that `millrace services up` started in this
    folder are used.

    Raises:
        ConfigError: The settings are wrong; the message lists every problem.
    """
    context = click.get_current_context(silent=True)
    config = context.find_root().params.get("config") if context is not None else None
    settings = load_settings(file=config, services_file=SERVICES_FILE)
    if announce:
        click.echo(describe(settings), err=True)
    return settings
