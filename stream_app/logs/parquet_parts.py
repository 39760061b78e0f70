"""A table as a folder of Parquet files of equally many rows, written bit by bit; it goes on where a checkpoint says.

Files are `part-00000.parquet` and on, the same bytes wherever the rows came in batches, or the writer was killed in between. The
rows of the part that is not full are set aside at a checkpoint, beside the parts; files of other names stay as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stream_app.errors import ConfigError

__all__ = ["PART_ROWS", "ParquetParts", "arrow", "parts_in"]

PART_ROWS: Final = 1 << 15
_PENDING: Final = "pending.arrow"
_PART: Final = re.compile(r"part-(\d{5,})\.parquet")  # others' data sets have names like part-00000-<uuid>.snappy.parquet


def arrow() -> Any:  # noqa: ANN401 (a module)
    """Return pyarrow.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as err:
        raise ConfigError("Parquet is written with pyarrow: install the extra with `pip install 'millrace[data]'`") from err
    return pa


def parts_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield number and path of the parts that a folder has, in no order."""
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match is not None:
            yield int(match[1]), path


class ParquetParts:
    """Writes the parts of one table.

    Args:
        folder: Made when needed.
        resume_at: What `flush` returned; None begins anew, and removes parts of an earlier run.
        schema: If given, a table without rows is one part without rows; else it is no part.
        rows: Of a part.

    Raises:
        ConfigError: pyarrow is not installed, or the folder cannot be written or lacks a part.
    """

    def __init__(
        self,
        folder: Path,
        resume_at: Mapping[str, int] | None = None,
        schema: Any = None,  # noqa: ANN401 (a pyarrow schema)
        rows: int = PART_ROWS,
    ) -> None:
        self._pa = arrow()
        self._folder, self._schema, self._rows = folder, schema, rows
        self._waiting: list[Any] = []
        self._waiting_rows = self._parts = 0
        self._set_aside = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if resume_at is not None:
                self._resume(resume_at)
            for number, path in list(parts_in(folder)):
                if number >= self._parts:
                    path.unlink()
        except OSError as err:
            raise ConfigError(f"cannot write to {folder}: {err.strerror}. Name a folder that can be written") from err

    def append(self, table: Any) -> None:  # noqa: ANN401 (a pyarrow table)
        """Append rows; all tables have one schema."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        while self._waiting_rows >= self._rows:
            whole = self._pa.concat_tables(self._waiting)
            self._write_part(whole.slice(0, self._rows))
            self._waiting = [whole.slice(self._rows)]
            self._waiting_rows -= self._rows

    def flush(self) -> dict[str, int]:
        """Put everything on the disk, the rows of the part that is not full aside; return where the folder stands."""
        name = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        if name != self._set_aside:  # else no row has come since, and the last checkpoint needs that file as it is
            self._put_aside(name)
        for path in self._folder.glob(f"{_PENDING}.*"):
            if path.name not in (name, self._set_aside):  # the last one counts until this one's checkpoint is written
                path.unlink()
        self._set_aside = name
        return {"parts": self._parts, "waiting": self._waiting_rows}

    def _put_aside(self, name: str) -> None:
        unfinished = self._folder / f"{_PENDING}.tmp"
        with unfinished.open("wb") as file:
            if self._waiting:
                whole = self._pa.concat_tables(self._waiting).combine_chunks()
                with self._pa.ipc.new_file(file, whole.schema) as writer:
                    writer.write_table(whole)
                self._waiting = [whole]
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._folder / name)

    def finish(self) -> None:
        """Write the last part, which may be shorter; `tidy` is to follow when no checkpoint needs what was set aside."""
        if self._waiting_rows:
            self._write_part(self._pa.concat_tables(self._waiting))
        elif not self._parts and self._schema is not None:
            self._write_part(self._schema.empty_table())
        self._waiting, self._waiting_rows = [], 0

    def tidy(self) -> None:
        """Remove what was set aside."""
        for path in self._folder.glob(f"{_PENDING}.*"):
            path.unlink()

    def _resume(self, resume_at: Mapping[str, int]) -> None:
        self._parts, self._waiting_rows = resume_at["parts"], resume_at["waiting"]
        self._set_aside = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        pending = self._folder / self._set_aside
        if not {number for number, _ in parts_in(self._folder)} >= set(range(self._parts)) or not pending.exists():
            raise ConfigError(f"{self._folder} lacks parts that its checkpoint names. Begin anew with --restart")
        if self._waiting_rows:
            try:
                with self._pa.ipc.open_file(pending.read_bytes()) as reader:
                    self._waiting = [reader.read_all()]
            except self._pa.ArrowException as err:
                raise ConfigError(f"{pending} is damaged ({err}). Begin anew with --restart") from err
            found = self._waiting[0].num_rows
            if found != self._waiting_rows:
                raise ConfigError(f"{pending} has {found} rows, its checkpoint {self._waiting_rows}. Begin anew with --restart")

    def _write_part(self, table: Any) -> None:  # noqa: ANN401 (a pyarrow table)
        from pyarrow import parquet

        path = self._folder / f"part-{self._parts:05}.parquet"
        parquet.write_table(table.combine_chunks(), path, compression="zstd", row_group_size=self._rows)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        self._parts += 1
