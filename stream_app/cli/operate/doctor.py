"""`millrace doctor`: checks an installation and proposes fixes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_app.cli.settings import cli_settings

if TYPE_CHECKING:
    from stream_app.admin.doctor import Check
    from stream_app.config import Settings


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check Python, packages, Kafka, topics, Redis, model and compiled code; exit status 1 if anything fails.

    \b
    Examples:
      millrace doctor
      millrace doctor --json
    """
    from stream_app.admin.doctor import checks_table, failed

    settings = cli_settings(announce=not as_json)
    checks = _all_checks(settings)
    if as_json:
        click.echo(json.dumps({"failed": failed(checks), "checks": [asdict(check) for check in checks]}))
    else:
        from rich.console import Console

        Console().print(checks_table(checks))
    ctx.exit(1 if failed(checks) else 0)


def _all_checks(settings: Settings) -> list[Check]:
    from stream_app.admin.doctor import Check, examined, failed
    from stream_app.admin.doctor_model import check_cache, check_model, check_versions
    from stream_app.admin.doctor_services import check_kafka, check_partitioners, check_positions, check_redis
    from stream_app.config import DEVELOPMENT_ID_KEY

    kafka, redis = settings.kafka, settings.redis
    checks = examined("versions", check_versions)
    if settings.privacy.id_key.get_secret_value() == DEVELOPMENT_ID_KEY:
        checks.append(Check("privacy", "WARN", "the public development key", "set MILLRACE_PRIVACY_ID_KEY in production"))
    checks += examined(
        "kafka",
        lambda: check_kafka(
            kafka.bootstrap,
            kafka.client_api_version,
            partitions=kafka.partitions,
            replication=kafka.replication,
            prefix=kafka.topic_prefix,
        ),
    )
    state = (redis.url, redis.prefix, kafka.partitions, redis.timeout_ms)
    checks += examined("redis", lambda: check_redis(*state, cluster=redis.cluster))
    if not failed([check for check in checks if check.name != "redis writes"]):  # both services answer; a full Redis does too
        addresses = (kafka.bootstrap, kafka.topic_prefix, redis.url, redis.prefix)
        embedded = bool(kafka.client_api_version)
        checks += examined(
            "positions", lambda: check_positions(*addresses, redis.timeout_ms, cluster=redis.cluster, embedded=embedded)
        )
        checks += examined("partitioners", lambda: check_partitioners(*addresses[:2], kafka.partitions))
    if settings.model.engine == "none":
        checks.append(Check("model", "WARN", "model.engine is none: nothing is scored", "set model.engine auto"))
    else:
        model, lateness_ms = settings.model, settings.features.allowed_lateness_ms
        checks += examined("model", lambda: check_model(_model_folder(settings), lateness_ms, model.engine, model.precision))
    return checks + examined("compiled code", check_cache)


def _model_folder(settings: Settings) -> Path:
    from stream_app.clock import SystemClock
    from stream_app.inference.registry.registry_factory import model_folder

    model = settings.model
    return model_folder(model.path, model.registry, SystemClock(), settings.worker.folder)
