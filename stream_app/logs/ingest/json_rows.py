"""Read the rows of a file of JSON lines, plain or compressed: the values that a mapping names, nested ones by dotted names.

Each non-blank line is a row. Lines may have different fields; a missing field is None, as null is. A line that is not a JSON
object becomes a BadRow. A truncated file yields its rows up to the cut, then raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from stream_app.errors import InputFileError
from stream_app.logs.compression import DAMAGE, decompressed
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.ingest.rows import BadRow, TextRows
from stream_app.logs.ingest.rules import Cells, value_at

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_FIRST_LINES: Final = 100  # a file without an object in its first hundred lines is not a log of JSON lines
_EXCERPT_BYTES: Final = 500
_LISTED_NAMES: Final = 30

_decode: Final = msgspec.json.Decoder().decode


class JsonRows(TextRows):
    """Rows of JSON lines: tuples of the values of the used fields, None where a line has no value."""

    def __init__(self, path: Path, mapping: LogMapping, used: Sequence[str]) -> None:
        super().__init__(path)
        self._paths = [(name, name.split(".")) for name in used]
        self._never_filled = dict.fromkeys(used)
        self.index = {name: place for place, name in enumerate(used)}
        try:
            self._check_beginning(mapping)
        except InputFileError:
            self._raw.close()
            raise

    def never_filled(self) -> list[str]:
        """Return the used fields without a value in any row so far."""
        return list(self._never_filled)

    def _checked(self) -> Iterator[Cells | BadRow | InputFileError]:
        try:
            for text in _lines(self._raw):
                self._rows += 1
                row = _object_in(text)
                yield row if isinstance(row, BadRow) else self._cells(row)
        except DAMAGE as err:
            yield self._damage(err)

    def _cells(self, row: dict[str, Any]) -> Cells:
        cells = tuple(value_at(row, name, path) for name, path in self._paths)
        if self._never_filled:
            for name in [name for name in self._never_filled if cells[self.index[name]] is not None]:
                del self._never_filled[name]
        return cells

    def _check_beginning(self, mapping: LogMapping) -> None:
        """Refuse files that are not JSON lines, and lines that have none of the fields that the mapping uses."""
        first: list[dict[str, Any] | BadRow] = []
        try:
            first.extend(map(_object_in, islice(_lines(self._raw), _FIRST_LINES)))
        except DAMAGE as err:
            if not first:
                raise self._damage(err) from err
        self._raw.seek(0)
        objects = [row for row in first if not isinstance(row, BadRow)]
        if not objects:
            wrong = next((f"; the first is {bad.text[:60]!r}" for bad in first if isinstance(bad, BadRow)), "")
            raise InputFileError(
                f"{self._path}: none of its first {len(first)} lines is a JSON object{wrong}. The mapping {mapping.origin} reads "
                "one object a line: of a list, or of objects over several lines, `jq -c` makes such lines"
            )
        if not any(value_at(row, name, path) is not None for row in objects for name, path in self._paths):
            names = list(dict.fromkeys(name for row in objects for name in _names_in(row)))[:_LISTED_NAMES]
            raise InputFileError(
                f"{self._path}: its first {len(first)} lines have none of the fields {', '.join(self.index)} that the mapping "
                f"{mapping.origin} uses; they have {', '.join(names)}. Correct the mapping"
            )


def _lines(raw: BinaryIO) -> Iterator[bytes]:
    """Yield the non-blank lines, without a byte-order mark."""
    for number, line in enumerate(decompressed(raw)):
        text = line if number else line.removeprefix(_BYTE_ORDER_MARK)
        if not text.isspace():
            yield text


def _object_in(text: bytes) -> dict[str, Any] | BadRow:
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        return BadRow(f"not JSON: {err}", _excerpt(text))
    except RecursionError:
        return BadRow("the JSON is nested too deeply", _excerpt(text))
    return value if isinstance(value, dict) else BadRow(f"no JSON object, but a {type(value).__name__}", _excerpt(text))


def _excerpt(text: bytes) -> str:
    return text[:_EXCERPT_BYTES].decode(errors="replace").rstrip()


def _names_in(row: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _names_in(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"
