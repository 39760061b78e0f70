"""Features of a replay as a folder of Parquet files: what trainings, Spark and others read.

One row an event, late ones and duplicates marked, in the order of the log: identifiers and coordinates, one float32 column a
feature under its own name, and the other tensors of model.contract.INPUTS as flat lists (`sequence_ids` of 32 x 4: 128 numbers).
Files have equally many rows, so that they are the same bytes wherever the replay cut its batches, or was killed in between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from model import contract
from stream_app.errors import ConfigError
from stream_app.features.engine import FeatureEngine
from stream_app.pipeline import Judged, Prepared

__all__ = ["FeaturesFolder", "feature_table"]

_PART_ROWS: Final = 1 << 15
_PENDING: Final = "pending.arrow"
_PART: Final = re.compile(r"part-(\d{5,})\.parquet")  # others' data sets have names like part-00000-<uuid>.snappy.parquet
_OTHER_TENSORS: Final = tuple(spec for spec in contract.INPUTS if spec.name != "dense")


def feature_table(engine: FeatureEngine, prepared: Prepared, judged: Judged) -> Any:  # noqa: ANN401 (a pyarrow table)
    """Make the rows of a batch's events.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    pa = _pyarrow()
    folded, count = judged.folded, len(prepared.events)
    columns: dict[str, Any] = {
        "event_id": pa.array([event.event_id for event in prepared.events], pa.string()),
        "topic": pa.array([source.topic for source in prepared.sources], pa.string()),
        "user": pa.array([event.user for event in prepared.events], pa.string()),
        "event_time_ms": pa.array([event.event_time_ms for event in prepared.events], pa.int64()),
        "partition": pa.array([source.partition for source in prepared.sources], pa.int32()),
        "offset": pa.array([source.offset for source in prepared.sources], pa.int64()),
        "late": pa.array(folded.late),
        "duplicate": pa.array(folded.duplicate_of >= 0),
        "catalogue_hash": pa.array([engine.catalogue_hash] * count, pa.string()),
        "model_version": pa.array(list(judged.ranked.versions), pa.string()),
    }
    for name, values in zip(engine.feature_names, np.ascontiguousarray(folded.dense.T), strict=True):
        columns[name] = pa.array(values)
    for spec in _OTHER_TENSORS:
        width = int(np.prod(spec.shape))
        flat = np.ascontiguousarray(getattr(folded, spec.name)).reshape(-1)
        columns[spec.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), width)
    return pa.table(columns)


class FeaturesFolder:
    """Writes `part-00000.parquet` and on.

    Args:
        folder: Made when needed.
        engine: Whose features these are.
        resume_at: What `flush` returned; None begins anew, and removes parts of an earlier replay; files of other names stay.

    Raises:
        ConfigError: pyarrow is not installed, or the folder cannot be written or lacks a part.
    """

    def __init__(self, folder: Path, engine: FeatureEngine, resume_at: Mapping[str, int] | None = None) -> None:
        self._pa = _pyarrow()
        self._folder, self._engine = folder, engine
        self._waiting: list[Any] = []
        self._waiting_rows = self._parts = 0
        self._set_aside = ""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if resume_at is not None:
                self._resume(resume_at)
            for number, path in self._there().items():
                if number >= self._parts:
                    path.unlink()
        except OSError as err:
            raise ConfigError(f"cannot write to {folder}: {err.strerror}. Name a folder that can be written") from err

    def write(self, prepared: Prepared, judged: Judged | None) -> None:
        """Append the rows of a batch."""
        if judged is None:
            return
        table = feature_table(self._engine, prepared, judged)
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        while self._waiting_rows >= _PART_ROWS:
            whole = self._pa.concat_tables(self._waiting)
            self._write_part(whole.slice(0, _PART_ROWS))
            self._waiting = [whole.slice(_PART_ROWS)]
            self._waiting_rows -= _PART_ROWS

    def flush(self) -> dict[str, int]:
        """Put everything on the disk, the rows of the part that is not full aside; return where the folder stands."""
        name = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        with self._pa.OSFile(str(self._folder / name), "wb") as file:
            if self._waiting:
                whole = self._pa.concat_tables(self._waiting)
                with self._pa.ipc.new_file(file, whole.schema) as writer:
                    writer.write_table(whole)
        for path in self._folder.glob(f"{_PENDING}.*"):
            if path.name not in (name, self._set_aside):  # the last one counts until this one's checkpoint is written
                path.unlink()
        self._set_aside = name
        return {"parts": self._parts, "waiting": self._waiting_rows}

    def finish(self) -> None:
        """Write the last part, which may be shorter; `tidy` is to follow when no checkpoint needs what was set aside."""
        if self._waiting_rows:
            self._write_part(self._pa.concat_tables(self._waiting))
        self._waiting, self._waiting_rows = [], 0

    def tidy(self) -> None:
        """Remove what was set aside."""
        for path in self._folder.glob(f"{_PENDING}.*"):
            path.unlink()

    def _resume(self, resume_at: Mapping[str, int]) -> None:
        self._parts, self._waiting_rows = resume_at["parts"], resume_at["waiting"]
        self._set_aside = f"{_PENDING}.{self._parts}.{self._waiting_rows}"
        pending = self._folder / self._set_aside
        if not self._there().keys() >= set(range(self._parts)) or not pending.exists():
            raise ConfigError(f"{self._folder} lacks parts that its checkpoint names. Begin anew with --restart")
        if self._waiting_rows:
            with self._pa.ipc.open_file(pending.read_bytes()) as reader:
                self._waiting = [reader.read_all()]

    def _there(self) -> dict[int, Path]:
        """Return the parts that are there, by number."""
        found = ((_PART.fullmatch(path.name), path) for path in self._folder.iterdir())
        return {int(match[1]): path for match, path in found if match is not None}

    def _write_part(self, table: Any) -> None:  # noqa: ANN401 (a pyarrow table)
        from pyarrow import parquet

        path = self._folder / f"part-{self._parts:05}.parquet"
        parquet.write_table(table.combine_chunks(), path, compression="zstd", row_group_size=_PART_ROWS)
        with path.open("rb") as written:
            os.fsync(written.fileno())
        self._parts += 1


def _pyarrow() -> Any:  # noqa: ANN401 (a module)
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError as err:
        raise ConfigError("features are written with pyarrow: install the extra with `pip install 'millrace[data]'`") from err
    return pa
