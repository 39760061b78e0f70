"""Which log is meant: files, or what topics hold; and how it comes into order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import LogSource, open_log
from stream_app.logs.topic_log import Range, TopicLog, TopicReader

__all__ = ["LogOptions", "open_source"]

_OFFSETS: Final = re.compile(r"(?P<topic>[a-z]+)-(?P<partition>\d+)=(?P<start>\d+):(?P<end>\d+)")


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Which log.

    Attributes:
        paths: Files, folders, patterns; none with `from_topics`.
        mapping: How rows become events; None: JSON lines, or event tables.
        from_topics: Whether the log is the source topics of the settings' broker.
        since_ms, until_ms: Of topics: the records' timestamps.
        offsets: Of topics: `clicks-3=100:2000`; partitions that are not named are left out then.
        window_ms: How far out of order a record may come; None: any.
    """

    paths: tuple[str, ...] = ()
    mapping: LogMapping | None = None
    from_topics: bool = False
    since_ms: int | None = None
    until_ms: int | None = None
    offsets: tuple[str, ...] = ()
    window_ms: int | None = None

    def problems(self) -> list[str]:
        """Say what does not go together."""
        found = []
        if bool(self.paths) == self.from_topics:
            found.append("name log files (or folders, or patterns), or give --from-topics: one of the two")
        if self.mapping is not None and self.from_topics:
            found.append("--mapping is for files; topics hold events already")
        if self.window_ms is not None and self.from_topics:
            found.append("--sort-window is for files; topics are sorted as a whole: leave it out")
        if self.paths and not self.from_topics:
            of_topics = (
                ("--since", self.since_ms is not None),
                ("--until", self.until_ms is not None),
                ("--offsets", self.offsets),
            )
            given = [name for name, is_given in of_topics if is_given]
            if given:
                found.append(f"{', '.join(given)}: only with --from-topics; log files are read whole")
        return found


def open_source(
    settings: Settings, options: LogOptions, problems: LogIssues, progress: Callable[[str], None] = lambda _line: None
) -> LogSource:
    """Open the log that was chosen.

    Args:
        settings: Its section `kafka` says where the topics are.
        options: Without problems.
        problems: Takes note of what is wrong with the log.
        progress: Told how far reading is.

    Raises:
        ConfigError: A file, a topic or an offset is not there.
        BrokerUnavailableError: The broker does not answer.
    """
    if not options.from_topics:
        return open_log(options.paths, options.mapping, problems=problems, window_ms=options.window_ms, progress=progress)
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap, kafka.topic_prefix) as reader:
        ranges = reader.ranges(TopicLog.topics(), options.since_ms, options.until_ms)
        if options.offsets:
            wanted = _wanted(options.offsets)
            _refuse_missing(wanted, reader.ranges(TopicLog.topics()))
            ranges = {place: (max(start, ranges[place][0]), min(end, ranges[place][1])) for place, (start, end) in wanted.items()}
    return TopicLog(kafka.bootstrap, kafka.topic_prefix, ranges, problems, progress)


def _wanted(offsets: tuple[str, ...]) -> dict[tuple[str, int], Range]:
    found: dict[tuple[str, int], Range] = {}
    for text in offsets:
        match = _OFFSETS.fullmatch(text)
        if match is None or match["topic"] not in TopicLog.topics():
            raise ConfigError(f"--offsets {text}: write TOPIC-PARTITION=FROM:TO, as clicks-3=100:2000 (2000 is not read)")
        found[match["topic"], int(match["partition"])] = (int(match["start"]), int(match["end"]))
    return found


def _refuse_missing(wanted: Mapping[tuple[str, int], Range], there: Mapping[tuple[str, int], Range]) -> None:
    """Refuse offsets that the broker does not hold; an end beyond the newest record means: all there is."""
    for (topic, partition), (start, end) in wanted.items():
        asked = f"--offsets {topic}-{partition}={start}:{end}"
        if (topic, partition) not in there:
            raise ConfigError(f"{asked}: {topic} has no partition {partition} at the broker")
        low, high = there[topic, partition]
        if start < end and not low <= start < high:
            raise ConfigError(f"{asked}: the broker holds the offsets {low}:{high} of that partition; begin with one of them")
