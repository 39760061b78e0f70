"""Read the answers in the folder of a recorded live run or of a replay, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
