"""The state file of a replay's checkpoint or of a live deployment (`millrace snapshot`).

    MILLRACE-STATE 1\\n
    frames, each: length (4 bytes, little-endian), MessagePack
      first the header, then [group, kind, keys, blobs end to end, their ends], last the number of entities

A truncated file has no last frame and is refused. Blobs have the format of the stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from model.atomic_file import atomic_write
from stream_app.errors import InputFileError
from stream_app.features.engine import FeatureEngine
from stream_app.features.state.blobs import Blobs
from stream_app.store.port import GroupDump

_MAGIC: Final = b"MILLRACE-STATE 1\n"
_LENGTH: Final = 4
_FRAME: Final = 4_096  # entities


class GroupHeader(msgspec.Struct):
    """Position of one partition group: its commit number, and per topic the offset below which all records are applied."""

    commit: int
    fronts: dict[str, int]


class StateHeader(msgspec.Struct, kw_only=True):
    """Header of a state file.

    Attributes:
        catalogue_hash: Catalogue of the features whose state follows.
        layouts: Layouts of the blobs: tag in hex -> description.
        groups: The groups, by number.
        taken_ms: Wall clock time of the snapshot; 0 in a replay's checkpoint.
        replay: Further state of a replay's checkpoint, encoded.
    """

    catalogue_hash: str
    layouts: dict[str, str]
    groups: dict[int, GroupHeader]
    taken_ms: int = 0
    replay: bytes = b"null"


class EntityFrame(msgspec.Struct, array_like=True):
    """Entities of one kind and group: keys, and their blobs end to end."""

    group: int
    kind: str
    keys: list[bytes]
    data: bytes
    ends: bytes  # int64, little-endian

    @classmethod
    def of(cls, group: int, kind: str, keys: list[bytes], blobs: Blobs) -> EntityFrame:
        """Build a frame from keys and blobs."""
        return cls(group, kind, keys, *encode_blobs(blobs))

    def blobs(self) -> Blobs:
        """Return the blobs."""
        return decode_blobs(self.data, self.ends)


def encode_blobs(blobs: Blobs) -> tuple[bytes, bytes]:
    """Return the blobs end to end, and their ends as int64, little-endian."""
    return blobs.data, blobs.ends.astype("<i8").tobytes()


def decode_blobs(data: bytes, ends: bytes) -> Blobs:
    """Return the blobs of `encode_blobs`."""
    return Blobs(data, np.frombuffer(ends, "<i8").astype(np.int64))


_encode: Final = msgspec.msgpack.Encoder().encode
_header: Final = msgspec.msgpack.Decoder(StateHeader).decode
_frame: Final = msgspec.msgpack.Decoder(EntityFrame | int).decode


def write_dumps(
    path: Path,
    dumps: Mapping[int, GroupDump],
    engine: FeatureEngine,
    layouts: dict[str, str],
    taken_ms: int = 0,
    replay: bytes = b"null",
) -> int:
    """Write the dumps of groups, by number, with the fields of `StateHeader`; return the number of entities."""
    groups = {group: GroupHeader(dump.commit, dict(dump.fronts)) for group, dump in dumps.items()}
    header = StateHeader(catalogue_hash=engine.catalogue_hash, layouts=layouts, groups=groups, taken_ms=taken_ms, replay=replay)
    return write_state(path, header, _frames(dumps))


def _frames(dumps: Mapping[int, GroupDump]) -> Iterator[EntityFrame]:
    for group, dump in dumps.items():
        for kind, (keys, blobs) in dump.entities.items():
            for first in range(0, len(keys), _FRAME):
                last = min(len(keys), first + _FRAME)
                yield EntityFrame.of(group, kind, keys[first:last], blobs.part(first, last))


def write_state(path: Path, header: StateHeader, frames: Iterable[EntityFrame]) -> int:
    """Write a file atomically; return its number of entities."""
    count = 0
    with atomic_write(path) as file:
        file.write(_MAGIC)
        _put(file, _encode(header))
        for frame in frames:
            _put(file, _encode(frame))
            count += len(frame.keys)
        _put(file, _encode(count))
    return count


def read_header(path: Path) -> StateHeader:
    """Return the header alone.

    Raises:
        InputFileError: The file does not exist, or is not a state file.
    """
    with _opened(path) as file:
        return _header(_next(path, file))


def read_state(path: Path) -> Iterator[EntityFrame]:
    """Yield the entities.

    Raises:
        InputFileError: The file is no state file, or was cut off.
    """
    count = 0
    with _opened(path) as file:
        _next(path, file)
        while isinstance(frame := _frame(_next(path, file)), EntityFrame):
            count += len(frame.keys)
            yield frame
        if frame != count:
            raise InputFileError(f"{path} should have {frame} entities, and has {count}. Take the snapshot again")


def _opened(path: Path) -> BinaryIO:
    try:
        file = path.open("rb")
    except OSError as err:
        raise InputFileError(f"cannot read {path}: {err.strerror}. Name a file that `millrace snapshot` wrote") from err
    if file.read(len(_MAGIC)) != _MAGIC:
        file.close()
        raise InputFileError(
            f"{path} is no state file: it does not begin with {_MAGIC!r}. Name one that `millrace snapshot` wrote"
        )
    return file


def _put(file: BinaryIO, frame: bytes) -> None:
    file.write(len(frame).to_bytes(_LENGTH, "little"))
    file.write(frame)


def _next(path: Path, file: BinaryIO) -> bytes:
    head = file.read(_LENGTH)
    frame = file.read(int.from_bytes(head, "little"))
    if len(head) < _LENGTH or len(frame) < int.from_bytes(head, "little"):
        raise InputFileError(f"{path} was cut off at byte {file.tell():,}. Take the snapshot again")
    return frame
