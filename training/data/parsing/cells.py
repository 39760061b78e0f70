"""Convert cells to numbers and times. A cell that cannot be converted is an error with its place; none is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import InputFileError
from training.data.parsing.columns import TableColumns

_SECONDS_BELOW: Final = 100_000_000_000  # as milliseconds that is March 1973


def numbers_of(columns: TableColumns, column: str, missing: Sequence[str]) -> NDArray[np.float64]:
    """Return a column's (N,) numbers, NaN where missing; true and false are 1 and 0.

    Raises:
        InputFileError: A cell is no number.
    """
    known = {**dict.fromkeys(missing, np.nan), "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0}
    values = np.empty(len(columns))
    for row, text in enumerate(columns[column]):
        try:
            values[row] = known[text] if text in known else float(text)
        except ValueError as err:
            raise InputFileError(
                f"{columns.where(row, column)}: {text!r} is no number. Declare the column as categorical, "
                "or the text as missing, in [source]"
            ) from err
    return values


def times_of(columns: TableColumns, column: str) -> NDArray[np.int64]:
    """Return (N,) int64 milliseconds since 1970 UTC; zeros for column "".

    Raises:
        InputFileError: A cell is no time.
    """
    if not column:
        return np.zeros(len(columns), np.int64)
    values = np.empty(len(columns), np.int64)
    for row, text in enumerate(columns[column]):
        try:
            values[row] = _time_ms(text)
        except ValueError as err:
            raise InputFileError(
                f"{columns.where(row, column)}: {text!r} is no time: neither a number of seconds or milliseconds nor ISO 8601. "
                "Name another column as time in [source]"
            ) from err
    return values


def _time_ms(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    return int(number * 1_000) if abs(number) < _SECONDS_BELOW else int(number)
