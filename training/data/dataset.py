"""The training set: inputs and labels of rows, and the split into train, validation and test rows.

Loop, losses and evaluation read nothing else: the network reads `inputs` by name, its tasks learn `labels`, and -1 is an unknown
label. `training.data.sources` makes data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.atomic_file import atomic_write
from model.inputs import Inputs, inputs_from_json, json_from_inputs
from model.tasks import Task, tasks_from_json
from stream_app.errors import ContractError
from stream_app.features.catalog import CATALOGUE
from stream_app.features.state.layout import catalogue_hash

SPLITS: Final = ("train", "validation", "test")
LEFT_OUT: Final = -1
UNKNOWN: Final = -1  # no loss and no metric counts an unknown label
_FORMAT: Final = 2
_ARRAYS: Final = ("split", "segment", "time_ms", "key")  # attributes that the file stores as arrays, and as JSON
_IN_JSON: Final = ("catalogue_hash", "tasks", "feature_names", "segments", "notes", "made_from")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ItemTable:
    """The M items that can be recommended: ids, and their buckets (M,) int32 as the network reads them."""

    ids: list[str]
    items: NDArray[np.int32]
    categories: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """N rows.

    Attributes:
        inputs: arrays (N, ...) by name, as `spec` describes them.
        labels: arrays (N,) by name, as `tasks` read them: classes (int8 or int32) or rows of the items; -1 = unknown.
        split: (N,) int8, an index of SPLITS; LEFT_OUT for rows in none, whose labels a protocol may still read.
        segment: (N,) int8 (or wider), shop, domain or source of the row: an index of `segments`.
        time_ms: (N,) int64, epoch milliseconds UTC; zeros where rows have no time.
        key: (N,) int64, number of the row's user, customer or session.
        tasks: the tasks.
        spec: description of the inputs.
        table: the items of a retrieval task over `EventInputs`; None without items.
        feature_names: columns of `inputs["dense"]`; empty without dense features.
        catalogue_hash: hash of the feature catalogue; empty where features are not the catalogue's.
        segments: names of the segments; at least one.
        fitted: encoders learnt on train rows, which serving needs too: a tokenizer, codes of categories.
        soft_labels: task -> probabilities (N,) or (N, C) float32, NaN where there are none; made for a training by
            `training.fit.distillation`, not stored in the file.
        notes: counts for the report, by name, such as rows left out.
        made_from: files and settings that identify a stored set; "" = unknown.
    """

    inputs: Arrays
    labels: Arrays
    split: NDArray[np.int8]
    segment: NDArray[Any]
    time_ms: NDArray[np.int64]
    key: NDArray[np.int64]
    tasks: tuple[Task, ...]
    spec: Inputs
    table: ItemTable | None = None
    feature_names: tuple[str, ...] = ()
    catalogue_hash: str = ""
    segments: tuple[str, ...] = ("all",)
    fitted: Arrays = field(default_factory=dict)
    soft_labels: Arrays = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    made_from: str = ""

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths, and tasks without labels."""
        arrays = {**self.inputs, **{f"labels {name}": value for name, value in self.labels.items()}}
        arrays |= {f"soft labels {name}": value for name, value in self.soft_labels.items()}
        arrays |= {"split": self.split, "segment": self.segment, "time_ms": self.time_ms, "key": self.key}
        lengths = {name: len(value) for name, value in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the arrays of the training set differ in length: {lengths}. Operator action: report this.")
        unlabelled = [task.name for task in self.tasks if task.label not in self.labels]
        if unlabelled:
            raise ContractError(
                f"the training set has no labels for {', '.join(unlabelled)}; it has {', '.join(self.labels) or 'none'}. "
                "Operator action: leave those tasks out (--tasks), or give the source their labels."
            )

    def __len__(self) -> int:
        """Return N."""
        return len(self.split)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of one of SPLITS, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def known(self, label: str, split: str) -> NDArray[np.int64]:
        """Return the rows of a split whose `label` is known, ascending."""
        rows = self.rows(split)
        known: NDArray[np.int64] = rows[self.labels[label][rows] != UNKNOWN]
        return known


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write the data set atomically as one `.npz` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"in_{name}": value for name, value in dataset.inputs.items()}
    arrays |= {f"label_{name}": value for name, value in dataset.labels.items()}
    arrays |= {f"fitted_{name}": value for name, value in dataset.fitted.items()}
    arrays |= {name: getattr(dataset, name) for name in _ARRAYS}
    if dataset.table is not None:
        table = dataset.table
        arrays |= {"item_ids": np.array(table.ids), "item_buckets": table.items, "item_categories": table.categories}
    about = {"format": _FORMAT, "spec": json_from_inputs(dataset.spec)} | {name: getattr(dataset, name) for name in _IN_JSON}
    arrays["about"] = np.array(msgspec.json.encode(about).decode())
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_dataset(path: Path) -> Dataset:
    """Read a file of `save_dataset`.

    Raises:
        ContractError: The file is damaged, or of another format version or feature catalogue.
    """
    try:
        saved = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as err:
        raise ContractError(
            f"{path} is no readable training set ({err}). Operator action: delete it, and it is made again; or name another."
        ) from err
    with saved:
        about: dict[str, Any] = msgspec.json.decode(str(saved["about"])) if "about" in saved else {"format": 1}
        expected = {"format": _FORMAT, "catalogue_hash": catalogue_hash(CATALOGUE)}
        for key, value in expected.items():
            if about[key] not in {value, ""}:
                raise ContractError(
                    f"{path} was made with {key.replace('_', ' ')} {about[key]}, this program has {value}. "
                    "Operator action: delete the file; it is made again."
                )
        arrays = {name: saved[name] for name in saved.files if name != "about"}
    return Dataset(
        inputs=_with_prefix(arrays, "in_"),
        labels=_with_prefix(arrays, "label_"),
        **{name: arrays[name] for name in _ARRAYS},
        tasks=tasks_from_json(about["tasks"]),
        spec=inputs_from_json(about["spec"]),
        table=_table(arrays),
        feature_names=tuple(about["feature_names"]),
        catalogue_hash=about["catalogue_hash"],
        segments=tuple(about["segments"]),
        fitted=_with_prefix(arrays, "fitted_"),
        notes=about["notes"],
        made_from=about["made_from"],
    )


def _with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _table(arrays: Mapping[str, NDArray[Any]]) -> ItemTable | None:
    if "item_ids" not in arrays:
        return None
    return ItemTable([str(item) for item in arrays["item_ids"]], arrays["item_buckets"], arrays["item_categories"])
