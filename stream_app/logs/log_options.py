"""Options that select a log: files, or ranges of topics; and how it is sorted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stream_app.admin.topic_reader import Range, TopicReader
from stream_app.config import Settings
from stream_app.errors import ConfigError
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LOG_TOPICS
from stream_app.logs.log_source import LogSource, open_log
from stream_app.logs.topic_log import TopicLog

_OFFSETS: Final = re.compile(r"(?P<topic>[a-z]+)-(?P<partition>\d+)=(?P<start>\d+):(?P<end>\d+)")


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """Selects a log.

    Attributes:
        paths: Files, folders, patterns; empty with `from_topics`.
        mapping: Turns rows into events; None: JSON lines, or event tables.
        from_topics: Whether the log is the source topics of the configured broker.
        since_ms, until_ms: Limits of record timestamps, for topics.
        offsets: Ranges of topics such as `clicks-3=100:2000`; other partitions are then left out.
        window_ms: How far out of order a record may come; None: unbounded.
    """

    paths: tuple[str, ...] = ()
    mapping: LogMapping | None = None
    from_topics: bool = False
    since_ms: int | None = None
    until_ms: int | None = None
    offsets: tuple[str, ...] = ()
    window_ms: int | None = None

    def problems(self) -> list[str]:
        """Return the contradictions between the options."""
        problems = []
        if bool(self.paths) == self.from_topics:
            problems.append("name log files (or folders, or patterns), or give --from-topics: one of the two")
        if self.mapping is not None and self.from_topics:
            problems.append("--mapping is for files; topics hold events already")
        if self.window_ms is not None and self.from_topics:
            problems.append("--sort-window is for files; topics are sorted as a whole: leave it out")
        if self.paths and not self.from_topics:
            of_topics = (
                ("--since", self.since_ms is not None),
                ("--until", self.until_ms is not None),
                ("--offsets", self.offsets),
            )
            used = [name for name, is_used in of_topics if is_used]
            if used:
                problems.append(f"{', '.join(used)}: only with --from-topics; log files are read whole")
        return problems


def open_source(
    settings: Settings, options: LogOptions, problems: LogIssues, progress: Callable[[str], None] = lambda _line: None
) -> LogSource:
    """Open the selected log.

    Args:
        settings: The section `kafka` names the broker.
        options: Options without contradictions.
        problems: Collects the issues of the log.
        progress: Receives the progress of reading as text.

    Raises:
        ConfigError: A file, a topic or an offset does not exist.
        BrokerUnavailableError: The broker does not answer.
    """
    if not options.from_topics:
        return open_log(options.paths, options.mapping, problems=problems, window_ms=options.window_ms, progress=progress)
    kafka = settings.kafka
    with TopicReader(kafka.bootstrap, kafka.topic_prefix) as reader:
        ranges = reader.ranges(LOG_TOPICS, options.since_ms, options.until_ms)
        if options.offsets:
            requested = _parsed_ranges(options.offsets)
            _refuse_missing(requested, reader.ranges(LOG_TOPICS))
            ranges = {
                place: (max(start, ranges[place][0]), min(end, ranges[place][1])) for place, (start, end) in requested.items()
            }
    return TopicLog(kafka.bootstrap, kafka.topic_prefix, ranges, problems, progress)


def _parsed_ranges(offsets: tuple[str, ...]) -> dict[tuple[str, int], Range]:
    ranges: dict[tuple[str, int], Range] = {}
    for text in offsets:
        match = _OFFSETS.fullmatch(text)
        if match is None or match["topic"] not in LOG_TOPICS:
            raise ConfigError(f"--offsets {text}: write TOPIC-PARTITION=FROM:TO, as clicks-3=100:2000 (2000 is not read)")
        ranges[match["topic"], int(match["partition"])] = (int(match["start"]), int(match["end"]))
    return ranges


def _refuse_missing(requested: Mapping[tuple[str, int], Range], available: Mapping[tuple[str, int], Range]) -> None:
    """Refuse offsets that the broker does not hold; an end beyond the newest record selects all records."""
    for (topic, partition), (start, end) in requested.items():
        asked = f"--offsets {topic}-{partition}={start}:{end}"
        if (topic, partition) not in available:
            raise ConfigError(f"{asked}: {topic} has no partition {partition} at the broker")
        low, high = available[topic, partition]
        if start < end and not low <= start < high:
            raise ConfigError(f"{asked}: the broker holds the offsets {low}:{high} of that partition; begin with one of them")
