"""Encode the numbers of one event as bytes of fixed length, for transport between the steps of a replay on Spark.

One binary column replaces a hundred columns, since Spark only moves it. Numbers are little-endian, as on every machine that runs
Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.features import sequence
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import LatenessFlags
from stream_app.replay.parallel.partitioning import KindFeatures, UserFeatures, user_kinds

_SEQUENCE_TENSORS = ("sequence_ids", "sequence_gaps", "query_ids", "query_gaps")


def packed_columns(columns: EventColumns) -> list[bytes]:
    """Pack the columns of each event that a fold reads, except the keys."""
    row = _columns_row(columns.values.shape[1])
    return _packed(row, {name: getattr(columns, name) for name in row.names or ()}, len(columns))


def columns_from(rows: Sequence[bytes], measures: int, keys: dict[str, list[bytes]]) -> EventColumns:
    """Unpack events for a fold; `measures` is the catalogue's number of measures."""
    count = len(rows)
    return EventColumns(
        kind=np.zeros(count, np.int32),
        group=np.zeros(count, np.int32),
        context=np.zeros((count, 4), np.int32),
        keys=keys,
        **_unpacked(_columns_row(measures), rows),
    )


def packed_users(features: UserFeatures) -> list[bytes]:
    """Pack the features of the users' pass."""
    arrays = {name: getattr(features, name) for name in ("dense", *_SEQUENCE_TENSORS)}
    flags = {"late_by_ms": features.flags.late_by_ms, "duplicate_of": features.flags.duplicate_of}
    return _packed(_users_row(features.dense.shape[1]), arrays | flags, len(features.at))


def user_features_from(engine: FeatureEngine, at: NDArray[np.int64], rows: Sequence[bytes]) -> UserFeatures:
    """Unpack the users' features of the events at indices `at` (K,)."""
    columns = _unpacked(_users_row(sum(len(engine.columns_of(kind)) for kind in user_kinds(engine))), rows)
    flags = LatenessFlags(columns.pop("late_by_ms"), columns.pop("duplicate_of"))
    return UserFeatures(at=at, flags=flags, **columns)


def packed_kind(features: KindFeatures) -> list[bytes]:
    """Pack the features of a shared kind's pass."""
    return _packed(_kind_row(features.dense.shape[1]), {"dense": features.dense}, len(features.at))


def kind_features_from(engine: FeatureEngine, kind: str, at: NDArray[np.int64], rows: Sequence[bytes]) -> KindFeatures:
    """Unpack a shared kind's features of the events at indices `at` (K,)."""
    return KindFeatures(kind, at, **_unpacked(_kind_row(len(engine.columns_of(kind))), rows))


def _columns_row(measures: int) -> np.dtype[np.void]:
    times = [("time_ms", "<i8"), ("event", "<i8")]
    return np.dtype([*times, ("values", "<i8", (measures,)), ("ids", "<i4", (4,)), ("query", "<i4", (4,))])


def _users_row(features: int) -> np.dtype[np.void]:
    interactions, queries = (sequence.SEQUENCE, sequence.CODES), (sequence.QUERIES, sequence.QUERY_CODES)
    return np.dtype(
        [
            ("late_by_ms", "<i8"),
            ("duplicate_of", "<i8"),
            ("dense", "<f4", (features,)),
            ("sequence_ids", "<i4", interactions),
            ("sequence_gaps", "<f4", interactions[:1]),
            ("query_ids", "<i4", queries),
            ("query_gaps", "<f4", queries[:1]),
        ]
    )


def _kind_row(features: int) -> np.dtype[np.void]:
    return np.dtype([("dense", "<f4", (features,))])


def _packed(row: np.dtype[np.void], columns: dict[str, NDArray[Any]], count: int) -> list[bytes]:
    table = np.empty(count, row)
    for name, values in columns.items():
        table[name] = values
    return table.view(f"V{row.itemsize}").tolist() if count else []


def _unpacked(row: np.dtype[np.void], rows: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    table = np.frombuffer(b"".join(rows), row)
    return {name: np.ascontiguousarray(table[name]) for name in row.names or ()}
