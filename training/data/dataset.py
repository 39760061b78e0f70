"""The training set: rows of whatever a network reads, what is known of each, and which rows are for training.

Loop, losses and evaluation know nothing else of the data: `inputs` go into the network by name, `labels` are what its tasks
learn, and -1 is a label that nobody knows. Where rows come from is the business of `training.data.sources`.
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

from model.inputs import Inputs, inputs_from_json, json_from_inputs
from model.tasks import Task, tasks_from_json
from stream_app.errors import ContractError
from stream_app.features.catalog import CATALOGUE
from stream_app.features.state.layout import catalogue_hash

__all__ = ["LEFT_OUT", "SPLITS", "UNKNOWN", "Arrays", "Dataset", "ItemTable", "load_dataset", "save_dataset"]

SPLITS: Final = ("train", "validation", "test")
LEFT_OUT: Final = -1
UNKNOWN: Final = -1  # a label that nobody knows; no loss and no metric counts it
_FORMAT: Final = 2

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ItemTable:
    """The M items that can be recommended: ids, and their buckets (M,) int32 as the network sees them."""

    ids: list[str]
    items: NDArray[np.int32]
    categories: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """N rows.

    Attributes:
        inputs: by name as `spec` describes them, each (N, ...).
        labels: by name as `tasks` ask for them, each (N,): classes (int8 or int32) or rows of the items; -1 = unknown.
        split: (N,) int8, an index of SPLITS; LEFT_OUT for rows that are in none, whose labels a protocol may still ask for.
        segment: (N,) int8 (or wider), which shop, domain or source the row is of: an index of `segments`.
        time_ms: (N,) int64, epoch milliseconds UTC; zeros where rows have no time.
        key: (N,) int64, a number for the user, customer or session the row is of.
        tasks: what is learnt.
        spec: what the rows look like.
        table: the items of a retrieval task over `EventInputs`; None where there are none.
        feature_names: columns of `inputs["dense"]`; empty where there is no such array.
        catalogue_hash: of the feature catalogue; empty where features are not the catalogue's.
        segments: names of the segments; at least one.
        fitted: what inputs were made with and serving would repeat: a tokenizer, codes of categories; learnt on train rows alone.
        taught: task -> what a teacher says of each row, probabilities (N,) or (N, C) float32, NaN where it says nothing; made for
            a training (`training.fit.distillation`), not kept in the file.
        notes: what a person should know of how it was made: counts of what was left out, by name.
        made_from: files and settings, by which a stored set is known again; "" = not told.
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
    taught: Arrays = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    made_from: str = ""

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths, and tasks without labels."""
        each = {**self.inputs, **{f"labels {name}": value for name, value in self.labels.items()}}
        each |= {f"taught {name}": value for name, value in self.taught.items()}
        each |= {"split": self.split, "segment": self.segment, "time_ms": self.time_ms, "key": self.key}
        lengths = {name: len(value) for name, value in each.items()}
        if len(set(lengths.values())) > 1:
            raise ContractError(f"the arrays of the training set differ in length: {lengths}. Operator action: report this.")
        lacking = [task.name for task in self.tasks if task.label not in self.labels]
        if lacking:
            raise ContractError(
                f"the training set has no labels for {', '.join(lacking)}; it has {', '.join(self.labels) or 'none'}. "
                "Operator action: leave those tasks out (--tasks), or give the source what they are made of."
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
        found: NDArray[np.int64] = rows[self.labels[label][rows] != UNKNOWN]
        return found


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write it as one `.npz` file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"in_{name}": value for name, value in dataset.inputs.items()}
    arrays |= {f"label_{name}": value for name, value in dataset.labels.items()}
    arrays |= {f"fitted_{name}": value for name, value in dataset.fitted.items()}
    arrays |= {name: getattr(dataset, name) for name in ("split", "segment", "time_ms", "key")}
    if dataset.table is not None:
        table = dataset.table
        arrays |= {"item_ids": np.array(table.ids), "item_buckets": table.items, "item_categories": table.categories}
    arrays["about"] = np.array(msgspec.json.encode(_about(dataset)).decode())
    fresh = path.with_name(f".{path.name}.new.npz")
    np.savez(fresh, **arrays)
    fresh.replace(path)


def load_dataset(path: Path) -> Dataset:
    """Read what `save_dataset` wrote.

    Raises:
        ContractError: It was written by another version of this program, or made with another feature catalogue.
    """
    try:
        saved = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as err:
        raise ContractError(
            f"{path} cannot be read as a kept training set ({err}). Operator action: delete it, it is made anew; or name another."
        ) from err
    with saved:
        about: dict[str, Any] = msgspec.json.decode(str(saved["about"])) if "about" in saved else {"format": 1}
        ours = {"format": _FORMAT, "catalogue_hash": catalogue_hash(CATALOGUE)}
        for what, own in ours.items():
            if about[what] not in {own, ""}:
                raise ContractError(
                    f"{path} was made with {what.replace('_', ' ')} {about[what]}, this program has {own}. "
                    "Operator action: delete the file; it is made again."
                )
        arrays = {name: saved[name] for name in saved.files if name != "about"}
    return Dataset(
        inputs=_named(arrays, "in_"),
        labels=_named(arrays, "label_"),
        **{name: arrays[name] for name in ("split", "segment", "time_ms", "key")},
        tasks=tasks_from_json(about["tasks"]),
        spec=inputs_from_json(about["spec"]),
        table=_table(arrays),
        feature_names=tuple(about["feature_names"]),
        catalogue_hash=about["catalogue_hash"],
        segments=tuple(about["segments"]),
        fitted=_named(arrays, "fitted_"),
        notes=about["notes"],
        made_from=about["made_from"],
    )


def _about(dataset: Dataset) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "catalogue_hash": dataset.catalogue_hash,
        "tasks": dataset.tasks,
        "spec": json_from_inputs(dataset.spec),
        "feature_names": dataset.feature_names,
        "segments": dataset.segments,
        "notes": dataset.notes,
        "made_from": dataset.made_from,
    }


def _named(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _table(arrays: Mapping[str, NDArray[Any]]) -> ItemTable | None:
    if "item_ids" not in arrays:
        return None
    return ItemTable([str(item) for item in arrays["item_ids"]], arrays["item_buckets"], arrays["item_categories"])
