"""Count refused rows by reason, with their first row numbers; write each to a file if one is named.

The number of reasons is bounded: a file with a thousand kinds of errors must not fill memory or the summary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from stream_app.errors import ConfigError

_MOST_REASONS: Final = 50
_FIRST_ROWS: Final = 5
_OTHER: Final = "other reasons (see the file of --refused)"


class Refusals:
    """Counts refused rows.

    Args:
        by_reason: Counts of an interrupted run.
        path: File of JSON lines `{"row", "reason", "cells"}`; None: no file.
        resume_at: Length of that file in bytes at the interruption; None starts a new file.
    """

    def __init__(
        self, by_reason: dict[str, dict[str, Any]] | None = None, path: Path | None = None, resume_at: int | None = None
    ) -> None:
        self.by_reason: dict[str, dict[str, Any]] = dict(by_reason or {})
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._file = None
        if path is not None:
            resumes = resume_at is not None and path.exists()
            try:
                self._file = path.open("r+b" if resumes else "wb")
            except OSError as err:
                raise ConfigError(f"cannot write {path}: {err.strerror}. Name a file in a folder that exists") from err
            if resumes:
                self._file.seek(resume_at or 0)
                self._file.truncate()

    @property
    def count(self) -> int:
        """Number of refused rows."""
        return sum(entry["count"] for entry in self.by_reason.values())

    def add(self, row: int, reason: str, cells: object) -> None:
        """Count one row."""
        label = reason if reason in self.by_reason or len(self.by_reason) < _MOST_REASONS else _OTHER
        entry = self.by_reason.setdefault(label, {"count": 0, "first_rows": []})
        entry["count"] += 1
        if len(entry["first_rows"]) < _FIRST_ROWS:
            entry["first_rows"].append(row)
        if self._file is not None:
            texts = (
                [str(cell).encode("utf-8", "replace").decode() for cell in cells]
                if isinstance(cells, list | tuple)
                else str(cells)
            )
            self._file.write(self._encode({"row": row, "reason": reason, "cells": texts}) + b"\n")

    def flush(self) -> int:
        """Flush the file; return its length in bytes (0 without a file)."""
        if self._file is None:
            return 0
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
