"""Where a replay begins that has no answers of the records before: told in its folder, for `millrace diff`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from stream_app.errors import InputFileError
from stream_app.events import Source

__all__ = ["StartOffsets", "read_begins", "write_begins"]

_FILE: Final = "begins.json"
_decode: Final = msgspec.json.Decoder(dict[str, int]).decode


class StartOffsets:
    """Tells which records a replay has answered.

    Args:
        offsets: "topic-partition" -> the offset from which it has; of others it has answered all.
    """

    def __init__(self, offsets: Mapping[str, int]) -> None:
        self._offsets = dict(offsets)

    def is_before(self, source: Source) -> bool:
        """Whether a record stands before the replay's beginning."""
        return source.offset < self._offsets.get(f"{source.topic}-{source.partition}", 0)

    def __bool__(self) -> bool:
        return bool(self._offsets)


def write_begins(folder: Path, offsets: Mapping[str, int]) -> None:
    """Tell it in a replay's folder, which is there; without offsets the folder tells nothing."""
    if offsets:
        (folder / _FILE).write_bytes(msgspec.json.encode(dict(sorted(offsets.items()))))
    else:
        (folder / _FILE).unlink(missing_ok=True)


def read_begins(folder: Path) -> StartOffsets:
    """Return what a replay's folder tells.

    Raises:
        InputFileError: The file is damaged.
    """
    try:
        return StartOffsets(_decode((folder / _FILE).read_bytes()))
    except FileNotFoundError:
        return StartOffsets({})
    except (OSError, msgspec.DecodeError) as err:
        raise InputFileError(f"{folder / _FILE} cannot be read ({err}). Make the replay again") from err
