"""The training set: repeatable, point-in-time features, and only labels that were known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.contract import INPUTS
from model.tasks import Task
from stream_app.errors import ContractError
from stream_app.events import KINDS, NEXT_ACTIONS, Order
from stream_app.simulator.options import SimulatorOptions
from training.data.dataset import UNKNOWN, Dataset, load_dataset, save_dataset
from training.data.simulated_shops import SimulatedShop
from training.data.sources.events import NEVER_MS
from training.data.sources.simulated import dataset_from_shops, simulate_visits

OPTIONS = SimulatorOptions(
    seed=5,
    shop_seed=5,
    users=40,
    items=200,
    events=1_500,
    events_per_s=0.5,
    fraud_share=0.2,
    label_delay_ms=120_000,
    malformed_share=0.0,
    late_share=0.0,
    out_of_order_share=0.0,
)
SHOP = SimulatedShop(OPTIONS)
NUMBERS = {f"i{n}": n for n in range(OPTIONS.items)}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_from_shops([SHOP])


def arrivals_of(dataset: Dataset) -> NDArray[np.int64]:
    visits = simulate_visits(SHOP, NUMBERS)
    assert len(visits.events) == len(dataset)  # in this shop nothing comes late
    assert (np.diff(visits.arrival_ms) >= 0).all()
    return visits.arrival_ms


def test_the_tensors_are_the_contracts(dataset: Dataset) -> None:
    features = len(dataset.feature_names)
    for spec in INPUTS:
        shape = tuple(features if size == -1 else size for size in spec.shape)
        assert dataset.inputs[spec.name].shape == (len(dataset), *shape)
        assert dataset.inputs[spec.name].dtype == spec.dtype
    assert np.isfinite(dataset.inputs["dense"]).all()


def test_the_same_shop_gives_the_same_bytes(dataset: Dataset) -> None:
    again = dataset_from_shops([SHOP])
    for one, other in ((dataset.inputs, again.inputs), (dataset.labels, again.labels)):
        assert {name: value.tobytes() for name, value in one.items()} == {name: value.tobytes() for name, value in other.items()}


def test_an_events_features_do_not_know_what_comes_after_it(dataset: Dataset) -> None:
    longer = dataset_from_shops([SimulatedShop(replace(OPTIONS, events=1_800))])
    for name, value in dataset.inputs.items():
        assert np.array_equal(value, longer.inputs[name][: len(dataset)]), name


def test_an_event_that_comes_too_late_is_not_in_the_set() -> None:
    shop = SimulatedShop(replace(OPTIONS, late_share=0.2))  # up to 36 hours; the worker allows 24
    visits = simulate_visits(shop, NUMBERS)
    assert 0 < len(visits.events) - len(dataset_from_shops([shop])) < 0.2 * len(visits.events)


def test_the_newest_of_the_sequence_stands_last_with_the_smallest_gap(dataset: Dataset) -> None:
    kinds, gaps = dataset.inputs["sequence_ids"][:, :, 2], dataset.inputs["sequence_gaps"]
    real = kinds > 0
    assert (np.diff(real.astype(int), axis=1) >= 0).all()  # padding in front
    assert (np.diff(gaps, axis=1)[real[:, :-1]] <= 0).all()
    assert kinds.max() <= len(KINDS)


def test_the_next_event_has_what_the_user_searched_for(dataset: Dataset) -> None:
    own, past = dataset.inputs["query"], dataset.inputs["query_ids"]
    searches = dataset.inputs["context"][:, 0] == KINDS.index("search")
    assert np.array_equal(own.any(axis=1), searches)
    assert (past[:, -1, 0] > 0).mean() > searches.mean()  # the newest stands last, and stays for what follows it
    assert set(np.unique(past[:, :, 0])) <= {0, *np.unique(own[:, 0])}


def test_only_the_observed_part_of_a_shop_is_learnt_from() -> None:
    shop = SimulatedShop(OPTIONS, ("orders",), ("session", "ip"), tills=3)
    observed, whole = simulate_visits(shop, NUMBERS), simulate_visits(SHOP, NUMBERS)
    assert [e.event_id for e in observed.events] == [e.event_id for e in whole.events if isinstance(e, Order)][
        : len(observed.events)
    ]
    assert {(e.session, e.ip) for e in observed.events} == {("", "")}
    assert {e.device for e in observed.events} == {"till-0", "till-1", "till-2"}
    assert {e.user for e in observed.events} <= {e.user for e in whole.events}
    actions = {NEXT_ACTIONS[label.next_action] for label in observed.labels if label.next_action != UNKNOWN}
    assert actions <= {"order", "leave"}  # labels use the observed events only
    assert shop.text().endswith("without session, ip, only orders, 3 tills")


def test_the_split_is_by_time(dataset: Dataset) -> None:
    times = arrivals_of(dataset)
    train, validation, test = (times[dataset.rows(split)] for split in ("train", "validation", "test"))
    assert train.max() <= validation.min() <= validation.max() <= test.min()
    assert len(train) > len(validation) > 0
    assert len(test) > 0


def test_an_unseen_shop_is_validation_only(dataset: Dataset) -> None:
    both = dataset_from_shops([SHOP, SimulatedShop(replace(OPTIONS, seed=6, shop_seed=5, events=500), unseen=True)])
    assert np.array_equal(both.split[both.segment == 0], dataset.split)
    assert (both.split[both.segment == 1] == 1).all()
    assert (both.labels["fraud"][both.segment == 1] == 1).any()


def test_fraud_is_unknown_while_a_complaint_could_still_come(dataset: Dataset) -> None:
    visits = simulate_visits(SHOP, NUMBERS)
    times = arrivals_of(dataset)
    past, fraud = dataset.split < 2, dataset.labels["fraud"]
    now_ms = times[past].max()
    young = past & (times > now_ms - 2 * OPTIONS.label_delay_ms)
    assert young.sum() > 0
    assert (fraud[young] == UNKNOWN).all()
    assert (fraud[~young] != UNKNOWN).all()
    known_later = past & (visits.fraud_known_ms > now_ms) & (visits.fraud_known_ms < NEVER_MS)
    assert (fraud[known_later & ~young] == 0).all()  # nobody had complained yet
    assert np.array_equal(fraud[~past] == 1, visits.fraud_known_ms[~past] < NEVER_MS)
    assert (fraud == 1).sum() > 50


def test_every_session_that_is_over_has_labels_and_no_other(dataset: Dataset) -> None:
    intent, action = dataset.labels["intent"], dataset.labels["next_action"]
    assert ((intent == UNKNOWN) == (action == UNKNOWN)).all()
    assert (intent != UNKNOWN).mean() > 0.9
    views = dataset.inputs["context"][:, 0] == KINDS.index("view")
    assert np.array_equal(dataset.labels["click"] != UNKNOWN, views & (intent != UNKNOWN))
    assert (dataset.labels["click"][dataset.labels["conversion"] == 1] == 1).all()  # what is ordered was taken
    assert (dataset.labels["conversion"] == 1).any()


def test_a_saved_set_is_the_same_when_it_is_loaded(dataset: Dataset, tmp_path: Path) -> None:
    described = replace(dataset, notes={"rows": 3}, made_from="a shop", fitted={"codes": np.array(["a", "b"])})
    save_dataset(described, tmp_path / "set.npz")
    loaded = load_dataset(tmp_path / "set.npz")
    assert loaded.table is not None
    assert dataset.table is not None
    assert loaded.table.ids == dataset.table.ids
    for name in ("tasks", "spec", "feature_names", "catalogue_hash", "segments", "notes", "made_from"):
        assert getattr(loaded, name) == getattr(described, name), name
    for name in ("split", "segment", "time_ms", "key"):
        assert np.array_equal(getattr(loaded, name), getattr(described, name)), name
    for name, value in (described.inputs | described.labels | described.fitted).items():
        assert np.array_equal(value, (loaded.inputs | loaded.labels | loaded.fitted)[name]), name


def test_a_file_of_an_older_program_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", split=np.zeros(3))
    with pytest.raises(ContractError, match=r"format 1, this program has 2.*delete the file"):
        load_dataset(tmp_path / "set.npz")


def test_arrays_of_different_lengths_and_tasks_without_labels_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ContractError, match=r"differ in length.*'key': 1"):
        replace(dataset, key=dataset.key[:1])
    with pytest.raises(ContractError, match="no labels for taste; it has fraud"):
        replace(dataset, tasks=(Task(name="taste", kind="binary", label="taste"),), labels={"fraud": dataset.labels["fraud"]})


def test_known_rows_of_a_split_are_those_with_a_label(dataset: Dataset) -> None:
    known = dataset.known("click", "test")
    assert (dataset.labels["click"][known] != UNKNOWN).all()
    assert len(known) == ((dataset.split == 2) & (dataset.labels["click"] != UNKNOWN)).sum()


def test_another_file_is_refused_as_training_set(tmp_path: Path) -> None:
    for content in (b"", b"PK broken", b"user,item\n"):
        (tmp_path / "set.npz").write_bytes(content)
        with pytest.raises(ContractError, match=r"is no readable training set .*Operator action"):
            load_dataset(tmp_path / "set.npz")


def test_the_same_name_in_two_shops_is_two_users(dataset: Dataset) -> None:
    both = dataset_from_shops([SHOP, SHOP])
    first, second = (both.key[both.segment == shop] for shop in (0, 1))
    assert np.array_equal(first, dataset.key)
    assert not set(first) & set(second)


def test_a_saved_set_of_another_catalogue_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    save_dataset(replace(dataset, catalogue_hash="fedcba9876543210"), tmp_path / "set.npz")
    with pytest.raises(ContractError, match=r"fedcba9876543210, this program has .*delete the file"):
        load_dataset(tmp_path / "set.npz")


def test_a_shop_that_is_too_short_for_a_session_to_be_over_is_refused() -> None:
    with pytest.raises(ContractError, match=r"seed 5: 20 at 0.5/s: it ends before .* more events"):
        dataset_from_shops([SimulatedShop(replace(OPTIONS, events=20))])


def test_shops_with_different_items_are_refused() -> None:
    with pytest.raises(ContractError, match="share one item table"):
        dataset_from_shops([SHOP, SimulatedShop(replace(OPTIONS, items=300))])
