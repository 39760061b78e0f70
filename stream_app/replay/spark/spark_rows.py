"""Encode the numbers of one event as bytes of fixed length, for transport between the steps of a replay on Spark.

One binary column replaces a hundred columns, since Spark only moves it. Numbers are little-endian, as on every machine that runs
Spark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.features import sequence
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import LatenessFlags
from stream_app.replay.parallel.partitioning import KindFeatures, UserFeatures, user_kinds

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Part:
    """`count` numbers of one type."""

    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * np.dtype(self.dtype).itemsize


_QUERIES = (sequence.QUERIES, sequence.QUERY_CODES)
_SEQUENCE = (sequence.SEQUENCE, sequence.CODES)


def packed_columns(columns: EventColumns) -> list[bytes]:
    """Pack the columns of each event that a fold reads, except the keys."""
    return _packed([columns.time_ms, columns.event, columns.values, columns.ids, columns.query], len(columns))


def columns_from(rows: Sequence[bytes], measures: int, keys: dict[str, list[bytes]]) -> EventColumns:
    """Unpack events for a fold; `measures` is the catalogue's number of measures."""
    parts = [_Part("<i8", 1), _Part("<i8", 1), _Part("<i8", measures), _Part("<i4", 4), _Part("<i4", 4)]
    time_ms, event, values, ids, query = _unpacked(rows, parts)
    count = len(rows)
    return EventColumns(
        time_ms=time_ms.reshape(count),
        kind=np.zeros(count, np.int32),
        group=np.zeros(count, np.int32),
        values=values,
        context=np.zeros((count, 4), np.int32),
        ids=ids,
        query=query,
        event=event.reshape(count),
        keys=keys,
    )


def packed_users(features: UserFeatures) -> list[bytes]:
    """Pack the features of the users' pass."""
    flags = features.flags
    tensors = [features.sequence_ids, features.sequence_gaps, features.query_ids, features.query_gaps]
    return _packed([flags.late_by_ms, flags.duplicate_of, features.dense, *tensors], len(features.at))


def user_features_from(engine: FeatureEngine, at: NDArray[np.int64], rows: Sequence[bytes]) -> UserFeatures:
    """Unpack the users' features of the events at indices `at` (K,)."""
    width = sum(len(engine.columns_of(kind)) for kind in user_kinds(engine))
    parts = [
        _Part("<i8", 1), _Part("<i8", 1), _Part("<f4", width), _Part("<i4", int(np.prod(_SEQUENCE))), _Part("<f4", _SEQUENCE[0]),
        _Part("<i4", int(np.prod(_QUERIES))), _Part("<f4", _QUERIES[0]),
    ]  # fmt: skip
    late_by_ms, duplicate_of, dense, sequence_ids, sequence_gaps, query_ids, query_gaps = _unpacked(rows, parts)
    count = len(rows)
    return UserFeatures(
        at=at,
        dense=dense,
        sequence_ids=sequence_ids.reshape(count, *_SEQUENCE),
        sequence_gaps=sequence_gaps,
        query_ids=query_ids.reshape(count, *_QUERIES),
        query_gaps=query_gaps,
        flags=LatenessFlags(late_by_ms.reshape(count), duplicate_of.reshape(count)),
    )


def packed_kind(features: KindFeatures) -> list[bytes]:
    """Pack the features of a shared kind's pass."""
    return _packed([features.dense], len(features.at))


def kind_features_from(engine: FeatureEngine, kind: str, at: NDArray[np.int64], rows: Sequence[bytes]) -> KindFeatures:
    """Unpack a shared kind's features of the events at indices `at` (K,)."""
    [dense] = _unpacked(rows, [_Part("<f4", len(engine.columns_of(kind)))])
    return KindFeatures(kind, at, dense)


def _packed(arrays: Sequence[NDArray[Any]], count: int) -> list[bytes]:
    if not count:
        return []
    flat = [np.ascontiguousarray(array).reshape(count, -1).view(np.uint8) for array in arrays]
    joined = np.concatenate(flat, axis=1)
    data, width = joined.tobytes(), joined.shape[1]
    return [data[start : start + width] for start in range(0, len(data), width)]


def _unpacked(rows: Sequence[bytes], parts: Sequence[_Part]) -> list[NDArray[Any]]:
    table: Bytes = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), sum(part.size for part in parts))
    arrays, start = [], 0
    for part in parts:
        arrays.append(np.ascontiguousarray(table[:, start : start + part.size]).view(part.dtype))
        start += part.size
    return arrays
