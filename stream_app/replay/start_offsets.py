"""Start offsets of a replay that began from a snapshot, as a file in its folder; read by `millrace diff`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from stream_app.errors import InputFileError
from stream_app.events import Source

_FILE: Final = "begins.json"
_decode: Final = msgspec.json.Decoder(dict[str, int]).decode


class StartOffsets:
    """The offsets from which a replay has answers.

    Args:
        offsets: "topic-partition" -> first answered offset; partitions that are missing have all answers.
    """

    def __init__(self, offsets: Mapping[str, int]) -> None:
        self._offsets = dict(offsets)

    def is_before(self, source: Source) -> bool:
        """Return whether a record comes before the replay's start."""
        return source.offset < self._offsets.get(f"{source.topic}-{source.partition}", 0)

    def __bool__(self) -> bool:
        return bool(self._offsets)


def write_start_offsets(folder: Path, offsets: Mapping[str, int]) -> None:
    """Write the offsets to a replay's existing folder; without offsets remove the file."""
    if offsets:
        (folder / _FILE).write_bytes(msgspec.json.encode(dict(sorted(offsets.items()))))
    else:
        (folder / _FILE).unlink(missing_ok=True)


def read_start_offsets(folder: Path) -> StartOffsets:
    """Read the offsets of a replay's folder; a folder without the file has none.

    Raises:
        InputFileError: The file is damaged.
    """
    try:
        return StartOffsets(_decode((folder / _FILE).read_bytes()))
    except FileNotFoundError:
        return StartOffsets({})
    except (OSError, msgspec.DecodeError) as err:
        raise InputFileError(f"{folder / _FILE} cannot be read ({err}). Make the replay again") from err
