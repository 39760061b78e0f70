"""The rows that were refused: counted by reason, with the first row numbers, and written down one by one if a file is named.

Reasons are bounded: a file that is wrong in a thousand ways must not fill the memory or the summary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.errors import ConfigError

__all__ = ["Refusals"]

_MOST_REASONS: Final = 50
_FIRST_ROWS: Final = 5
_OTHER: Final = "other reasons (see the file of --refused)"


class Refusals:
    """Counts refused rows.

    Args:
        by_reason: What an interrupted run had counted.
        path: File of JSON lines `{"row", "reason", "cells"}`; None: none.
        resume_at: Bytes of that file that belong to the interrupted run; None starts it anew.
    """

    def __init__(
        self, by_reason: dict[str, dict[str, Any]] | None = None, path: Path | None = None, resume_at: int | None = None
    ) -> None:
        self.by_reason: dict[str, dict[str, Any]] = dict(by_reason or {})
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._file = None
        if path is not None:
            going_on = resume_at is not None and path.exists()
            try:
                self._file = path.open("r+b" if going_on else "wb")
            except OSError as err:
                raise ConfigError(f"cannot write {path}: {err.strerror}. Name a file in a folder that exists") from err
            if going_on:
                self._file.seek(resume_at or 0)
                self._file.truncate()

    @property
    def count(self) -> int:
        """How many rows were refused."""
        return sum(entry["count"] for entry in self.by_reason.values())

    def add(self, row: int, reason: str, cells: object) -> None:
        """Count one row."""
        known = reason if reason in self.by_reason or len(self.by_reason) < _MOST_REASONS else _OTHER
        entry = self.by_reason.setdefault(known, {"count": 0, "first_rows": []})
        entry["count"] += 1
        if len(entry["first_rows"]) < _FIRST_ROWS:
            entry["first_rows"].append(row)
        if self._file is not None:
            shown = (
                [str(cell).encode("utf-8", "replace").decode() for cell in cells]
                if isinstance(cells, list | tuple)
                else str(cells)
            )
            self._file.write(self._encode({"row": row, "reason": reason, "cells": shown}) + b"\n")

    def flush(self) -> int:
        """Write what is buffered; return the file's length in bytes (0 without one)."""
        if self._file is None:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
