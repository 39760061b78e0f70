"""Where a replay's answers go: files of JSON lines, one a topic, or topics of their own.

A sink says where it stands after a `flush`; it can be put back there, so that a replay that was killed goes on from its last
checkpoint and its files are the same bytes in the end. Kafka cannot be put back: what was sent since is sent again, under the
same answer ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from stream_app.codec.outbox import Messages
from stream_app.errors import ConfigError
from stream_app.events import ANSWER_TOPICS
from stream_app.imports.sink import KafkaSink
from stream_app.replay.answer_files import FEATURES

__all__ = ["REPLAY_TOPICS", "AnswerFiles", "AnswerTopics", "ReplaySink"]

REPLAY_TOPICS: Final = (*ANSWER_TOPICS, "dead-letters", "late-events")


class ReplaySink(Protocol):
    """Takes a replay's messages."""

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Take the messages of the next batch, by topic."""
        ...

    def flush(self) -> dict[str, int]:
        """Make everything safe; return where the sink stands then."""
        ...

    def close(self) -> None:
        """Give back files and connections."""
        ...


class AnswerFiles:
    """`<topic>.jsonl` in a folder: the messages' values, one a line, in the order of the log; `features` with features.record.

    Args:
        folder: Made when needed.
        resume_at: What `flush` returned; all that was written since is cut off. None begins anew.

    Raises:
        ConfigError: A file cannot be written, or is shorter than it was.
    """

    def __init__(self, folder: Path, resume_at: Mapping[str, int] | None = None) -> None:
        self._files: dict[str, BinaryIO] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for topic in (*REPLAY_TOPICS, FEATURES):
                self._files[topic] = _opened(folder / f"{topic}.jsonl", None if resume_at is None else resume_at.get(topic, 0))
        except OSError as err:
            self.close()
            raise ConfigError(f"cannot write to {folder}: {err.strerror}. Name a folder that can be written with --out") from err

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Append the messages."""
        for topic, said in messages.items():
            self._files[topic].write(b"\n".join([*said.values, b""]))

    def flush(self) -> dict[str, int]:
        """Put everything on the disk; return the files' lengths."""
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


class AnswerTopics:
    """Topics with a prefix of their own, keyed as live ones.

    Args:
        bootstrap: The broker.
        prefix: Before every topic's name; the topics must exist.

    Raises:
        BrokerUnavailableError: No broker answers.
        ContractError: A topic is missing.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._sink = KafkaSink(bootstrap, REPLAY_TOPICS, prefix)
        self._sent = 0

    def write(self, messages: Mapping[str, Messages]) -> None:
        """Queue the messages."""
        for topic, said in messages.items():
            if topic not in REPLAY_TOPICS:
                continue
            for key, value in zip(said.keys, said.values, strict=True):
                self._sink.send(topic, key or b"", value, 0)
                self._sent += 1

    def flush(self) -> dict[str, int]:
        """Wait until the broker has everything; return how much that was."""
        self._sink.flush()
        return {"sent": self._sent}

    def close(self) -> None:
        """Leave the broker."""
        self._sink.close()
