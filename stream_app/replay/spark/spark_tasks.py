"""The steps of a replay on Spark's executors; each works on the rows of one partition, sorted as in `spark_replay`.

    read      a part of a file      -> records
    prepare   records in log order  -> the same records, numbered, and the columns of those that are events
    users     events user by user   -> their features, lateness, repetition
    kinds     events entity by entity of the shared kinds -> their features
    answer    records in log order with their features    -> finished batches

Rows are Arrow record batches. An executor process builds engine and pipeline once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import LatenessFlags
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_files import LogFile
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_records import LABELS, LogRecord
from stream_app.logs.log_source import LogChunk, chunks_of
from stream_app.replay.canonical import CanonicalReplay, ReplayBatch
from stream_app.replay.parallel.partitioning import KindFeatures, UserFeatures, fold_kind, fold_users, join, user_kinds
from stream_app.replay.spark.spark_fold import GroupedFold
from stream_app.replay.spark.spark_rows import (
    columns_from,
    kind_features_from,
    packed_columns,
    packed_kind,
    packed_users,
    user_features_from,
)
from stream_app.wiring import build_engine

Batches = Iterable[Any]  # pyarrow record batches

# Schemas of the steps' results, in Spark's notation.
READ: Final = "time_ms long, file int, row long, number int, record binary, problems binary"
_KEYS: Final = "key_"  # before a kind's name: its entity's digest, empty for none
FEATURES: Final = "part int, at long, kind string, late_by_ms long, duplicate_of long, features binary"
ANSWERS: Final = "part int, number int, batch binary"
_END_MS: Final = 1 << 60
_ROWS: Final = 2_048  # folded at once: a row of a user's state is 10 kB

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(LogRecord).decode


def prepared_schema(kinds: Iterable[str]) -> str:
    """Return the schema of prepared records for these entity kinds."""
    return "part int, seq long, at long, record binary, columns binary, " + ", ".join(f"{_KEYS}{kind} binary" for kind in kinds)


@cache
def _engine(settings: bytes) -> FeatureEngine:
    engine = build_engine(pickle.loads(settings))  # noqa: S301 (the driver made it)
    engine.warm()
    return engine


@cache
def _replay(settings: bytes) -> CanonicalReplay:
    """Return the pipeline of this executor process, built once."""
    return CanonicalReplay(pickle.loads(settings), _engine(settings))  # noqa: S301 (the driver made it)


@dataclass(frozen=True)
class ReplayTask:
    """The steps of one replay; sent to the executors.

    Attributes:
        settings: Pickled.
        files: Files of the log, by number; at the same path on every executor.
        mapping: How rows become events; None: JSON lines.
        size: Records of a batch.
        kinds: The shared kinds.
        partition: Returns the number of the current partition.
    """

    settings: bytes
    files: dict[int, str]
    mapping: LogMapping | None
    size: int
    kinds: tuple[str, ...]
    partition: Callable[[], int]

    # --- read --------------------------------------------------------------------------------------------------------------

    def read(self, batches: Batches) -> Iterator[Any]:
        """Read parts of files: rows of (file, first, last)."""
        for batch in batches:
            for part in batch.to_pylist():
                yield from self._read(part["file"], part["first"], part["last"])

    def _read(self, number: int, first: int, last: int) -> Iterator[Any]:
        problems = LogIssues()
        records = LogFile(Path(self.files[number]), number, self.mapping, problems).records((first, last))
        for chunk in _chunked(records, 10 * _ROWS):
            yield _table(
                READ,
                [r.time_ms for r in chunk], [r.place[0] for r in chunk], [r.place[1] for r in chunk],
                [r.place[2] for r in chunk], [_encode(r) for r in chunk], [None] * len(chunk),
            )  # fmt: skip
        if problems.by_reason:
            yield _table(READ, [-1], [number], [0], [0], [None], [pickle.dumps(problems.by_reason)])

    # --- prepare --------------------------------------------------------------------------------------------------------------

    def prepare(self, batches: Batches) -> Iterator[Any]:
        """Decode records. `at` is an event's index in the partition; other records have the index of the next event."""
        part, seq, at = self.partition(), 0, 0
        schema = prepared_schema(_engine(self.settings).widths())
        replay = _replay(self.settings)
        for batch in batches:
            for encoded in _chunked(batch.column(batch.schema.get_field_index("record")).to_pylist(), self.size):
                columns = self._decode_records(replay, encoded, (part, seq, at))
                seq += len(encoded)
                at += sum(packed is not None for packed in columns[4])
                yield _table(schema, *columns)

    def _decode_records(self, replay: CanonicalReplay, encoded: Sequence[bytes], start: tuple[int, int, int]) -> list[list[Any]]:
        part, seq, at = start
        records = [_decode(item) for item in encoded]
        decoded = replay.prepare(LogChunk([record for record in records if record.topic != LABELS], []))
        events = iter(decoded.records)
        event = next(events, None)
        packed = iter([] if decoded.columns is None else packed_columns(decoded.columns))
        ats: list[int] = []
        columns: list[bytes | None] = []
        places: list[int] = []
        for record in records:
            ats.append(at)
            if record is event:
                event, at = next(events, None), at + 1
                columns.append(next(packed))
                places.append(at - 1 - start[2])
            else:
                columns.append(None)
                places.append(-1)
        keys = {} if decoded.columns is None else decoded.columns.keys
        of_kinds = [[keys[kind][place] if place >= 0 else None for place in places] for kind in replay.engine.widths()]
        return [[part] * len(records), list(range(seq, seq + len(records))), ats, list(encoded), columns, *of_kinds]

    # --- fold --------------------------------------------------------------------------------------------------------------

    def users(self, batches: Batches) -> Iterator[Any]:
        """Fold the user kinds of events that are sorted by user and log order."""
        engine = _engine(self.settings)
        kinds = user_kinds(engine)
        state, measures = GroupedFold(engine, kinds), len(engine.catalogue.measures)
        for rows in _rows(batches):
            keys = {kind: rows[_KEYS + kind] for kind in kinds}
            at = np.array(rows["at"], np.int64)
            features = fold_users(engine, state, columns_from(rows["columns"], measures, keys), at, at + 1)
            flags = features.flags
            kind = [kinds[0]] * len(at)
            yield _table(FEATURES, rows["part"], at, kind, flags.late_by_ms, flags.duplicate_of, packed_users(features))

    def shared(self, batches: Batches) -> Iterator[Any]:
        """Fold the shared kinds of events that are sorted by kind, entity and log order."""
        engine = _engine(self.settings)
        measures = len(engine.catalogue.measures)
        states = {kind: GroupedFold(engine, (kind,)) for kind in self.kinds}
        for rows in _rows(batches):
            order = range(len(rows["kind"]))
            for kind, group in groupby(order, key=rows["kind"].__getitem__):
                of = list(group)
                first, end = of[0], of[-1] + 1
                part = columns_from(rows["columns"][first:end], measures, {kind: rows["key"][first:end]})
                duplicate_of = np.array(rows["duplicate_of"][first:end], np.int64)
                flags = LatenessFlags(np.zeros(len(of), np.int64), duplicate_of)
                features = fold_kind(engine, states[kind], kind, part, np.arange(len(of)), flags)
                at = np.array(rows["at"][first:end], np.int64)
                kinds = [kind] * len(of)
                yield _table(FEATURES, rows["part"][first:end], at, kinds, flags.late_by_ms, duplicate_of, packed_kind(features))

    # --- answer --------------------------------------------------------------------------------------------------------------

    def answer(self, batches: Batches) -> Iterator[Any]:
        """Join, score and answer records that are sorted by part and log order, each event followed by its features."""
        rows = (row for batch in batches for row in batch.to_pylist())
        for part, of_part in groupby(rows, key=itemgetter("part")):
            for number, batch in enumerate(self._batches(of_part)):
                yield _table(ANSWERS, [part], [number], [pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)])

    def _batches(self, rows: Iterable[dict[str, Any]]) -> Iterator[ReplayBatch]:
        engine, replay = _engine(self.settings), _replay(self.settings)
        replay.position = replay.events = 0  # within the part; the driver numbers them through the log
        replay.duplicates.forget(_END_MS)
        source = _PartSource(rows)
        for chunk in chunks_of(source, self.size, whole_times=True):
            decoded = replay.prepare(chunk)
            folded = None
            if decoded.columns is not None:
                users, kinds = source.take(engine, self.kinds, replay.events, len(decoded.events))
                folded = join(engine, decoded.columns, users, kinds)
            yield replay.answer(chunk, decoded, folded)


class _PartSource:
    """A part's records as a log source; collects the feature rows between them."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.problems = LogIssues()
        self.total: int | None = None
        self._rows = rows
        self._features: dict[str, dict[int, bytes]] = {}

    def records(self) -> Iterator[LogRecord]:
        """Yield the records."""
        pending: LogRecord | None = None  # yielded after its feature rows
        for row in self._rows:
            if row["record"] is None:
                self._features.setdefault(row["kind"], {})[row["at"]] = row["features"]
                continue
            if pending is not None:
                yield pending
            pending = _decode(row["record"])
        if pending is not None:
            yield pending

    def take(
        self, engine: FeatureEngine, kinds: Sequence[str], first: int, count: int
    ) -> tuple[list[UserFeatures], list[KindFeatures]]:
        """Take the features of `count` events from number `first` on."""
        by_user, by_kind = user_kinds(engine)[0], []
        for kind in (by_user, *kinds):
            of_kind = self._features.get(kind, {})
            at = [number for number in range(first, first + count) if number in of_kind]
            by_kind.append((np.array(at, np.int64) - first, [of_kind.pop(number) for number in at]))
        (at_users, users), *of_kinds = by_kind
        return (
            [user_features_from(engine, at_users, users)],
            [kind_features_from(engine, kind, at, rows) for kind, (at, rows) in zip(kinds, of_kinds, strict=True) if rows],
        )

    def where(self, record: LogRecord) -> tuple[str, str]:
        """Return a record's file number and row; the driver resolves the name."""
        return str(record.place[0]), str(record.place[1])

    def identity(self) -> list[str]:
        """Return nothing: a replay on Spark does not resume."""
        return []


def _rows(batches: Batches) -> Iterator[dict[str, list[Any]]]:
    """Yield columns as lists, of at most `_ROWS` rows at a time."""
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            piece = batch.slice(start, _ROWS)
            yield {name: piece.column(place).to_pylist() for place, name in enumerate(piece.schema.names)}


def _chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


_TYPES: Final = {"int": pa.int32(), "long": pa.int64(), "binary": pa.binary(), "string": pa.string()}


def _table(schema: str, *columns: Any) -> Any:  # noqa: ANN401 (a pyarrow record batch)
    fields = [field.split() for field in schema.split(", ")]
    arrays = [pa.array(column, _TYPES[kind]) for (_, kind), column in zip(fields, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in fields])
