"""Recorded inputs: rows for calibration and verification.

Samples of an artefact and a saved training set (`python -m training ... --keep rows.npz`) hold arrays `in_<tensor>`; a replay's
folder of features (`millrace replay ... --features-out features`) holds Parquet files with a column for each dense feature and
a column of flat lists for each other tensor.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import TensorSpec
from trt_build.errors import RefusedError

Arrays = Mapping[str, NDArray[Any]]

_DENSE: Final = "dense"  # its features are columns of their own in a Parquet file


def read_rows(
    path: Path, tensors: Sequence[TensorSpec], count: int = 0, feature_names: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Return `count` rows spread evenly over the file, or all of them.

    Args:
        path: a file of arrays, a Parquet file, or a folder of them.
        tensors: of a row, as the model takes them.
        count: 0 = all.
        feature_names: of the dense features, for Parquet files.

    Raises:
        RefusedError: The file is missing, or has other tensors or too few rows.
    """
    try:
        is_table = path.is_dir() or path.suffix == ".parquet"
        rows = _read_parquet(path, tensors, feature_names) if is_table else _read_arrays(path, tensors)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as err:
        raise RefusedError(
            f"{path} holds no recorded rows for this model ({err}). Fix: record them again, see docs/engines.md"
        ) from err
    for spec in tensors:
        value = rows[spec.name]
        recorded, expected = f"{value.dtype}{list(value.shape[1:])}", f"{spec.dtype}{list(spec.shape)}"
        if recorded != expected:
            raise RefusedError(
                f"{path}: rows of {spec.name} are {recorded}, the model reads {expected}: they were recorded with another "
                "feature catalogue. Fix: record them again with this release"
            )
        rows[spec.name] = np.ascontiguousarray(value)
    total = len(rows[tensors[0].name])
    if total < count:
        raise RefusedError(f"{path} has {total:,} rows, {count:,} are asked for; record more, or ask for fewer (--count)")
    picked = np.linspace(0, total - 1, count or total).astype(np.int64)
    return {name: value[picked] for name, value in rows.items()}


def _read_arrays(path: Path, tensors: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as saved:
        return {spec.name: saved[f"in_{spec.name}"] for spec in tensors}


def _read_parquet(path: Path, tensors: Sequence[TensorSpec], feature_names: Sequence[str]) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    columns = [*feature_names, *(spec.name for spec in tensors if spec.name != _DENSE)]
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ValueError("the folder has no Parquet file")
    table = pa.concat_tables([parquet.read_table(file, columns=columns) for file in files])
    rows: dict[str, NDArray[Any]] = {}
    for spec in tensors:
        if spec.name == _DENSE:
            features = [table[name].to_numpy().astype(spec.dtype, copy=False) for name in feature_names]
            rows[spec.name] = np.stack(features, axis=1)
        else:
            flat = _flat(table[spec.name].combine_chunks())
            rows[spec.name] = flat.astype(spec.dtype, copy=False).reshape(table.num_rows, *spec.shape)
    return rows


def _flat(column: Any) -> NDArray[Any]:  # noqa: ANN401 (pyarrow has no types)
    while hasattr(column, "flatten") and "list" in str(column.type):
        column = column.flatten()
    flat: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return flat
