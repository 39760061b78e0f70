"""Record a live run: write its topics to files, one file per topic and partition, in order of offsets.

FOLDER/log/clicks-3.jsonl       source topics and labels: a log that any replay reads
FOLDER/live/intent-labels-3.jsonl    answers, side topics, journal, features: for comparison with a replay
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from stream_app.admin.topic_reader import TopicReader
from stream_app.errors import InputFileError
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS, JournalLine, Source
from stream_app.logs.log_files import RecordLine
from stream_app.logs.log_records import LABELS, LOG_TOPICS, LogRecord
from stream_app.logs.topic_log import record_of

_FLUSH_BYTES: Final = 1 << 20
_PROGRESS_RECORDS: Final = 10_000
_LIVE_TOPICS: Final = (*ANSWER_TOPICS, *(topic for topic in SIDE_TOPICS if topic != LABELS))


class _Answer(msgspec.Struct):
    source: Source
    scored_time_ms: int = 0


_line: Final = msgspec.json.Decoder(RecordLine).decode
_answer: Final = msgspec.json.Decoder(_Answer).decode
_journal_line: Final = msgspec.json.Decoder(JournalLine).decode
_encode: Final = msgspec.json.Encoder().encode


def record_topics(
    bootstrap: str, prefix: str, folder: Path, progress: Callable[[int, str], None] = lambda _count, _note: None
) -> dict[str, int]:
    """Write all topics to files, from their first record to their current end.

    Args:
        bootstrap: The broker.
        prefix: Prefix of every topic name.
        folder: Created when needed; files of an earlier recording are replaced.
        progress: Receives the number of written records and the current topic.

    Returns:
        Topic -> records.

    Raises:
        BrokerUnavailableError: The broker does not answer.
        ConfigError: A topic is missing.
    """
    counts: dict[str, int] = {}
    with TopicReader(bootstrap, prefix) as reader:
        # Live topics first: the sources, read last, then hold every record that an answer refers to.
        for topic in (*_LIVE_TOPICS, *LOG_TOPICS):
            part = folder / ("log" if topic in LOG_TOPICS else "live")
            part.mkdir(parents=True, exist_ok=True)
            files = _Files(part, topic)
            ranges = reader.ranges([topic])
            for place in ranges:
                files.begin(place[1])
            for count, (_, message) in enumerate(reader.read(ranges), 1):
                files.add(record_of(topic, message))
                if count % _PROGRESS_RECORDS == 0:
                    progress(sum(counts.values()) + count, topic)
                counts[topic] = count
            files.flush()
    return counts


class _Files:
    """Files of one topic. They are opened only to append, since a topic may have a thousand partitions."""

    def __init__(self, folder: Path, topic: str) -> None:
        self._folder, self._topic = folder, topic
        self._waiting: dict[int, list[bytes]] = {}
        self._bytes = 0

    def begin(self, partition: int) -> None:
        self._path(partition).write_bytes(b"")

    def add(self, record: LogRecord) -> None:
        line = _encode(_line_of(record))
        self._waiting.setdefault(record.partition, []).append(line)
        self._bytes += len(line)
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        for partition, lines in self._waiting.items():
            with self._path(partition).open("ab") as file:
                file.write(b"\n".join([*lines, b""]))
        self._waiting, self._bytes = {}, 0

    def _path(self, partition: int) -> Path:
        return self._folder / f"{self._topic}-{partition}.jsonl"


def _line_of(record: LogRecord) -> RecordLine:
    key, key_bytes = _text(record.key)
    value, value_bytes = _text(record.value)
    return RecordLine(
        topic=record.topic, key=key, value=value, time_ms=record.timestamp, partition=record.partition, offset=record.offset,
        key_base64=key_bytes, value_base64=value_bytes, headers=record.headers,
    )  # fmt: skip


def _text(value: bytes | None) -> tuple[str | None, bytes | None]:
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, value


class RecordedRun:
    """Reads a recording.

    Args:
        folder: A folder of `record_topics`.

    Raises:
        InputFileError: The folder has no journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not any(folder.glob("live/journal-*.jsonl")):
            raise InputFileError(
                f"{folder} is no recording: it has no live/journal-*.jsonl. Make one with `millrace record {folder}`"
            )

    def identity(self) -> list[str]:
        """Identify the content of the recording; a resumed replay requires the same."""
        files = sorted(path for part in ("log", "live") for path in (self._folder / part).glob("*.jsonl"))
        return [f"{path} {(stat := path.stat()).st_size} {stat.st_mtime_ns}" for path in files]

    def has_features(self) -> bool:
        """Whether the recording has the features topic."""
        return any(path.stat().st_size for path in self._folder.glob("live/features-*.jsonl"))

    def journal(self) -> dict[tuple[int, int], JournalLine]:
        """Return the journal lines by (group, commit). If a commit has two lines, the later one counts.

        A line that was published again after a crash is identical. After Redis lost its last commits, the worker commits again
        under the same numbers; state and positions continue from the later line.
        """
        lines = {}
        for path in sorted(self._folder.glob("live/journal-*.jsonl")):
            for record in _records(path):
                line = _journal_line(record.value or "")
                lines[line.group, line.commit] = line
        return lines

    def earlier_answers(self, group: int, fronts: Mapping[str, int], since_ms: int) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield topic, key and value of the answers to one group's records before the given offsets.

        Args:
            group: The partition group.
            fronts: Source topic -> offset.
            since_ms: Answers decided before this time are left out.
        """
        for topic in ANSWER_TOPICS:
            path = self._folder / "live" / f"{topic}-{group}.jsonl"
            for record in _records(path) if path.exists() else ():
                value = (record.value or "").encode()
                answer = _answer(value)
                if answer.scored_time_ms >= since_ms and answer.source.offset < fronts.get(answer.source.topic, 0):
                    yield topic, (record.key or "").encode(), value

    def records(self, topic: str, partition: int) -> Iterator[LogRecord]:
        """Yield the records of one partition of a source topic, in order of offsets."""
        path = self._folder / "log" / f"{topic}-{partition}.jsonl"
        if path.exists():
            for line in _records(path):
                key = line.key_base64 if line.key is None else line.key.encode()
                value = line.value_base64 if line.value is None else line.value.encode()
                place = (0, line.partition, line.offset)
                yield LogRecord(0, place, topic, line.partition, line.offset, line.time_ms, key, value, line.headers)


def _records(path: Path) -> Iterator[RecordLine]:
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            try:
                yield _line(text)
            except (msgspec.DecodeError, UnicodeDecodeError) as err:
                raise InputFileError(f"{path}, line {number}: no record ({err}). Record the run again") from err
