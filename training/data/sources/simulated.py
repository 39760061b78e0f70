"""A training set from simulated shops: `[source] kind = "simulation"`.

Each shop is split by time of arrival into train, validation and test; a shop with `unseen` is all validation. Fraud labels are
those known at the end of the validation range, when the training begins: an event that is too young for a complaint has none.
Sessions that end a few minutes after that moment keep their labels. The test range has all labels.

They come from the messages on `labels`, joined by event id, as in a real shop: a chargeback names a fraudulent event and the time
when it became known; an event without chargeback is honest once the longest delay has passed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.tasks import SHOP_TASKS
from stream_app.errors import ConfigError, ContractError
from stream_app.evaluation.session_labels import SessionLabel, session_labels, step_of
from stream_app.events import Event, Label
from stream_app.features.columns.event_columns import category_bucket, item_bucket
from stream_app.simulator.arrivals import SECOND_OF_TWO
from stream_app.simulator.catalogue import ItemCatalogue
from stream_app.simulator.shop import arrivals
from training.data.dataset import SPLITS, Arrays, Dataset, ItemTable
from training.data.simulated_shops import SimulatedShop, shops_from
from training.data.sources.events import NEVER_MS, EventFeaturizer, fraud_labels

_TRAIN_UNTIL: Final = 0.70  # shares of each shop's events, in order of arrival
_VALIDATION_UNTIL: Final = 0.85
_TEST: Final = SPLITS.index("test")

_LONGEST_DELAY: Final = 2  # a label takes at most twice the typical delay (SimulatorOptions.label_delay_ms)
_BOT: Final = "bot_clicking"
# Pause that ends a session. The simulator's people read an item for at most 144 s (twice that in 4 min).
_SESSION_OVER_MS: Final = 4 * 60_000


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
        inputs=joined([part.inputs for part in parts]),
        labels=joined([part.labels for part in parts]),
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


def joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Arrays:
    """Return the rows of all parts, by tensor."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class SimulatedVisits:
    """N labelled events of one shop in order of arrival, without the last minutes, whose sessions may continue.

    Attributes:
        events: the events.
        arrival_ms: (N,) int64, ascending; later than the event's time for those that came late or out of order.
        labels: labels from the rest of the session.
        fraud_known_ms: (N,) int64, when an event became known as fraud; NEVER_MS if never.
        maturity_ms: age at which an event without a complaint counts as honest.
    """

    events: list[Event]
    arrival_ms: NDArray[np.int64]
    labels: list[SessionLabel]
    fraud_known_ms: NDArray[np.int64]
    maturity_ms: int


def simulate_visits(shop: SimulatedShop, item_numbers: dict[str, int]) -> SimulatedVisits:
    """Run one simulation and label its observed events; `item_numbers`: item id -> number in the item table."""
    events: list[Event] = []
    times_ms: list[int] = []
    frauds: dict[str, Label] = {}
    for arrival in arrivals(shop.options):
        message = arrival.message
        if isinstance(message, Label):
            if message.task == "fraud" and message.value > 0:
                frauds[message.event_id] = message
        elif not arrival.damage and arrival.copy != SECOND_OF_TWO and arrival.topic in shop.topics:
            events.append(message)
            times_ms.append(arrival.arrival_ms)
    arrival_ms = np.array(times_ms, np.int64)
    known_ms = [frauds[e.event_id].label_time_ms if e.event_id in frauds else NEVER_MS for e in events]
    bots = {event_id for event_id, label in frauds.items() if label.kind == _BOT}
    usable = int(np.searchsorted(arrival_ms, arrival_ms.max(initial=0) - _SESSION_OVER_MS))
    return SimulatedVisits(
        events=[_observed(event, shop) for event in events[:usable]],
        arrival_ms=arrival_ms[:usable],
        labels=_label_sessions(events, usable, bots, item_numbers)[:usable],
        fraud_known_ms=np.array(known_ms[:usable], np.int64),
        maturity_ms=_LONGEST_DELAY * shop.options.label_delay_ms,
    )


def _observed(event: Event, shop: SimulatedShop) -> Event:
    changes = {name: default for name, default in _defaults(type(event)).items() if name in shop.hidden}
    if shop.tills:
        changes["device"] = f"till-{crc32(event.event_id.encode()) % shop.tills}"
    return msgspec.structs.replace(event, **changes) if changes else event


@cache
def _defaults(kind: type[Event]) -> dict[str, Any]:
    """Return the default of each field of a kind of event; cached, because msgspec takes 0.1 ms."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def _label_sessions(events: list[Event], usable: int, bots: set[str], item_numbers: dict[str, int]) -> list[SessionLabel]:
    """Label the sessions whose last event is among the first `usable` events; the others may continue."""
    sessions: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, event in enumerate(events):
        sessions[event.user, event.session].append(place)
    labels = [SessionLabel()] * len(events)
    for places in sessions.values():
        if places[-1] >= usable:
            continue
        places.sort(key=lambda place: events[place].event_time_ms)  # in order of action, not of arrival
        steps = [step_of(events[place], item_numbers) for place in places]
        session = session_labels(steps, bot=events[places[0]].event_id in bots)
        for place, label in zip(places, session, strict=True):
            labels[place] = label
    return labels
