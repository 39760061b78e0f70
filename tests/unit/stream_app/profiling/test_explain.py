from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from stream_app.errors import ConfigError
from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.profiling.explain import (
    NEWEST,
    ExplainedFeatures,
    explain,
    explained_json,
    explained_text,
    time_from_text,
)
from stream_app.store.memory import MemoryStore
from stream_app.store.port import GroupStep, StateWrite

NOON = 1_700_000_000_000
IDENTITY = Pseudonymizer(b"a key of the tests")
ENGINE = FeatureEngine(CATALOGUE, allowed_lateness_ms=86_400_000)


def order(user: str, number: int, amount: float) -> Order:
    return Order(
        event_id=f"o{user}{number}", user=user, event_time_ms=NOON + 60_000 * number, device="d1", lines=[OrderLine(item="i")],
        amount=amount, currency="EUR",
    )  # fmt: skip


EVENTS: list[tuple[int, Event]] = [
    (2, Search(event_id="s", user="u1", event_time_ms=NOON - 1_000, query="red shoes")),
    (2, Click(event_id="c", user="u1", event_time_ms=NOON, action="view", item="i", category="shoes", price=5.0, device="d1")),
    (2, order("u1", 1, 10.0)),
    (2, order("u1", 2, 30.0)),
    (5, order("u2", 3, 200.0)),
]


async def stored(events: Sequence[tuple[int, Event]]) -> MemoryStore:
    """A store that holds what a worker would have committed."""
    store = MemoryStore(8, frozenset(kind.name for kind in ENGINE.kinds if kind.shared))
    await store.layouts(ENGINE.layout_records())
    claims = {group: await store.claim(group, "w") for group in {group for group, _ in events}}
    for number, (group, event) in enumerate(events):
        columns = ENGINE.columns([event], [group], IDENTITY)
        rows = ENGINE.rows(columns)
        snapshot = await store.read(rows)
        own = {kind: ENGINE.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
        ENGINE.fold(columns, rows, own, {kind: ENGINE.merge(kind, replicas) for kind, replicas in snapshot.others.items()})
        writes = [
            StateWrite(kind.name, kind.shared, rows[kind.name].keys, ENGINE.pack(kind.name, own[kind.name]), kind.ttl_ms)
            for kind in ENGINE.kinds
            if len(rows[kind.name])
        ]
        before = sum(g == group for g, _ in events[:number])
        step = GroupStep(group, claims[group].epoch, {"orders": (before, before + 1)}, b"", writes, after=before)
        assert (await store.commit([step]))[0].commit == before + 1
    return store


def explained(entity: str, name: str, at_ms: int = NEWEST, group: int = 2) -> ExplainedFeatures:
    async def run() -> ExplainedFeatures:
        store = await stored(EVENTS)
        return await explain(store, ENGINE, entity, name, IDENTITY.digest(entity, name), group, at_ms)

    return asyncio.run(run())


def text(found: ExplainedFeatures) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        for part in explained_text(found, CATALOGUE):
            console.print(part)
    return capture.get()


def test_a_users_features_are_what_the_next_event_would_read() -> None:
    found = explained("user", "u1")
    assert found.at_ms == NOON + 120_001
    assert found.features["user_orders_1h"] == 2.0
    assert found.features["user_spend_1h"] == 40.0
    assert found.features["user_searches_1h"] == 1.0
    assert found.features["user_order_mean_30d"] == 20.0
    assert list(found.features) == [f.name for f in CATALOGUE.features if f.entity == "user"]


def test_the_features_are_those_that_the_fold_gives_an_event() -> None:
    async def run() -> dict[str, float]:
        store = await stored(EVENTS)
        columns = ENGINE.columns([Search(event_id="x", user="u1", event_time_ms=NOON + 120_001, query="")], [2], IDENTITY)
        rows = ENGINE.rows(columns)
        own = {kind: ENGINE.unpack(kind, blobs) for kind, blobs in (await store.read(rows)).own.items()}
        dense = ENGINE.fold(columns, rows, own, {}).dense[0]
        return {name: float(value) for name, value in zip(ENGINE.feature_names, dense, strict=True)}

    folded, found = asyncio.run(run()), explained("user", "u1")
    values_of_its_own = {f.name for f in CATALOGUE.features if f.measure in ("hour", "weekday", "scene", "network")}
    same = [name for name in found.features if name not in values_of_its_own]
    assert len(same) > 60
    assert {name: found.features[name] for name in same} == {name: folded[name] for name in same}


def test_a_later_time_reads_less() -> None:
    assert explained("user", "u1", NOON + 86_400_000).features["user_orders_1h"] == 0.0
    assert explained("user", "u1", NOON + 86_400_000).features["user_orders_7d"] == 2.0


def test_a_shared_entitys_replicas_are_merged_from_whatever_group_it_is_read() -> None:
    for group in (0, 2, 5):  # one without a replica, and both that hold one
        found = explained("device", "d1", group=group)
        assert found.features["device_orders_1d"] == 3.0
        assert found.features["device_spend_1d"] == 240.0
        assert found.features["device_distinct_users_1d"] == 2.0
        assert (found.group, found.groups) == (-1, 2)
        assert explained_json(found)["groups"] == 2


def test_the_json_has_the_user_the_group_the_features_and_the_state() -> None:
    line = explained_json(explained("user", "u1"))
    assert line["user"] == "u1"
    assert line["group"] == 2
    state = line["state"]
    assert isinstance(state, dict)
    assert state["newest_ms"] == NOON + 120_000
    assert sum(state["tiles"]["sum orders/1h"].values()) == 2
    assert [entry["kind"] for entry in state["sequence"]] == ["search", "view", "order", "order"]
    assert state["session"]["sums"]["events"] == 4
    assert len(state["queries"]) == 1


def test_a_person_is_shown_features_and_the_state_they_come_from() -> None:
    shown = text(explained("user", "u1"))
    for part in ("user u1, partition group 2", "user_orders_1h", "sum orders/1h", "distinct item/1h", "session", "sequence"):
        assert part in shown
    assert "every window is empty" in text(explained("user", "u1", NOON + 90 * 86_400_000))
    assert "its tiles may know more" in text(explained("user", "u1", NOON))


def test_of_an_unknown_user_the_defaults_and_why_that_may_be() -> None:
    found = explained("user", "nobody")
    assert not found.known
    # Without an own value a ratio is 0, whatever the past.
    wanted = {f.name: float(np.float32(f.default)) for f in CATALOGUE.features if f.entity == "user" and f.aggregation != "ratio"}
    assert {name: found.features[name] for name in wanted} == wanted
    assert "knows nothing of it" in text(found)
    assert explained_json(found)["known"] is False
    assert not explained("device", "nothing").known


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("newest", NEWEST),
        ("1700000000000", 1_700_000_000_000),
        ("1700000000", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
    ],
)
def test_a_time_is_read_however_it_is_written(given: str, ms: int) -> None:
    assert time_from_text(given) == ms


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="--at 'yesterday' is no time"):
        time_from_text("yesterday")
