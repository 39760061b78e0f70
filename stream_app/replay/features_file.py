"""Write the features of a replay as a folder of Parquet files, for training, Spark and other readers.

One row an event, late ones and duplicates marked, in the order of the log: identifiers and coordinates, one float32 column a
feature under its own name, and the other tensors of model.contract.INPUTS as flat lists (`sequence_ids` of 32 x 4: 128 numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from model import contract
from stream_app.batch import DecodedBatch, ScoredBatch
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.logs.parquet_parts import ParquetParts, arrow

_OTHER_TENSORS: Final = tuple(spec for spec in contract.INPUTS if spec.name != "dense")


def feature_table(engine: FeatureEngine, identifiers: Mapping[str, Any], folded: FoldResult, versions: Sequence[str]) -> Any:  # noqa: ANN401 (a pyarrow table)
    """Make the rows of B events: `identifiers` are their first columns by name, `versions` their model versions.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    pa = arrow()
    columns: dict[str, Any] = {
        **identifiers,
        "late": pa.array(folded.late),
        "duplicate": pa.array(folded.duplicate_of >= 0),
        "catalogue_hash": pa.array([engine.catalogue_hash] * len(versions), pa.string()),
        "model_version": pa.array(versions, pa.string()),
    }
    for name, values in zip(engine.feature_names, np.ascontiguousarray(folded.dense.T), strict=True):
        columns[name] = pa.array(values)
    for spec in _OTHER_TENSORS:
        width = int(np.prod(spec.shape))
        flat = np.ascontiguousarray(getattr(folded, spec.name)).reshape(-1)
        columns[spec.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns)


def _identifiers(decoded: DecodedBatch) -> dict[str, Any]:
    pa = arrow()
    return {
        "event_id": pa.array([event.event_id for event in decoded.events], pa.string()),
        "topic": pa.array([source.topic for source in decoded.sources], pa.string()),
        "user": pa.array([event.user for event in decoded.events], pa.string()),
        "event_time_ms": pa.array([event.event_time_ms for event in decoded.events], pa.int64()),
        "partition": pa.array([source.partition for source in decoded.sources], pa.int32()),
        "offset": pa.array([source.offset for source in decoded.sources], pa.int64()),
    }


class FeaturesFolder(ParquetParts):
    """Writes the features of a replay; `engine` names them."""

    def __init__(self, folder: Path, engine: FeatureEngine, resume_at: Mapping[str, int] | None = None) -> None:
        super().__init__(folder, resume_at)
        self._engine = engine

    def write(self, decoded: DecodedBatch, scored: ScoredBatch | None) -> None:
        """Append the rows of a batch."""
        if scored is not None:
            versions = list(scored.ranked.versions)
            self.append(feature_table(self._engine, _identifiers(decoded), scored.folded, versions))
