"""The logs that the feature engine is measured on, as typed events in their order: real ones, or a simulated shop.

Real rows go the way of an import: the packaged mapping makes a record of each, and the record's bytes are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

import msgspec

from stream_app.events import SOURCE_TOPICS, Click, Event, Label, Order, Search
from stream_app.logs.ingest.mapping import load_mapping
from stream_app.logs.ingest.sink import JsonlSink
from stream_app.logs.log_files import LogFile
from stream_app.logs.log_issues import LogIssues
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulated_events
from verification.harness.raw_files import find_files

TOPIC_OF: Final = dict(zip((Search, Click, Order), SOURCE_TOPICS, strict=True))


@dataclass(frozen=True, slots=True)
class FeatureLog:
    """A log: `events` begins anew with each call. `total`: how many there are at most."""

    name: str
    kind: Literal["real", "simulated"]
    total: int
    events: Callable[[], Iterator[Event]]


def find_logs(data: Path, taobao: int, cards: int, shop: int) -> list[FeatureLog]:
    """Return the first `taobao` and `cards` rows of the real logs under `data`, or a simulated shop where they are absent."""
    files = find_files(data)
    if files is None:
        return [shop_log(shop)]
    return [
        FeatureLog("taobao", "real", taobao, lambda: islice(_converted(files.taobao, "taobao"), taobao)),
        FeatureLog("cards", "real", cards, lambda: islice(_converted(files.cards, "cards"), cards)),
    ]


def shop_log(events: int) -> FeatureLog:
    """Return the first events of a simulated shop: with every kind of event and of entity, some of them twice, some late."""
    options = SimulatorOptions(events=events, malformed_share=0.0)
    return FeatureLog("shop", "simulated", events, lambda: (simulated.event for simulated in simulated_events(options)))


def batches(events: Iterator[Event], size: int) -> Iterator[list[Event]]:
    """Cut into lists of `size`; the last may be shorter."""
    while batch := list(islice(events, size)):
        yield batch


def write_jsonl(path: Path, events: Iterable[Event]) -> None:
    """Write a log of JSON lines, in the order of the events."""
    with closing(JsonlSink(path)) as sink:
        for event in events:
            sink.send(TOPIC_OF[type(event)], event.user.encode(), msgspec.json.encode(event), event.event_time_ms)
        sink.flush()


def group_of(user: str, groups: int) -> int:
    """Return the partition group of a user; any even spread will do here."""
    return crc32(user.encode()) % groups


def _converted(path: Path, mapping_name: str) -> Iterator[Event]:
    file = LogFile(path, 0, load_mapping(mapping_name), LogIssues(strict=True))
    return (event for event in file.events() if not isinstance(event, Label))
