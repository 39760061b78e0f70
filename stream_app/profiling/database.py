"""A private DuckDB for one run: memory is bounded, the rest spills to a temporary folder that is removed at the end.

Inputs are untrusted files, so the database loads no extension and reads no file: rows reach it from Python only, and texts are
values of parameters or of registered columns, never part of a statement.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stream_app.errors import ConfigError, InputFileError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_LIMIT: Final = "64MB"  # of one thread: three million events are sorted and grouped in 48
_SETTINGS: Final[dict[str, Any]] = {
    "memory_limit": MEMORY_LIMIT,
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}


@contextmanager
def open_database() -> Iterator[DuckDBPyConnection]:
    """Open an empty database, and remove it with its files at the end.

    Raises:
        ConfigError: DuckDB is not installed.
        InputFileError: The temporary folder cannot be made.
    """
    try:
        import duckdb
    except ImportError as err:
        raise ConfigError(
            "this command needs DuckDB: install the extra with `pip install '.[profiling]'` (`pip install 'millrace[profiling]'`)"
        ) from err
    try:
        folder = tempfile.TemporaryDirectory(prefix="millrace-profiling-")
    except OSError as err:
        raise InputFileError(f"cannot make a temporary folder: {err.strerror}; name another one in TMPDIR") from err
    with folder as path, duckdb.connect(":memory:", config={**_SETTINGS, "temp_directory": path}) as connection:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield connection


def insert(database: DuckDBPyConnection, statement: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Run an INSERT that reads the table `chunk`, whose columns are integers or texts, without None.

    Raises:
        InputFileError: The temporary folder has no room.
    """
    database.register("chunk", {name: _array(values) for name, values in columns.items()})
    rows_of_query(database, statement)
    database.unregister("chunk")


def rows_of_query(database: DuckDBPyConnection, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return all rows of a query.

    Raises:
        InputFileError: The temporary folder has no room.
    """
    import duckdb

    try:
        return database.execute(query, parameters).fetchall()
    except (duckdb.IOException, duckdb.OutOfMemoryException) as err:
        raise InputFileError(
            f"the temporary database has no room ({str(err).splitlines()[0]}): it needs about 130 bytes an event; name a folder "
            "with more room in TMPDIR"
        ) from err


def _array(values: Sequence[Any]) -> Any:  # noqa: ANN401 (of integers or of objects)
    if not values or not isinstance(values[0], str):
        return np.array(values, np.int64)
    try:
        "".join(values).encode()
    except UnicodeEncodeError:  # lone surrogates, as JSON may escape them
        values = [text.encode("utf-8", "backslashreplace").decode() for text in values]
    array = np.empty(len(values), object)
    array[:] = values
    return array
