"""A training set from simulated shops: `[source] kind = "simulation"`.

Each shop is split by time of arrival into train, validation and test; a shop with `unseen` is all validation. Fraud labels are
those known at the end of the validation range, when the training begins: an event that is too young for a complaint has none.
Sessions that end a few minutes after that moment keep their labels. The test range has all labels.
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
from stream_app.simulator.catalogue import ItemCatalogue
from training.data.dataset import SPLITS, Arrays, Dataset, ItemTable
from training.data.simulated_shops import SimulatedShop, shops_from
from training.data.simulated_visits import SimulatedVisits, simulate_visits
from training.data.sources.events import NEVER_MS, EventFeaturizer, fraud_labels

_TRAIN_UNTIL: Final = 0.70  # shares of each shop's events, in order of arrival
_VALIDATION_UNTIL: Final = 0.85
_TEST: Final = SPLITS.index("test")


class _ShopRows(NamedTuple):
    inputs: Arrays
    labels: Arrays
    split: NDArray[np.int8]
    time_ms: NDArray[np.int64]
    users: list[str]


def dataset_from_simulation(paths: Sequence[Path], source: Mapping[str, Any], progress: Callable[[str], None]) -> Dataset:
    """Simulate the shops of a configuration (training/data/simulated_shops.py).

    Raises:
        ConfigError: The section is wrong, or there is a file.
    """
    if paths:
        raise ConfigError(f"{paths[0]} is given, but the configuration's source is a simulation; choose a --config for files.")
    return dataset_from_shops(shops_from(source), progress)


def dataset_from_shops(shops: Sequence[SimulatedShop], progress: Callable[[str], None] = lambda _: None) -> Dataset:
    """Simulate the shops, which have the same items (`shop_seed`, `items`), and compute features and labels of all their events.

    Raises:
        ContractError: A shop ends before a session is over, or the shops differ in their items.
    """
    featurizer, table = EventFeaturizer(), _item_table(shops)
    numbers = {item: number for number, item in enumerate(table.ids)}
    parts = [_shop_rows(featurizer, shop, numbers, progress) for shop in shops]
    users: dict[tuple[int, str], int] = {}  # equal names in two shops are different users
    keys = [users.setdefault((shop, user), len(users)) for shop, part in enumerate(parts) for user in part.users]
    return Dataset(
        inputs=_joined([part.inputs for part in parts]),
        labels=_joined([part.labels for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        segment=np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.split) for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        key=np.array(keys, np.int64),
        tasks=SHOP_TASKS,
        spec=featurizer.spec,
        table=table,
        feature_names=featurizer.feature_names,
        catalogue_hash=featurizer.catalogue_hash,
        segments=tuple(shop.text() for shop in shops),
    )


def _shop_rows(
    featurizer: EventFeaturizer, shop: SimulatedShop, numbers: dict[str, int], progress: Callable[[str], None]
) -> _ShopRows:
    progress(f"simulating {shop.text()}")
    visits = simulate_visits(shop, numbers)
    events = visits.events
    if not events:
        raise ContractError(
            f"{shop.text()}: it ends before any session is over. Operator action: give it more events or a lower rate."
        )
    progress(f"computing features of {len(events):,} events")
    inputs, rows = featurizer.fold(events, np.ones(len(events), np.bool_))
    split = np.full(len(events), SPLITS.index("validation"), np.int8)
    if not shop.unseen:
        split[: int(len(events) * _TRAIN_UNTIL)] = SPLITS.index("train")
        split[int(len(events) * _VALIDATION_UNTIL) :] = _TEST
    labels = {name: value[rows] for name, value in _labels(visits, split).items()}
    time_ms = np.array([event.event_time_ms for event in events], np.int64)[rows]
    return _ShopRows(inputs, labels, split[rows], time_ms, [event.user for event, row in zip(events, rows, strict=True) if row])


def _item_table(shops: Sequence[SimulatedShop]) -> ItemTable:
    first = shops[0].options
    item_sets = {(shop.options.shop_seed, shop.options.items) for shop in shops}
    if len(item_sets) != 1:
        raise ContractError(
            f"the shops differ in (shop_seed, items): {item_sets}; they share one item table. Operator action: give all the same."
        )
    items = ItemCatalogue(first.shop_seed or first.seed, first.items).items
    return ItemTable(
        ids=[item.id for item in items],
        items=np.array([item_bucket(item.id) for item in items], np.int32),
        categories=np.array([category_bucket(item.category) for item in items], np.int32),
    )


def _labels(visits: SimulatedVisits, split: NDArray[np.int8]) -> Arrays:
    times, test = visits.arrival_ms, split == _TEST
    trained_at_ms = int(times[~test].max(initial=0))
    truth = (visits.fraud_known_ms < NEVER_MS).astype(np.int8)
    mature = times <= trained_at_ms - visits.maturity_ms
    columns = np.array(visits.labels, np.int32).reshape(-1, len(SessionLabel._fields))
    labels: Arrays = {name: columns[:, at].astype(np.int8) for at, name in enumerate(SessionLabel._fields)}
    return labels | {
        "fraud": fraud_labels(truth, visits.fraud_known_ms, mature, trained_at_ms, test),
        "next_item": columns[:, SessionLabel._fields.index("next_item")],
    }


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
