"""Sinks of a replay's answers: files of JSON lines or Parquet tables, one per topic, or Kafka topics with a prefix.

`flush` returns a sink's position. A sink opened at that position discards later output, so a killed replay resumes from its last
checkpoint and ends with the same bytes. Kafka topics cannot be cut back: later messages are sent again under the same answer ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from stream_app.codec.outbox import Messages
from stream_app.errors import ConfigError
from stream_app.events import ANSWER_TOPICS, SIDE_TOPICS
from stream_app.logs.answer_tables import answer_table, table_schema
from stream_app.logs.ingest.sink import KafkaSink
from stream_app.logs.parquet_parts import PART_ROWS, ParquetParts, parts_in
from stream_app.replay.answer_files import FEATURES

REPLAY_TOPICS: Final = (*ANSWER_TOPICS, "dead-letters", "late-events")
_FILES: Final = (*REPLAY_TOPICS, FEATURES)
_LARGE_ROWS: Final = 512  # per part of topics with messages of up to megabytes: a part is held in memory


class ReplaySink:
    """Receives a replay's messages."""

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Write the messages of the next batch, by topic."""
        raise NotImplementedError

    def flush(self) -> dict[str, int]:
        """Make all messages durable; return the sink's position."""
        raise NotImplementedError

    def finish(self) -> None:
        """Make all messages durable at the end of the replay; no write follows."""
        self.flush()

    def tidy(self) -> None:
        """Remove files that only a checkpoint needed, after it was removed; most sinks have none."""

    def close(self) -> None:
        """Close files and connections."""


class AnswerFiles(ReplaySink):
    """`<topic>.jsonl` in a folder: the messages' values, one a line, in the order of the log; `features` with features.record.

    `resume_at` is a result of `flush`, later output is cut off; None starts anew.

    Raises:
        ConfigError: A file cannot be written, or is shorter than it was; or the folder holds answers as Parquet.
    """

    def __init__(self, folder: Path, resume_at: Mapping[str, int] | None = None) -> None:
        self._files: dict[str, BinaryIO] = {}
        for topic in REPLAY_TOPICS:
            if (folder / topic).is_dir() and any(parts_in(folder / topic)):
                raise ConfigError(f"{folder} holds answers as Parquet ({topic}): name another folder, or remove them")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for topic in _FILES:
                self._files[topic] = _opened(folder / f"{topic}.jsonl", None if resume_at is None else resume_at.get(topic, 0))
        except OSError as err:
            self.close()
            raise ConfigError(f"cannot write to {folder}: {err.strerror}. Name a folder that can be written with --out") from err

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Append the messages."""
        for topic, topic_messages in messages.items():
            self._files[topic].write(b"\n".join([*topic_messages.values, b""]))

    def flush(self) -> dict[str, int]:
        """Sync the files to disk; return their lengths."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {topic: file.tell() for topic, file in self._files.items()}

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def _opened(path: Path, resume_at: int | None) -> BinaryIO:
    if resume_at is None:
        return path.open("wb")
    file = path.open("r+b" if path.exists() else "wb")
    length = file.seek(0, os.SEEK_END)
    if length < resume_at:
        file.close()
        raise ConfigError(f"{path} has {length} bytes, less than the {resume_at} of its checkpoint. Begin anew with --restart")
    file.seek(resume_at)
    file.truncate()
    return file


class AnswerTables(ReplaySink):
    """A folder a topic with the messages as a Parquet table, in the order of the log; see `answer_tables` and `parquet_parts`.

    `resume_at` is a result of `flush`, later output is removed; None starts anew.

    Raises:
        ConfigError: pyarrow is not installed, a folder cannot be written, or lacks a part; or it holds answers as JSON lines.
    """

    def __init__(self, folder: Path, resume_at: Mapping[str, int] | None = None) -> None:
        for topic in _FILES:
            if (folder / f"{topic}.jsonl").exists():
                raise ConfigError(f"{folder} holds answers as JSON lines ({topic}.jsonl): name another folder, or remove them")
        self._tables: dict[str, ParquetParts] = {}
        for topic in _FILES:
            at = None if resume_at is None else {key: resume_at[f"{topic} {key}"] for key in ("parts", "waiting")}
            rows = _LARGE_ROWS if topic in SIDE_TOPICS else PART_ROWS
            self._tables[topic] = ParquetParts(folder / topic, at, table_schema(topic), rows)

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Append the messages."""
        for topic, topic_messages in messages.items():
            if topic_messages.values:
                self._tables[topic].append(answer_table(topic, topic_messages.values))

    def flush(self) -> dict[str, int]:
        """Sync the tables to disk; return their positions."""
        return {f"{topic} {key}": at for topic, parts in self._tables.items() for key, at in parts.flush().items()}

    def finish(self) -> None:
        """Write the last part of each table."""
        for parts in self._tables.values():
            parts.finish()

    def tidy(self) -> None:
        """Remove the rows that only a checkpoint needed."""
        for parts in self._tables.values():
            parts.tidy()


class AnswerTopics(ReplaySink):
    """Topics with a prefix, keyed as live.

    Raises:
        BrokerUnavailableError: No broker answers.
        ContractError: A topic is missing.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._sink = KafkaSink(bootstrap, REPLAY_TOPICS, prefix)
        self._sent = 0

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Queue the messages."""
        for topic, topic_messages in messages.items():
            if topic not in REPLAY_TOPICS:
                continue
            for key, value in zip(topic_messages.keys, topic_messages.values, strict=True):
                self._sink.send(topic, key or b"", value, 0)
                self._sent += 1

    def flush(self) -> dict[str, int]:
        """Wait until the broker has all messages; return their number."""
        self._sink.flush()
        return {"sent": self._sent}

    def close(self) -> None:
        """Disconnect from the broker."""
        self._sink.close()
