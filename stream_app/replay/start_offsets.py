"""Start offsets of a replay that began from a snapshot, as a file in its folder; read by `millrace diff`.

They map "topic-partition" to the first answered offset; of a partition that is missing all records are answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from stream_app.errors import InputFileError
from stream_app.events import Source

_FILE: Final = "begins.json"
_decode: Final = msgspec.json.Decoder(dict[str, int]).decode


def has_answer(source: Source, offsets: Mapping[str, int]) -> bool:
    """Return whether a record comes after the replay's start."""
    return source.offset >= offsets.get(f"{source.topic}-{source.partition}", 0)


def write_start_offsets(folder: Path, offsets: Mapping[str, int]) -> None:
    """Write the offsets to a replay's existing folder; without offsets remove the file."""
    if offsets:
        (folder / _FILE).write_bytes(msgspec.json.encode(dict(sorted(offsets.items()))))
    else:
        (folder / _FILE).unlink(missing_ok=True)


def read_start_offsets(folder: Path) -> dict[str, int]:
    """Read the offsets of a replay's folder; a folder without the file has none.

    Raises:
        InputFileError: The file is damaged.
    """
    try:
        return _decode((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as err:
        raise InputFileError(f"{folder / _FILE} cannot be read ({err}). Make the replay again") from err
