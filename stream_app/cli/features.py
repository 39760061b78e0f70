"""`millrace features`: the catalogue, what it knows of a user, what it costs, and what a log needs."""

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
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from stream_app.config import Settings
    from stream_app.console.features_explain import Explained
    from stream_app.events import Event
    from stream_app.imports.mapping import Mapping

__all__ = ["features"]

_DAY_S: Final = 86_400.0
_MOST_SIMULATED: Final = 250_000  # events: some ten seconds
_SIMULATED_USERS: Final = (200, 20_000)  # fewer say too little of percentiles
# field of an event -> entity kind
_KINDS: Final = {
    "user": "user", "session": "session", "device": "device", "ip": "ip", "payment_instrument": "instrument",
    "shipping_address": "address", "item": "item", "category": "category", "query": "query",
}  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="One line of JSON.")


@click.group("features")
def features() -> None:
    """Show the feature catalogue, what it knows of a user, what it costs, and what a log needs.

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
    from stream_app.console.features import feature_record, feature_table, selected
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.layout import catalogue_hash

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
    """Show one feature: what it means, why it is there, how it is computed, where its state stands.

    \b
    Examples:
      millrace features show user_orders_1h
    """
    from stream_app.console.features import feature_named, feature_page, feature_record
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
    """Show what USER's features are now, and the state they are read from. Only reads; needs no running worker.

    \b
    Examples:
      millrace features explain u-1042
      millrace features explain card-596 --at newest
      millrace features explain d-17 --entity device --json
    """
    from stream_app.clock import SystemClock
    from stream_app.console.features_explain import explained_json, explained_text, time_from_text
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.declare import ENTITIES

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


async def _explain(settings: Settings, entity: str, name: str, at_ms: int) -> Explained:
    from stream_app import wiring
    from stream_app.codec.identity import Identity
    from stream_app.console.features_explain import explain as read
    from stream_app.console.forget import group_of
    from stream_app.features.text import network_of, normalised_query

    engine = wiring.build_engine(settings)
    store = wiring.build_store(settings, wiring.shared_kinds(engine))
    # Any group will do for a shared entity: the others' replicas are merged to its own.
    group = 0 if engine.catalogue.kind(entity).shared else group_of(name, settings.kafka.partitions)
    reduced = {"network": network_of, "query": normalised_query}.get(entity)
    identity = Identity(settings.privacy.id_key.reveal().encode())
    digest = identity.hasher(entity, reduced)(name)
    if not digest:
        await store.close()
        raise ConfigError(f"{name!r} names no {entity}")
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
def estimate(**given: Any) -> None:  # noqa: ANN401 (the options above, by name)
    """Measure the bytes of state per entity: real events, simulated or from a log, are folded and the blobs weighed.

    A simulated shop is a scale model: fewer users (and items) who are each as busy as yours.

    \b
    Examples:
      millrace features estimate --events-per-day 20000000 --users 1000000
      millrace features estimate --file user_behavior.csv.gz --mapping taobao --users 5000000
      millrace features estimate --file shop.jsonl --json
    """
    from stream_app import wiring
    from stream_app.codec.identity import Identity
    from stream_app.console.features_estimate import estimate_json, estimate_table, measure
    from stream_app.console.forget import group_of
    from stream_app.imports.progress import ProgressLine

    settings = cli_settings(announce=False)
    engine = wiring.build_engine(settings)
    log = _log_events(given["file"], given["mapping_name"]) if given["file"] else None
    if given["mapping_name"] and log is None:
        raise ConfigError("--mapping says how a log is read; name it with --file")
    users = given["users"] or (0 if log is not None else 100_000)
    events, total = (_limited(log, given["limit"]), given["limit"]) if log is not None else _simulated(given, users)
    partitions = settings.kafka.partitions
    groups: dict[str, int] = {}

    def group(user: str) -> int:
        found = groups.get(user)
        if found is None:
            found = groups[user] = group_of(user, partitions)
        return found

    with ProgressLine("measuring", "events", total, sys.stderr) as line:
        measured = measure(engine, Identity(b"estimate"), events, group, line.show)
    if not measured.events:
        raise InputFileError(f"{given['file']} gave no events")
    figures = {
        "catalogue": engine.catalogue_hash,
        "partitions": partitions,
        **estimate_json(measured, users, 0 if given["file"] else given["items"]),
    }
    if given["as_json"]:
        click.echo(json.dumps(figures))
        return
    said = f"the log {given['file']}" if given["file"] else "a simulated shop"
    click.echo(
        f"measured on {said}: {measured.events:,} events of {measured.users:,} users over {figures['days']} days, "
        f"{partitions} partition groups"
    )
    if users and users != measured.users:
        items = "items," if given["file"] else f"{given['items']:,} items;"
        click.echo(f"scaled to {users:,} users; {items} categories and queries stay as they are")
    _console().print(estimate_table(figures))


def _simulated(given: dict[str, Any], users: int) -> tuple[Iterator[Event], int]:
    """A scale model of the traffic: as many users as the time allows, each of them as busy as asked for."""
    from stream_app.simulator.options import SimulatorOptions
    from stream_app.simulator.shop import simulated_events

    per_user = given["events_per_day"] * given["days"] / users
    fewest, most = _SIMULATED_USERS
    sample = min(users, max(fewest, min(most, int(_MOST_SIMULATED / per_user))))
    events = min(int(sample * per_user), 4 * _MOST_SIMULATED)
    if events < 1:
        raise ConfigError(f"{given['events_per_day']:,} events a day of {users:,} users are none in {given['days']:g} days")
    options = SimulatorOptions(
        users=max(10, sample),
        items=max(20, round(given["items"] * sample / users)),
        events=events,
        events_per_s=given["events_per_day"] / _DAY_S * sample / users,
        malformed_share=0.0,
    )
    return (simulated.event for simulated in simulated_events(options)), events


def _log_events(file: Path, mapping_name: str | None) -> Iterator[Event]:
    if mapping_name is None:
        return _millrace_events(file)
    from stream_app.imports.importer import check_file
    from stream_app.imports.mapping import load_mapping

    mapping = load_mapping(mapping_name)
    check_file(file, mapping)
    return _mapped_events(file, mapping)


def _mapped_events(file: Path, mapping: Mapping) -> Iterator[Event]:
    from stream_app.codec.decode import Decoder
    from stream_app.errors import InvalidEventError
    from stream_app.events import SOURCE_TOPICS
    from stream_app.imports.convert import Converter
    from stream_app.imports.importer import mapping_columns
    from stream_app.imports.rows import BadRow, open_rows

    decoder, row = Decoder(future_skew_ms=0), 0
    source = open_rows(file, mapping, mapping_columns(mapping))
    try:
        converter = Converter(mapping, source.index, file.name.split(".")[0])
        for chunk in source.chunks(0, 2_000):
            for cells in chunk:
                row += 1
                if isinstance(cells, BadRow):
                    continue
                try:
                    produced = converter.convert(cells, row)
                except InvalidEventError:
                    continue  # a row that the import would refuse has no state
                for topic, key, value, _ in produced:
                    if topic in SOURCE_TOPICS:
                        yield decoder.decode(topic, key, value, -1)
    finally:
        source.close()


def _millrace_events(file: Path) -> Iterator[Event]:
    """Events of a file that `simulate --to` or `import --to` wrote."""
    from stream_app.codec.decode import Decoder
    from stream_app.errors import InvalidEventError
    from stream_app.events import SOURCE_TOPICS

    decoder = Decoder(future_skew_ms=0)
    try:
        lines = file.open("rb")
    except OSError as err:
        raise InputFileError(f"cannot read {file}: {err.strerror}") from err
    with lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                topic, key = line["topic"], line["key"].encode()
            except (ValueError, KeyError, TypeError, AttributeError) as err:
                raise InputFileError(
                    f"{file}, line {number} is no record of Millrace ({err!r}); of another log say how it is read: --mapping"
                ) from err
            if topic in SOURCE_TOPICS and "value" in line:
                try:
                    yield decoder.decode(topic, key, line["value"].encode(), -1)
                except InvalidEventError:
                    continue  # goes to dead-letters in a worker, and has no state


def _limited(events: Iterable[Event], limit: int | None) -> Iterator[Event]:
    from itertools import islice

    return islice(events, limit)


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
    """Propose a catalogue from a log: entities, windows, features, and what would leak the truth.

    Takes CSV, JSON lines (gzip or not) and Parquet as they are; units of times are found.

    \b
    Examples:
      millrace features suggest transactions.parquet
      millrace features suggest visits.csv.gz --label Revenue
      millrace features suggest user_behavior.csv.gz --mapping taobao --json
    """
    from stream_app.console.features_columns import inspect_columns, time_column
    from stream_app.console.features_rows import read_table
    from stream_app.console.features_suggest import suggest as look
    from stream_app.console.features_suggest import suggested_json, suggested_text
    from stream_app.features.catalog import CATALOGUE
    from stream_app.imports.progress import ProgressLine

    names, kinds = _mapped_columns(mapping_name)
    with ProgressLine(f"reading {file.name}", "rows", rows, sys.stderr) as line:
        table = read_table(file, rows, line.show, names)
    if label and label not in table.names:
        raise ConfigError(f"--label {label}: the file has no such column; it has {', '.join(table.names)}")
    with ProgressLine("looking at", "columns", len(table.names), sys.stderr) as line:
        columns = inspect_columns(table, label, kinds, line.show)
    found = look(columns, time_column(columns, time_name), CATALOGUE, more=table.more)
    if as_json:
        click.echo(json.dumps({"file": str(file), **suggested_json(found)}))
        return
    console = _console()
    for part in suggested_text(found):
        console.print(part)


def _mapped_columns(mapping_name: str | None) -> tuple[list[str], dict[str, str]]:
    """Names of a headless file's columns, and the entity kind of each column that a mapping makes an identifier."""
    if mapping_name is None:
        return [], {}
    from stream_app.imports.fields import used_columns
    from stream_app.imports.mapping import load_mapping

    mapping = load_mapping(mapping_name)
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
