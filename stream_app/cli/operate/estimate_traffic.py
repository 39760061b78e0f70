"""The events of `millrace features estimate`: a simulated shop of a chosen size, or a log."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stream_app.errors import ConfigError, InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream_app.events import Event
    from stream_app.logs.ingest.mapping import LogMapping

_DAY_S: Final = 86_400.0
_MOST_SIMULATED: Final = 250_000  # events: some ten seconds
_SIMULATED_USERS: Final = (200, 20_000)  # fewer give no stable percentiles
_USERS: Final = 100_000  # by default


@dataclass(frozen=True, slots=True)
class Traffic:
    """Events in order of arrival, how many are expected (None: unknown), and to how many users and items the figures scale.

    0 users or items: as many as there are in the events. `source`: where the events come from, for the report.
    """

    events: Iterator[Event]
    total: int | None
    users: int
    items: int
    source: str


def traffic_of(options: dict[str, Any]) -> Traffic:
    """Return the traffic that the command's options ask for.

    Raises:
        ConfigError: The options contradict each other, or there is no such mapping.
        InputFileError: The log cannot be read (here, or while its events are taken).
    """
    file: Path | None = options["file"]
    if file is None:
        if options["mapping_name"]:
            raise ConfigError("--mapping says how a log is read; name it with --file")
        users = options["users"] or _USERS
        events, total = _simulated(options, users)
        return Traffic(events, total, users, options["items"], "a simulated shop")
    logged = islice(_log_events(file, options["mapping_name"]), options["limit"])
    return Traffic(logged, options["limit"], options["users"] or 0, 0, f"the log {file}")


def _simulated(options: dict[str, Any], users: int) -> tuple[Iterator[Event], int]:
    """A scale model of the traffic: as many users as the time allows, each of them as busy as asked for."""
    from stream_app.simulator.options import SimulatorOptions
    from stream_app.simulator.shop import simulated_events

    per_user = options["events_per_day"] * options["days"] / users
    fewest, most = _SIMULATED_USERS
    sample = min(users, max(fewest, min(most, int(_MOST_SIMULATED / per_user))))
    events = min(int(sample * per_user), 4 * _MOST_SIMULATED)
    if events < 1:
        raise ConfigError(f"{options['events_per_day']:,} events a day of {users:,} users are none in {options['days']:g} days")
    simulation = SimulatorOptions(
        users=max(10, sample),
        items=max(20, round(options["items"] * sample / users)),
        events=events,
        events_per_s=options["events_per_day"] / _DAY_S * sample / users,
        malformed_share=0.0,
    )
    return (simulated.event for simulated in simulated_events(simulation)), events


def _log_events(file: Path, mapping_name: str | None) -> Iterator[Event]:
    from stream_app.logs.ingest.importer import check_file
    from stream_app.logs.ingest.mapping import load_mapping

    if mapping_name is not None:
        mapping = load_mapping(mapping_name)
        check_file(file, mapping)
        return _events(file, mapping)
    try:
        file.open("rb").close()
    except OSError as err:
        raise InputFileError(f"cannot read {file}: {err.strerror}") from err
    return _events(file, None)


def _events(file: Path, mapping: LogMapping | None) -> Iterator[Event]:
    """Yield the events of a file; a row that a worker would refuse has no state."""
    from stream_app.events import Label
    from stream_app.logs.log_files import LogFile
    from stream_app.logs.log_issues import LogIssues

    problems, count = LogIssues(whole=True), 0
    for found in LogFile(file, 0, mapping, problems).events():
        if not isinstance(found, Label):
            count += 1
            yield found
    if not count and mapping is None and problems.count:
        first = problems.summary()[0]
        raise InputFileError(
            f"{file}, {first['first'][0]} is no record of Millrace ({first['reason']}), nor is any other; of another log say how "
            "it is read: --mapping"
        )
