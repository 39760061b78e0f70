"""`millrace features`: the catalogue, a user's features, the size of its state, suggestions for a log."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stream_app.cli.settings import cli_settings
from stream_app.errors import ConfigError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from stream_app.config import Settings
    from stream_app.logs.ingest.mapping import LogMapping
    from stream_app.profiling.explain import ExplainedFeatures


# field of an event -> entity kind
_KINDS: Final = {
    "user": "user", "session": "session", "device": "device", "ip": "ip", "payment_instrument": "instrument",
    "shipping_address": "address", "item": "item", "category": "category", "query": "query",
}  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="One line of JSON.")


@click.group("features")
def features() -> None:
    """Show the feature catalogue, a user's features, the size of the state, and suggestions for a log.

    \b
    Examples:
      millrace features list --entity device
      millrace features show user_amount_vs_mean_30d
      millrace features explain u-1042 --at newest
      millrace features estimate --events-per-day 20000000 --users 1000000
      millrace features suggest transactions.parquet
    """


@features.command("list")
@click.option("--entity", "entities", multiple=True, help="Only features of this entity; may be given again.")
@click.option("--aggregation", "aggregations", multiple=True, help="Only features of this aggregation; may be given again.")
@_JSON
def list_(entities: tuple[str, ...], aggregations: tuple[str, ...], as_json: bool) -> None:
    """List the features, in the order of the tensor.

    \b
    Examples:
      millrace features list
      millrace features list --entity user --aggregation distinct
      millrace features list --json | jq -r '.features[].name'
    """
    from stream_app.docgen.feature_list import feature_record, feature_table, selected
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.state.layout import catalogue_hash

    rows = selected(CATALOGUE, entities, aggregations)
    if as_json:
        records = [feature_record(CATALOGUE, column, f) for column, f in rows]
        click.echo(json.dumps({"count": len(records), "catalogue": catalogue_hash(CATALOGUE), "features": records}))
        return
    _console().print(feature_table(rows))
    click.echo(f"{len(rows)} of {len(CATALOGUE.features)} features, catalogue {catalogue_hash(CATALOGUE)}")


@features.command("show")
@click.argument("name")
@_JSON
def show(name: str, as_json: bool) -> None:
    """Show all about one feature.

    Meaning, reason, computation and inputs.

    \b
    Examples:
      millrace features show user_orders_1h
    """
    from stream_app.docgen.feature_list import feature_named, feature_page, feature_record
    from stream_app.features.catalog import CATALOGUE

    column, feature = feature_named(CATALOGUE, name)
    click.echo(json.dumps(feature_record(CATALOGUE, column, feature)) if as_json else feature_page(CATALOGUE, column, feature))


@features.command("explain")
@click.argument("user")
@click.option("--at", "at", help="Features at this time: `newest` (after the newest event), epoch ms, or ISO.  [default: now]")
@click.option(
    "--entity", default="user", show_default=True, help="Another kind of entity, as device; USER is its identifier then."
)
@_JSON
def explain(user: str, at: str | None, entity: str, as_json: bool) -> None:
    """Show what USER's features are now, and from what.

    Only reads, from the live store; needs no running worker.

    \b
    Examples:
      millrace features explain u-1042
      millrace features explain card-596 --at newest
      millrace features explain d-17 --entity device --json
    """
    from stream_app.clock import SystemClock
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.declarations import ENTITIES
    from stream_app.profiling.explain import explained_json, explained_text, time_from_text

    single = [kind.name for kind in CATALOGUE.kinds if kind.name in ENTITIES and kind.name not in ("session", "user_category")]
    if entity not in single:
        raise ConfigError(f"--entity {entity!r} cannot be explained by one identifier; it is one of {', '.join(single)}")
    at_ms = SystemClock().now_ms() if at is None else time_from_text(at)
    found = asyncio.run(_explain(cli_settings(announce=not as_json), entity, user, at_ms))
    if as_json:
        click.echo(json.dumps(explained_json(found)))
        return
    console = _console()
    for part in explained_text(found, CATALOGUE):
        console.print(part)


async def _explain(settings: Settings, entity: str, name: str, at_ms: int) -> ExplainedFeatures:
    from stream_app.admin.forget import group_of
    from stream_app.features.columns.text import REDUCED
    from stream_app.privacy import Pseudonymizer
    from stream_app.profiling.explain import explain as read

    digest = Pseudonymizer(settings.privacy.id_key.get_secret_value().encode()).hasher(entity, REDUCED.get(entity))(name)
    if not digest:
        raise ConfigError(f"{name!r} names no {entity}")
    from stream_app import wiring

    engine = wiring.build_engine(settings)
    # Any group will do for a shared entity: the others' replicas are merged to its own.
    group = 0 if engine.catalogue.kind(entity).shared else group_of(name, settings.kafka.partitions)
    store = wiring.build_store(settings, wiring.shared_kinds(engine))
    try:
        return await read(store, engine, entity, name, digest, group, at_ms)
    finally:
        await store.close()


@features.command("estimate")
@click.option("--events-per-day", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="Events of all users.")
@click.option("--users", type=click.IntRange(min=1), help="Users who come again and again.  [default: 100000, or the file's]")
@click.option("--items", type=click.IntRange(min=20), default=10_000, show_default=True, help="Items that are looked at.")
@click.option("--days", type=click.FloatRange(min=1, max=90), default=30.0, show_default=True, help="So many days of traffic.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Measure this log in place of a simulated shop.")
@click.option("--mapping", "mapping_name", help="How the log is read (`taobao`, `cards`, a TOML file); none: events of Millrace.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many events of the log.")
@_JSON
def estimate(**options: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Measure the bytes of state for given traffic.

    The command folds events, simulated or from a log, as a worker does, and measures the state. A simulated shop has fewer users
    and items, with the same number of events for each.

    \b
    Examples:
      millrace features estimate --events-per-day 20000000 --users 1000000
      millrace features estimate --file user_behavior.csv.gz --mapping taobao --users 5000000
      millrace features estimate --file shop.jsonl --json
    """
    from stream_app.cli.operate.estimate_traffic import traffic_of
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.engine import FeatureEngine
    from stream_app.privacy import Pseudonymizer
    from stream_app.profiling.estimate import estimate_json, estimate_table, measure
    from stream_app.reporting.progress import ProgressLine

    settings = cli_settings(announce=False)
    partitions = settings.kafka.partitions
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=settings.features.allowed_lateness_ms)
    traffic = traffic_of(options)
    with ProgressLine("measuring", "events", traffic.total, sys.stderr) as line:
        measured = measure(engine, Pseudonymizer(b"estimate"), traffic.events, _groups(partitions), line.show)
    if not measured.events:
        raise InputFileError(f"{traffic.source} gave no events, so there is nothing to measure")
    scaled = estimate_json(measured, traffic.users, traffic.items)
    figures = {"catalogue": engine.catalogue_hash, "partitions": partitions, **scaled}
    if options["as_json"]:
        click.echo(json.dumps(figures))
        return
    click.echo(
        f"measured on {traffic.source}: {measured.events:,} events of {measured.users:,} users over {figures['days']} days, "
        f"{partitions} partition groups"
    )
    if traffic.users and traffic.users != measured.users:
        items = f"{traffic.items:,} items;" if traffic.items else "items,"
        click.echo(f"scaled to {traffic.users:,} users; {items} categories and queries stay as they are")
    _console().print(estimate_table(figures))


def _groups(partitions: int) -> Callable[[str], int]:
    from functools import cache

    from stream_app.admin.forget import group_of

    return cache(lambda user: group_of(user, partitions))


@features.command("suggest")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--mapping", "mapping_name", help="A mapping of the log: which columns are which fields (`taobao`, `cards`, a file)."
)
@click.option("--label", default="", help="The column that is the truth.  [default: by its name]")
@click.option("--time", "time_name", default="", help="The column of the event time.  [default: found]")
@click.option("--rows", type=click.IntRange(min=10), help="Look at so many rows.  [default: about four million cells]")
@_JSON
def suggest(file: Path, mapping_name: str | None, label: str, time_name: str, rows: int | None, as_json: bool) -> None:
    """Propose a catalogue from a log; warn of leakage.

    Shows entities, windows that hold anything, features, and what would give the truth away. Takes
    CSV, JSON lines (gzip or not) and Parquet as they are; units of times are found.

    \b
    Examples:
      millrace features suggest transactions.parquet
      millrace features suggest visits.csv.gz --label Revenue
      millrace features suggest user_behavior.csv.gz --mapping taobao --json
    """
    from stream_app.features.catalog import CATALOGUE
    from stream_app.logs.ingest.mapping import load_mapping
    from stream_app.profiling.columns import inspect_columns, time_column
    from stream_app.profiling.suggest import suggest as look
    from stream_app.profiling.suggest import suggestion_json, suggestion_text
    from stream_app.profiling.table_files import read_table
    from stream_app.reporting.progress import ProgressLine

    names, kinds = mapped_columns(load_mapping(mapping_name) if mapping_name else None)
    with ProgressLine(f"reading {file.name}", "rows", rows, sys.stderr) as line:
        table = read_table(file, rows, line.show, names)
    if label and label not in table.names:
        raise ConfigError(f"--label {label}: the file has no such column; it has {', '.join(table.names)}")
    with ProgressLine("looking at", "columns", len(table.names), sys.stderr) as line:
        columns = inspect_columns(table, label, kinds, line.show)
    found = look(columns, time_column(columns, time_name), CATALOGUE, more=table.more)
    if as_json:
        click.echo(json.dumps({"file": str(file), **suggestion_json(found)}))
        return
    console = _console()
    for part in suggestion_text(found):
        console.print(part)


def mapped_columns(mapping: LogMapping | None) -> tuple[list[str], dict[str, str]]:
    """Names of a headless file's columns, and the entity kind of each column that a mapping makes an identifier."""
    if mapping is None:
        return [], {}
    from stream_app.logs.ingest.fields import used_columns

    kinds: dict[str, str] = {}
    for record in mapping.records:
        lines = record.fields.get("lines")
        first = lines[0] if isinstance(lines, list) and lines and isinstance(lines[0], dict) else {}
        for name, rule in [*record.fields.items(), *first.items()]:
            if name in _KINDS:
                for column in used_columns(rule):
                    kinds.setdefault(column, _KINDS[name])
    return ([] if mapping.source.header else list(mapping.source.columns)), kinds


def _console() -> Console:
    from rich.console import Console

    # Not on a terminal a table is as wide as it needs to be: a cut name could not be searched for.
    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 200)
