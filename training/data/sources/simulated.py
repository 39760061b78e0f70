"""A training set from simulated shops: `[source] kind = "simulation"`.

The split is by time of arrival, within each shop: train, then validation, then test; a shop can also be validation from end to
end. Fraud labels are those known at the moment of training, which is the end of the validation range: an event so young that a
complaint could still come has none. Labels of a session that began before that moment and ended after it are there: minutes of
it may lie in the test range. The test range is judged with all truths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.tasks import SHOP_TASKS
from stream_app.errors import ConfigError, ContractError
from stream_app.evaluation.session_labels import SessionLabel
from stream_app.features.columns.event_columns import category_bucket, item_bucket
from stream_app.simulator.catalogue import ItemCatalogue as Goods
from training.data.dataset import SPLITS, Arrays, Dataset, ItemTable
from training.data.simulated_shops import SimulatedShop, shops_from
from training.data.simulated_visits import SimulatedVisits, material_from_simulation
from training.data.sources.events import NEVER_MS, EventFolder, fraud_labels

__all__ = ["dataset_from_shops", "dataset_from_simulation"]

_TRAIN_UNTIL: Final = 0.70  # shares of each shop's events, in order of arrival
_VALIDATION_UNTIL: Final = 0.85
_TEST: Final = SPLITS.index("test")


class _Part(NamedTuple):
    inputs: Arrays
    labels: Arrays
    split: NDArray[np.int8]
    time_ms: NDArray[np.int64]
    users: list[str]


def dataset_from_simulation(paths: Sequence[Path], source: Mapping[str, Any], progress: Callable[[str], None]) -> Dataset:
    """Simulate the shops that a configuration describes (training/data/simulated_shops.py).

    Raises:
        ConfigError: It is described wrongly, or a file is given.
    """
    if paths:
        raise ConfigError(f"{paths[0]} is given, but the configuration's source is a simulation; choose a --config for files.")
    return dataset_from_shops(shops_from(source), progress)


def dataset_from_shops(shops: Sequence[SimulatedShop], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Simulate the shops and compute features and labels of all their events.

    Args:
        shops: one simulation each. They may differ in everything but the goods (`shop_seed`, `items`).
        progress: told what is being done, one sentence at a time.

    Raises:
        ContractError: A shop ends before a session is over, or the shops differ in their goods.
    """
    folder, table = EventFolder(), _item_table(shops)
    numbers = {item: number for number, item in enumerate(table.ids)}
    parts = [_part(folder, shop, numbers, progress) for shop in shops]
    users: dict[tuple[int, str], int] = {}  # the same name in two shops is two people
    keys = [users.setdefault((shop, user), len(users)) for shop, part in enumerate(parts) for user in part.users]
    return Dataset(
        inputs=_joined([part.inputs for part in parts]),
        labels=_joined([part.labels for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        segment=np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.split) for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        key=np.array(keys, np.int64),
        tasks=SHOP_TASKS,
        spec=folder.spec,
        table=table,
        feature_names=folder.feature_names,
        catalogue_hash=folder.catalogue_hash,
        segments=tuple(shop.text() for shop in shops),
    )


def _part(folder: EventFolder, shop: SimulatedShop, numbers: dict[str, int], progress: Callable[[str], None]) -> _Part:
    progress(f"simulating {shop.text()}")
    material = material_from_simulation(shop, numbers)
    events = material.events
    if not events:
        raise ContractError(
            f"{shop.text()}: it ends before any session can be over. Operator action: give it more events or a lower rate."
        )
    progress(f"computing features of {len(events):,} events")
    inputs, rows = folder.fold(events, np.ones(len(events), np.bool_))
    split = _split(len(events), unseen=shop.unseen)
    labels = {name: value[rows] for name, value in _labels(material, split).items()}
    time_ms = np.array([event.event_time_ms for event in events], np.int64)[rows]
    return _Part(inputs, labels, split[rows], time_ms, [event.user for event, row in zip(events, rows, strict=True) if row])


def _item_table(shops: Sequence[SimulatedShop]) -> ItemTable:
    first = shops[0].options
    counts = {(shop.options.shop_seed, shop.options.items) for shop in shops}
    if len(counts) != 1:
        raise ContractError(
            f"the shops differ in (shop_seed, items): {counts}; they share one item table. Operator action: give all the same."
        )
    goods = Goods(first.shop_seed or first.seed, first.items).items
    return ItemTable(
        ids=[item.id for item in goods],
        items=np.array([item_bucket(item.id) for item in goods], np.int32),
        categories=np.array([category_bucket(item.category) for item in goods], np.int32),
    )


def _labels(material: SimulatedVisits, split: NDArray[np.int8]) -> Arrays:
    times, test = material.arrival_ms, split == _TEST
    trained_at_ms = int(times[~test].max(initial=0))
    truth = (material.fraud_known_ms < NEVER_MS).astype(np.int8)
    decided = times <= trained_at_ms - material.maturity_ms
    columns = np.array(material.labels, np.int32).reshape(-1, len(SessionLabel._fields))
    labels: Arrays = {name: columns[:, at].astype(np.int8) for at, name in enumerate(SessionLabel._fields)}
    return labels | {
        "fraud": fraud_labels(truth, material.fraud_known_ms, decided, trained_at_ms, test),
        "next_item": columns[:, SessionLabel._fields.index("next_item")],
    }


def _split(count: int, *, unseen: bool) -> NDArray[np.int8]:
    split = np.full(count, SPLITS.index("validation"), np.int8)
    if not unseen:
        split[: int(count * _TRAIN_UNTIL)] = SPLITS.index("train")
        split[int(count * _VALIDATION_UNTIL) :] = _TEST
    return split


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
