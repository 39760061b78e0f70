"""The last interactions and the last queries of a user: two rings in order of arrival, as the model reads them.

    [ events so far | 32 x (time_ms + 1, item, category, kind + 1, price bucket, event hash, commit) ]
    [ queries so far | 4 x (time_ms + 1, query, word, word, word) ]

An event whose hash and time are among the 32 is a duplicate from its producer; the commit number is that of the step that applied
the first one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream_app.features.jit import Int, Real, inlined

# Literals, so that the compiler can unroll; the engine checks that they agree with model.contract.
SEQUENCE: Final = 32
CODES: Final = 4
QUERIES: Final = 4
QUERY_CODES: Final = 4
ENTRY: Final = 7
QUERY_ENTRY: Final = 5
_EVENT, _COMMIT = 5, 6


@inlined
def find_event(row: NDArray[np.int64], start: Int, event: Int, t: Int) -> Int:
    """Return the commit number that applied the event of this hash and time; -1 if it is not among the last ones."""
    total = row[start]
    if event == 0:
        return np.int64(-1)
    for back in range(1, min(total, np.int64(SEQUENCE)) + 1):
        entry = start + 1 + ((total - back) % SEQUENCE) * ENTRY
        if row[entry + _EVENT] == event and row[entry] == t + 1:
            return np.int64(row[entry + _COMMIT])
    return np.int64(-1)


@inlined
def seconds_since(stored: Int, t: Int) -> Real:
    """Return the seconds from a stored time (ms + 1) until t, not below 0."""
    return np.float64(t + 1 - stored if t + 1 > stored else 0) / 1000.0


@inlined
def read_interactions(row: NDArray[np.int64], start: Int, t: Int, ids: NDArray[np.int32], gaps: NDArray[np.float32]) -> None:
    """Write the last interactions, oldest first and right-aligned: ids (32, 4), gaps (32,) in seconds, not below 0."""
    total = row[start]
    for back in range(1, min(total, np.int64(SEQUENCE)) + 1):
        entry = start + 1 + ((total - back) % SEQUENCE) * ENTRY
        to = SEQUENCE - back
        for c in range(CODES):
            ids[to, c] = row[entry + 1 + c]
        gaps[to] = seconds_since(row[entry], t)


@inlined
def add_interaction(row: NDArray[np.int64], start: Int, t: Int, ids: NDArray[np.int32], event: Int, commit: Int) -> None:
    """Append one interaction; ids (4,)."""
    entry = start + 1 + (row[start] % SEQUENCE) * ENTRY
    row[entry] = t + 1
    for c in range(CODES):
        row[entry + 1 + c] = ids[c]
    row[entry + _EVENT] = event
    row[entry + _COMMIT] = commit
    row[start] += 1


@inlined
def read_queries(row: NDArray[np.int64], start: Int, t: Int, ids: NDArray[np.int32], gaps: NDArray[np.float32]) -> None:
    """Write the last queries, oldest first and right-aligned: ids (4, 4), gaps (4,) in seconds, not below 0."""
    total = row[start]
    for back in range(1, min(total, np.int64(QUERIES)) + 1):
        entry = start + 1 + ((total - back) % QUERIES) * QUERY_ENTRY
        to = QUERIES - back
        for c in range(QUERY_CODES):
            ids[to, c] = row[entry + 1 + c]
        gaps[to] = seconds_since(row[entry], t)


@inlined
def add_query(row: NDArray[np.int64], start: Int, t: Int, codes: NDArray[np.int32]) -> None:
    """Append one query; codes (4,), of which the first is 0 for no query."""
    if codes[0] == 0:
        return
    entry = start + 1 + (row[start] % QUERIES) * QUERY_ENTRY
    row[entry] = t + 1
    for c in range(QUERY_CODES):
        row[entry + 1 + c] = codes[c]
    row[start] += 1
