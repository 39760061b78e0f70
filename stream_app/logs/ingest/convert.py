"""Convert one row to its records by a mapping, or refuse the whole row with a reason.

Each record passes the worker's own check: its bytes are decoded by the type of the topic before they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from stream_app.errors import InvalidEventError
from stream_app.logs.ingest.fields import TARGETS
from stream_app.logs.ingest.mapping import LogMapping, RecordMapping
from stream_app.logs.ingest.rules import Cells, Rule, rule_from_spec, text_of

_encode: Final = msgspec.json.Encoder().encode
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Produced(NamedTuple):
    """One record of a row. `time_ms` is the event time, or the time at which a label became known."""

    topic: str
    key: bytes
    value: bytes
    time_ms: int


class Converter:
    """Converts rows of one file.

    Args:
        mapping: The mapping.
        index: Column -> position in a row's cells, for all columns that the mapping uses.
        file_stem: The file's name without suffix, for `{file}` in templates.
    """

    def __init__(self, mapping: LogMapping, index: dict[str, int], file_stem: str) -> None:
        file = _NOT_IN_ID.sub("-", file_stem)[:64]
        self._skip_unmatched = mapping.skip_unmatched
        self._records = [_Record(record, index, file) for record in mapping.records]

    def convert(self, cells: Cells, row: int) -> list[Produced]:
        """Return the row's records; an empty list for an unmatched row that the mapping skips.

        Raises:
            InvalidEventError: The row is refused; the message is the reason.
        """
        produced = [record.convert(cells, row) for record in self._records if record.takes(cells)]
        if not produced and not self._skip_unmatched:
            raise InvalidEventError('no record of the mapping takes this row (unmatched = "skip" passes such rows over)')
        return produced


class _Record:
    def __init__(self, record: RecordMapping, index: dict[str, int], file: str) -> None:
        kind = TARGETS[record.topic]
        self._topic = record.topic
        self._kind = kind
        self._where = [(index[column], values) for column, values in record.where.items()]
        self._rules: list[tuple[str, Rule]] = [(name, rule_from_spec(spec, index, file)) for name, spec in record.fields.items()]
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self._is_label = record.topic == "labels"

    def takes(self, cells: Cells) -> bool:
        """Whether this record of the mapping applies to the row."""
        return all(text_of(cells[place]) in values for place, values in self._where)

    def convert(self, cells: Cells, row: int) -> Produced:
        fields = {name: rule(cells, row) for name, rule in self._rules}
        try:
            # Texts of a CSV become numbers where the type has numbers; the check then decodes the encoded bytes.
            value = _encode(msgspec.convert(fields, self._kind, strict=False))
            event = self._decode(value)
        except msgspec.ValidationError as err:
            raise InvalidEventError(f"{self._topic}: {err}") from err
        except UnicodeEncodeError as err:
            raise InvalidEventError(f"{self._topic}: a text is not in the file's encoding") from err
        time_ms = event.label_time_ms if self._is_label else event.event_time_ms
        return Produced(self._topic, event.user.encode(), value, time_ms)
