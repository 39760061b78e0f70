"""The events that `millrace features estimate` measures: a simulated shop of the wanted size, or a log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stream_app.errors import ConfigError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_app.events import Event
    from stream_app.imports.mapping import Mapping

__all__ = ["Traffic", "traffic_of"]

_DAY_S: Final = 86_400.0
_MOST_SIMULATED: Final = 250_000  # events: some ten seconds
_SIMULATED_USERS: Final = (200, 20_000)  # fewer say too little of percentiles
_USERS: Final = 100_000  # where nothing is said


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events in order of arrival, how many are expected (None: unknown), and to how many users and items the figures scale.

    0 users or items: as many as there are in the events. `said`: what the events are, for people.
    """

    events: Iterator[Event]
    total: int | None
    users: int
    items: int
    said: str


def traffic_of(given: dict[str, Any]) -> Traffic:
    """Return the traffic that the command's options ask for.

    Raises:
        ConfigError: The options contradict each other, or there is no such mapping.
        InputFileError: The log cannot be read (here, or while its events are taken).
    """
    file: Path | None = given["file"]
    if file is None:
        if given["mapping_name"]:
            raise ConfigError("--mapping says how a log is read; name it with --file")
        users = given["users"] or _USERS
        events, total = _simulated(given, users)
        return Traffic(events, total, users, given["items"], "a simulated shop")
    logged = islice(_log_events(file, given["mapping_name"]), given["limit"])
    return Traffic(logged, given["limit"], given["users"] or 0, 0, f"the log {file}")


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
