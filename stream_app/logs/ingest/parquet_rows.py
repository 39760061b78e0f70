"""Read the used columns of a Parquet file by row groups.

Timestamps and dates become epoch milliseconds. A timestamp without a zone is read as UTC; `time_zone` in the mapping corrects it.
pyarrow is an extra; without it the error says how to install it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stream_app.errors import ConfigError, InputFileError
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.ingest.rows import BadRow, RowSource, check_columns
from stream_app.logs.ingest.rules import Cells


class ParquetRows(RowSource):
    """Rows of a Parquet file: tuples of the values of the used columns, None for nulls."""

    def __init__(self, path: Path, mapping: LogMapping, used: list[str]) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as err:
            raise ConfigError(
                f"{path} is a Parquet file, and reading it needs pyarrow: install the extra with `pip install 'millrace[data]'`"
            ) from err
        self._path = path
        try:
            self._file: Any = parquet.ParquetFile(path)
        except (pa.ArrowException, OSError) as err:
            raise InputFileError(f"{path} is no readable Parquet file: {err}. Was it cut off? Get it again") from err
        self._arrow_errors = (pa.ArrowException, OSError)
        self._pa = pa
        columns = list(self._file.schema_arrow.names)
        try:
            check_columns(path, mapping, used, columns)
        except InputFileError:
            self._file.close()
            raise
        self._used = used
        self._rows = 0
        self.index = {column: place for place, column in enumerate(used)}
        self.total_rows: int = self._file.metadata.num_rows

    def done_ratio(self) -> float:
        """Return the share of the rows that has been read."""
        return self._rows / self.total_rows if self.total_rows else 1.0

    def row_groups(self) -> Iterator[int]:
        """Yield the row number at which each row group ends; reading can start there without reading earlier groups."""
        rows = 0
        for group in range(self._file.metadata.num_row_groups):
            rows += self._file.metadata.row_group(group).num_rows
            yield rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self, skip: int, size: int) -> Iterator[list[Cells | BadRow]]:
        """Yield all rows after the first `skip`, at most `size` at a time, without reading row groups that end before."""
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if self._rows + rows <= skip:
                self._rows += rows
                continue
            for batch in self._batches(group, size):
                values = self._values(batch)
                first = max(0, skip - self._rows)
                self._rows += len(values)
                if first < len(values):
                    yield values[first:]

    def _batches(self, group: int, size: int) -> Iterator[Any]:
        try:
            yield from self._file.iter_batches(batch_size=size, row_groups=[group], columns=self._used, use_threads=False)
        except self._arrow_errors as err:
            raise InputFileError(
                f"{self._path}: cannot be read after row {self._rows} (row group {group}): {err}. Get the file again"
            ) from err

    def _values(self, batch: Any) -> list[Cells | BadRow]:  # noqa: ANN401 (a pyarrow record batch)
        columns = []
        for name in self._used:
            column = batch.column(batch.schema.get_field_index(name))
            if self._pa.types.is_temporal(column.type) and not self._pa.types.is_duration(column.type):
                column = column.cast(self._pa.timestamp("ms"), safe=False).cast(self._pa.int64())
            columns.append(column.to_pylist())
        return list(zip(*columns, strict=True))
