"""Exact duplicates, late events and counts of identifiers over a log of any length: events wait in DuckDB, which spills to disk.

Event ids are compared by hashes of 128 bits, contents and users by hashes of 64 bits; identifiers are compared as texts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stream_app.profiling.database import insert, rows_of_query
from stream_app.profiling.findings import PLACES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CHUNK: Final = 5_000  # events in memory before they are inserted: some 5 MB of Python texts
# A placeholder may stand behind a prefix, as in `v-null`; a number behind one is an id.
_PLACEHOLDER: Final = "(^|-)(null|none|nan|unknown|undefined|n/a|na|anonymous|guest|test)$|^-1$|-$"

_CREATE: Final = """
CREATE TABLE events (number BIGINT, key UHUGEINT, content UBIGINT, user_hash UBIGINT, time_ms BIGINT);
CREATE TABLE identifiers (number BIGINT, field VARCHAR, value VARCHAR);
"""
_INSERT_EVENTS: Final = """
INSERT INTO events SELECT number, CASE WHEN key <> '' THEN md5_number(key) END, hash(content),
    CASE WHEN user <> '' THEN hash(user) END, time_ms FROM chunk
"""
_INSERT_IDENTIFIERS: Final = "INSERT INTO identifiers SELECT number, field, value FROM chunk"
# Queries of places return (number, second number, count of all, ...), the lowest numbers first, at most $1.
_LATE: Final = """
WITH late AS (
    SELECT number, newest_ms - time_ms AS late_ms FROM (
        SELECT number, time_ms, max(time_ms) OVER of_user AS newest_ms
        FROM events WHERE user_hash IS NOT NULL
        WINDOW of_user AS (PARTITION BY user_hash ORDER BY number, time_ms ROWS UNBOUNDED PRECEDING))
    WHERE late_ms > $2)
SELECT number, late_ms, count(*) OVER (), max(late_ms) OVER () FROM late ORDER BY number LIMIT $1
"""
# One row may become several events: `rowid` tells them apart, and ascends as `number` does.
_CONTENTS: Final = """
CREATE OR REPLACE TEMP TABLE contents AS
SELECT *, min(row) OVER (PARTITION BY key) AS key_row, min(first) OVER (PARTITION BY key) AS key_first FROM (
    SELECT key, content, min(rowid) AS row, min(number) AS first, count(*) AS events FROM events
    WHERE key IN (SELECT key FROM events WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1) GROUP BY key, content)
"""
_REPEATED: Final = """
SELECT number, first, (SELECT sum(events - 1)::BIGINT FROM contents)
FROM events JOIN contents ON events.key = contents.key AND events.content = contents.content AND events.rowid > row
ORDER BY events.rowid LIMIT $1
"""
_REUSED: Final = """
SELECT first, key_first, count(*) OVER () FROM contents WHERE row > key_row ORDER BY row LIMIT $1
"""
_IDENTIFIERS: Final = """
SELECT field, count(*), sum(events)::BIGINT, arg_min(value, row(-events, first)), max(events) FROM (
    SELECT field, value, count(*) AS events, min(rowid) AS first FROM identifiers GROUP BY field, value)
GROUP BY field ORDER BY min(first)
"""
_PLACEHOLDERS: Final = """
SELECT field, number, count(*) OVER (PARTITION BY field) FROM identifiers WHERE regexp_matches(value, $2, 'i')
QUALIFY row_number() OVER (PARTITION BY field ORDER BY number) <= $1 ORDER BY field, number
"""


class Matches(NamedTuple):
    """Number of matching events, and the first of them as (number, second figure of the method)."""

    total: int
    first: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class IdentifierUse:
    """Identifiers of one field: different values, events that have one, the most frequent value and its events."""

    distinct: int
    events: int
    most_frequent: str
    most_events: int

    @property
    def top_share(self) -> float:
        """Share of the events that have the most frequent value."""
        return self.most_events / self.events


class EventIndex:
    """Events by key, by user and by identifier, in an empty database from `open_database`."""

    def __init__(self, database: DuckDBPyConnection) -> None:
        self._database = database
        self._events: dict[str, list[Any]] = defaultdict(list)
        self._identifiers: dict[str, list[Any]] = defaultdict(list)
        database.execute(_CREATE)

    def add(self, number: int, key: str, content: str, user: str, time_ms: int, identifiers: dict[str, str]) -> None:
        """Add an event.

        Args:
            number: Position in the file; ascends.
            key: Topic and id; empty: the event is not checked for duplicates.
            content: Distinguishes events with the same key.
            user: User id; empty: the event is not checked for lateness.
            time_ms: Event time.
            identifiers: Identifiers by field; empty texts are left out.

        Raises:
            InputFileError: The temporary folder has no room.
        """
        for name, value in (("number", number), ("key", key), ("content", content), ("user", user), ("time_ms", time_ms)):
            self._events[name].append(value)
        for field, value in identifiers.items():
            if value:
                self._identifiers["number"].append(number)
                self._identifiers["field"].append(field)
                self._identifiers["value"].append(value)
        if len(self._events["number"]) >= _CHUNK:
            self._flush()

    def late_events(self, allowed_lateness_ms: int) -> tuple[Matches, int]:
        """Return events older than an earlier event of their user by more than the allowed lateness.

        Returns:
            The events as (number, lateness in ms), and the greatest lateness in ms.
        """
        rows = self._query(_LATE, PLACES, allowed_lateness_ms)
        return _matches(rows), rows[0][3] if rows else 0

    def repeats(self) -> tuple[Matches, Matches]:
        """Return events with the key and the content of an earlier one, and first events of a content with another one's key.

        Both as (number, number of the first such event).
        """
        self._query(_CONTENTS)
        return _matches(self._query(_REPEATED, PLACES)), _matches(self._query(_REUSED, PLACES))

    def identifiers(self) -> dict[str, IdentifierUse]:
        """Return how the identifiers of each field are used, in order of appearance."""
        return {field: IdentifierUse(*rest) for field, *rest in self._query(_IDENTIFIERS)}

    def placeholders(self) -> dict[str, Matches]:
        """Return by field the events whose identifier is a placeholder such as "unknown", as (number, 0)."""
        matches: dict[str, Matches] = {}
        for field, number, count in self._query(_PLACEHOLDERS, PLACES, _PLACEHOLDER):
            matches.setdefault(field, Matches(count, [])).first.append((number, 0))
        return matches

    def _query(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        self._flush()
        return rows_of_query(self._database, query, parameters)

    def _flush(self) -> None:
        for statement, columns in ((_INSERT_EVENTS, self._events), (_INSERT_IDENTIFIERS, self._identifiers)):
            if columns:
                insert(self._database, statement, columns)
                columns.clear()


def _matches(rows: list[tuple[Any, ...]]) -> Matches:
    return Matches(rows[0][2] if rows else 0, [(number, second) for number, second, *_ in rows])
