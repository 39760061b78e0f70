"""The training set: what the worker would have served for each event, beside what the event turned out to mean.

Features come from the same `FeatureEngine` that serves them, fed in order of arrival as the worker is, so every row holds what
was known of its entities when it came, and nothing else. Events beyond the allowed lateness are left out: they are not scored.
The split is by time, within each shop: train, then validation, then test; a shop can also be validation from end to end.

Labels are those known at the moment of training, which is the end of the validation range: an event so young that a complaint
could still come has no fraud label. The test range is judged with all truths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS
from stream_app.codec.identity import Identity
from stream_app.errors import ContractError
from stream_app.events import Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.columns import category_bucket, item_bucket
from stream_app.features.engine import FeatureEngine, FoldResult
from stream_app.simulator.catalogue import Catalogue as Goods
from training.labels import UNKNOWN
from training.plan import Shop
from training.simulated import NEVER_MS, Material, material_from_simulation

__all__ = ["SPLITS", "Dataset", "ItemTable", "build_dataset", "load_dataset", "save_dataset"]

SPLITS: Final = ("train", "validation", "test")
_TRAIN_UNTIL: Final = 0.70  # shares of each shop's events, in time order
_VALIDATION_UNTIL: Final = 0.85
_LATENESS_MS: Final = 86_400_000  # the worker's default (stream_app/config.py)
_CHUNK: Final = 8_192  # events folded at once: what bounds the memory for unpacked state
_LABELS: Final = ("fraud", "intent", "next_action", "click", "next_item")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ItemTable:
    """The items that can be recommended: ids, and their buckets (M,) int32 as the network sees them."""

    ids: list[str]
    items: NDArray[np.int32]
    categories: NDArray[np.int32]


@dataclass(frozen=True)
class Dataset:
    """N events.

    Attributes:
        inputs: as `model.contract.INPUTS`, each (N, ...).
        labels: fraud, intent, next_action, click (N,) int8, next_item (N,) int32 rows of `table`; -1 = unknown.
        split: (N,) int8, an index of SPLITS.
        shop: (N,) int8, which of the shops the event is of.
        table: the items.
        feature_names: columns of `inputs["dense"]`.
        catalogue_hash: of the feature catalogue.
    """

    inputs: Arrays
    labels: Arrays
    split: NDArray[np.int8]
    shop: NDArray[np.int8]
    table: ItemTable
    feature_names: list[str]
    catalogue_hash: str

    def __len__(self) -> int:
        """Return N."""
        return len(self.split)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of one of SPLITS, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split))


def build_dataset(shops: Sequence[Shop], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Simulate the shops and compute features and labels of all their events.

    Args:
        shops: one simulation each. They may differ in everything but the goods (`shop_seed`, `items`).
        progress: told what is being done, one sentence at a time.
    """
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=_LATENESS_MS)
    table = _item_table(shops)
    numbers = {item: number for number, item in enumerate(table.ids)}
    parts: list[tuple[Arrays, Arrays, NDArray[np.int8]]] = []
    for shop in shops:
        progress(f"simulating {shop.text()}")
        material = material_from_simulation(shop, numbers)
        if not material.events:
            raise ContractError(f"{shop.text()}: it ends before any session can be over; give it more events or a lower rate.")
        progress(f"computing features of {len(material.events):,} events")
        inputs, scored = _inputs(engine, material)
        split = _split(len(material.events), unseen=shop.unseen)
        labels = _labels(material, split)
        parts.append((_only(scored, inputs), _only(scored, labels), split[scored]))
    return Dataset(
        inputs=_joined([inputs for inputs, _, _ in parts]),
        labels=_joined([labels for _, labels, _ in parts]),
        split=np.concatenate([split for _, _, split in parts]),
        shop=np.repeat(np.arange(len(parts), dtype=np.int8), [len(split) for _, _, split in parts]),
        table=table,
        feature_names=list(engine.feature_names),
        catalogue_hash=engine.catalogue_hash,
    )


def save_dataset(dataset: Dataset, path: Path) -> None:
    """Write it as one `.npz` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"in_{name}": value for name, value in dataset.inputs.items()}
    arrays |= {f"label_{name}": value for name, value in dataset.labels.items()}
    arrays |= {
        "split": dataset.split,
        "shop": dataset.shop,
        "item_ids": np.array(dataset.table.ids),
        "item_buckets": dataset.table.items,
        "item_categories": dataset.table.categories,
        "feature_names": np.array(dataset.feature_names),
        "catalogue_hash": np.array(dataset.catalogue_hash),
    }
    np.savez(path, **arrays)


def load_dataset(path: Path) -> Dataset:
    """Read what `save_dataset` wrote.

    Raises:
        ContractError: It was made with another feature catalogue than this program has.
    """
    with np.load(path, allow_pickle=False) as saved:
        dataset = Dataset(
            inputs={spec.name: saved[f"in_{spec.name}"] for spec in INPUTS},
            labels={name: saved[f"label_{name}"] for name in _LABELS},
            split=saved["split"],
            shop=saved["shop"],
            table=ItemTable([str(item) for item in saved["item_ids"]], saved["item_buckets"], saved["item_categories"]),
            feature_names=[str(name) for name in saved["feature_names"]],
            catalogue_hash=str(saved["catalogue_hash"]),
        )
    ours = FeatureEngine(CATALOGUE, allowed_lateness_ms=_LATENESS_MS).catalogue_hash
    if dataset.catalogue_hash != ours:
        raise ContractError(
            f"{path} was made with feature catalogue {dataset.catalogue_hash}, this program has {ours}. "
            "Operator action: delete the file; it is made again."
        )
    return dataset


def _item_table(shops: Sequence[Shop]) -> ItemTable:
    first = shops[0].options
    counts = {(shop.options.shop_seed, shop.options.items) for shop in shops}
    if len(counts) != 1:
        raise ContractError(f"the shops differ in (shop_seed, items): {counts}; give all the same, they share one item table.")
    goods = Goods(first.shop_seed or first.seed, first.items).items
    return ItemTable(
        ids=[item.id for item in goods],
        items=np.array([item_bucket(item.id) for item in goods], np.int32),
        categories=np.array([category_bucket(item.category) for item in goods], np.int32),
    )


def _inputs(engine: FeatureEngine, material: Material) -> tuple[Arrays, NDArray[np.bool_]]:
    """Return the tensors of all events, and which of them are scored."""
    state: dict[str, dict[bytes, bytes]] = {kind.name: {} for kind in engine.kinds}
    identity, events = Identity(b"training"), material.events
    parts = [_folded(engine, identity, events[at : at + _CHUNK], state) for at in range(0, len(events), _CHUNK)]
    scored = ~np.concatenate([part.late for part in parts])
    return {spec.name: np.concatenate([getattr(part, spec.name) for part in parts]) for spec in INPUTS}, scored


def _folded(
    engine: FeatureEngine, identity: Identity, events: Sequence[Event], state: dict[str, dict[bytes, bytes]]
) -> FoldResult:
    """Fold the next events into the state of one partition group: per kind, key -> blob; changed in place."""
    columns = engine.columns(events, [0] * len(events), identity)
    rows = engine.rows(columns)
    own = {kind: engine.unpack(kind, [state[kind].get(key) for key in of_kind.keys]) for kind, of_kind in rows.items()}
    folded = engine.fold(columns, rows, own, {})
    for kind, of_kind in rows.items():
        state[kind].update(zip(of_kind.keys, engine.pack(kind, own[kind]), strict=True))
    return folded


def _labels(material: Material, split: NDArray[np.int8]) -> Arrays:
    times = material.arrival_ms
    columns = np.array(material.labels, np.int32).reshape(-1, 4)
    test = split == SPLITS.index("test")
    trained_at_ms = int(times[~test].max(initial=0))
    known = (material.fraud_known_ms <= trained_at_ms) | (test & (material.fraud_known_ms < NEVER_MS))
    mature = test | (times <= trained_at_ms - material.maturity_ms)
    return {
        "fraud": np.where(mature, known, UNKNOWN).astype(np.int8),
        "intent": columns[:, 0].astype(np.int8),
        "next_action": columns[:, 1].astype(np.int8),
        "click": columns[:, 2].astype(np.int8),
        "next_item": columns[:, 3].astype(np.int32),
    }


def _split(count: int, *, unseen: bool) -> NDArray[np.int8]:
    split = np.full(count, SPLITS.index("validation"), np.int8)
    if not unseen:
        split[: int(count * _TRAIN_UNTIL)] = SPLITS.index("train")
        split[int(count * _VALIDATION_UNTIL) :] = SPLITS.index("test")
    return split


def _only(rows: NDArray[np.bool_], arrays: Arrays) -> Arrays:
    return {name: value[rows] for name, value in arrays.items()}


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
