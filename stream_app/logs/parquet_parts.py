"""Write a table as a folder of Parquet files with equal numbers of rows; writing resumes at a checkpoint.

The files are `part-00000.parquet` and on. Their bytes do not depend on the batches in which rows arrive, nor on kills in between.
At a checkpoint the rows of the unfinished part go to a file beside the parts. Files with other names stay untouched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from model.atomic_file import atomic_write
from stream_app.errors import ConfigError

PART_ROWS: Final = 1 << 15
_PENDING: Final = "pending.arrow"
_PART: Final = re.compile(r"part-(\d{5,})\.parquet")  # Spark names its own parts part-00000-<uuid>.snappy.parquet


def arrow() -> Any:  # noqa: ANN401 (a module)
    """Return pyarrow.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as err:
        raise ConfigError("Parquet is written with pyarrow: install the extra with `pip install 'millrace[data]'`") from err
    return pa


def parts_in(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield number and path of the parts in a folder, unordered."""
    for path in folder.iterdir():
        match = _PART.fullmatch(path.name)
        if match is not None:
            yield int(match[1]), path


class ParquetParts:
    """Writes the parts of one table.

    Args:
        folder: Created when needed.
        resume_at: A result of `flush`; None starts anew and removes the parts of an earlier run.
        schema: With a schema, a table without rows is written as one empty part; without, as no part.
        rows: Rows per part.

    Raises:
        ConfigError: pyarrow is not installed, the folder cannot be written, or a part is missing.
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
        self._pending_name = ""
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
        """Append rows; all tables must have the same schema."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        while self._waiting_rows >= self._rows:
            rows = self._pa.concat_tables(self._waiting)
            self._write_part(rows.slice(0, self._rows))
            self._waiting = [rows.slice(self._rows)]
            self._waiting_rows -= self._rows

    def flush(self) -> dict[str, int]:
        """Write all rows to disk, those of the unfinished part to a pending file; return the position for `resume_at`."""
        name = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        if name != self._pending_name:  # otherwise no row has come since, and the last checkpoint needs that file
            self._write_pending(name)
        for path in self._folder.glob(f"{_PENDING}.*"):
            if path.name not in (name, self._pending_name):  # the previous file is needed until the new checkpoint is written
                path.unlink()
        self._pending_name = name
        return {"parts": self._parts, "waiting": self._waiting_rows}

    def _write_pending(self, name: str) -> None:
        with atomic_write(self._folder / name) as file:
            if self._waiting:
                whole = self._pa.concat_tables(self._waiting).combine_chunks()
                with self._pa.ipc.new_file(file, whole.schema) as writer:
                    writer.write_table(whole)
                self._waiting = [whole]

    def finish(self) -> None:
        """Write the last part, which may be shorter; call `tidy` once no checkpoint needs the pending file."""
        if self._waiting_rows:
            self._write_part(self._pa.concat_tables(self._waiting))
        elif not self._parts and self._schema is not None:
            self._write_part(self._schema.empty_table())
        self._waiting, self._waiting_rows = [], 0

    def tidy(self) -> None:
        """Remove pending files."""
        for path in self._folder.glob(f"{_PENDING}.*"):
            path.unlink()

    def _resume(self, resume_at: Mapping[str, int]) -> None:
        self._parts, self._waiting_rows = resume_at["parts"], resume_at["waiting"]
        self._pending_name = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        pending = self._folder / self._pending_name
        if not {number for number, _ in parts_in(self._folder)} >= set(range(self._parts)) or not pending.exists():
            raise ConfigError(f"{self._folder} lacks parts that its checkpoint names. Begin anew with --restart")
        if self._waiting_rows:
            try:
                with self._pa.ipc.open_file(pending.read_bytes()) as reader:
                    self._waiting = [reader.read_all()]
            except self._pa.ArrowException as err:
                raise ConfigError(f"{pending} is damaged ({err}). Begin anew with --restart") from err
            rows = self._waiting[0].num_rows
            if rows != self._waiting_rows:
                raise ConfigError(f"{pending} has {rows} rows, its checkpoint {self._waiting_rows}. Begin anew with --restart")

    def _write_part(self, table: Any) -> None:  # noqa: ANN401 (a pyarrow table)
        from pyarrow import parquet

        path = self._folder / f"part-{self._parts:05}.parquet"
        parquet.write_table(table.combine_chunks(), path, compression="zstd", row_group_size=self._rows)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        self._parts += 1
