"""Read the answers in the folder of a recorded live run or of a replay, one by one.

A replay that began from a snapshot writes its start offsets beside them, read by `millrace diff`: "topic-partition" -> first
answered offset; of a partition that is missing all records are answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stream_app.errors import InputFileError
from stream_app.events import ANSWER_TOPICS, Source
from stream_app.logs.answer_tables import answers_of
from stream_app.logs.compression import DAMAGE, decompressed
from stream_app.logs.log_files import RecordLine
from stream_app.logs.parquet_parts import parts_in

FEATURES: Final = "features"
COMPARED_TOPICS: Final = (*ANSWER_TOPICS, "dead-letters", "late-events", FEATURES)
_NAME: Final = re.compile(r"(?P<topic>[a-z]+(-[a-z]+)*?)(-\d+)?\.jsonl(\.gz|\.zst)?")
_START_OFFSETS: Final = "begins.json"
_ENVELOPE: Final = b'{"topic":'
_ID: Final = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)-(?P<offset>\d+)")


class _Head(msgspec.Struct):
    answer_id: str


class AnswerRecord(NamedTuple):
    """One message: topic, answer id, bytes."""

    topic: str
    answer_id: str
    value: bytes


_head: Final = msgspec.json.Decoder(_Head).decode
_offsets: Final = msgspec.json.Decoder(dict[str, int]).decode
_line: Final = msgspec.json.Decoder(RecordLine).decode


def answers_in(folder: Path) -> Iterator[AnswerRecord]:
    """Yield the messages of a folder, topic by topic.

    A replay has files `<topic>.jsonl` or folders `<topic>` of Parquet, a recording files
    `live/<topic>-<partition>.jsonl`.

    Raises:
        InputFileError: The folder has no answers, or a file is damaged.
    """
    inner = folder / "live"
    files = sorted((inner if inner.is_dir() else folder).glob("*.jsonl*"))
    named = [(match["topic"], path) for path in files if (match := _NAME.fullmatch(path.name))]
    compared = [(topic, path) for topic, path in named if topic in COMPARED_TOPICS]
    tables = [topic for topic in COMPARED_TOPICS if (folder / topic).is_dir() and any(parts_in(folder / topic))]
    if tables == [FEATURES]:
        tables = []  # a folder of --features-out, beside answers in JSON lines
    if not compared and not tables:
        raise InputFileError(f"{folder} has no answers: name a folder of `millrace record`, or what --out of a replay was")
    for topic, path in compared:
        yield from _messages(topic, path)
    for topic in tables:
        for value in answers_of(topic, folder / topic):
            yield AnswerRecord(topic, _head(value).answer_id, value)


def _messages(topic: str, path: Path) -> Iterator[AnswerRecord]:
    done = 0
    with path.open("rb") as raw:
        try:
            for text in decompressed(raw):
                done += 1
                value = text.rstrip(b"\n")
                if value.startswith(_ENVELOPE):
                    line = _line(value)
                    value = line.value.encode() if line.value is not None else line.value_base64 or b""
                yield AnswerRecord(topic, _head(value).answer_id, value)
        except (msgspec.DecodeError, *DAMAGE) as err:
            raise InputFileError(f"{path}, line {done}: no answer ({err}). Make the folder again") from err


def source_of(answer_id: str) -> Source:
    """Return the coordinates in an answer's id."""
    match = _ID.fullmatch(answer_id)
    if match is None:
        return Source(answer_id, -1, -1)
    return Source(match["topic"], int(match["partition"]), int(match["offset"]))


def has_answer(source: Source, offsets: Mapping[str, int]) -> bool:
    """Return whether a record comes after the replay's start."""
    return source.offset >= offsets.get(f"{source.topic}-{source.partition}", 0)


def write_start_offsets(folder: Path, offsets: Mapping[str, int]) -> None:
    """Write the offsets to a replay's existing folder; without offsets remove the file."""
    if offsets:
        (folder / _START_OFFSETS).write_bytes(msgspec.json.encode(dict(sorted(offsets.items()))))
    else:
        (folder / _START_OFFSETS).unlink(missing_ok=True)


def read_start_offsets(folder: Path) -> dict[str, int]:
    """Read the offsets of a replay's folder; a folder without the file has none.

    Raises:
        InputFileError: The file is damaged.
    """
    try:
        return _offsets((folder / _START_OFFSETS).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as err:
        raise InputFileError(f"{folder / _START_OFFSETS} cannot be read ({err}). Make the replay again") from err
