from __future__ import annotations

import secrets

import redis
from rich.console import Console

from stream_app.events import Click, Event
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.profiling.estimate import KEY_BYTES, MeasuredState, estimate_json, estimate_table, measure
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulated_events

NOON = 1_700_000_000_000
DAY_MS = 86_400_000
ENGINE = FeatureEngine(CATALOGUE, allowed_lateness_ms=DAY_MS)
IDENTITY = Pseudonymizer(b"a key of the tests")


def clicks(users: int, each: int, every_ms: int) -> list[Event]:
    return [
        Click(event_id=f"{n}-{u}", user=f"u{u}", event_time_ms=NOON + n * every_ms, action="view", item="i", device=f"d{u % 2}")
        for n in range(each)
        for u in range(users)
    ]


def measured(events: list[Event], groups: int = 4) -> MeasuredState:
    return measure(ENGINE, IDENTITY, events, lambda user: int(user[1:]) % groups)


def test_every_user_is_a_blob_and_every_shared_entity_one_for_each_group_that_sees_it() -> None:
    found = {kind.kind: kind for kind in measured(clicks(users=8, each=3, every_ms=1_000)).kinds}
    assert (found["user"].entities, found["user"].count) == (8, 8)
    assert (found["item"].entities, found["item"].count) == (1, 4)
    assert (found["device"].entities, found["device"].count) == (2, 4)
    assert found["query"].count == found["query"].p99 == 0
    assert 0 < found["user"].p50 <= found["user"].p95 <= found["user"].p99 <= found["user"].most
    assert found["user"].total <= 8 * found["user"].most


def test_the_blobs_are_those_of_one_fold_over_everything() -> None:
    events = clicks(users=2, each=2_500, every_ms=10_000)  # more than a batch
    columns = ENGINE.columns(events, [0] * len(events), IDENTITY)
    rows = ENGINE.rows(columns)
    own = {kind: ENGINE.unpack(kind, [None] * len(needed)) for kind, needed in rows.items()}
    ENGINE.fold(columns, rows, own, {})
    lengths = {kind: sum(len(blob) for blob in ENGINE.pack(kind, state)) for kind, state in own.items()}
    assert {kind.kind: kind.total for kind in measured(events, groups=1).kinds if kind.count} == {
        kind: length for kind, length in lengths.items() if length
    }


def test_what_has_expired_by_the_end_is_not_counted() -> None:
    late: list[Event] = [Click(event_id="z", user="u9", event_time_ms=NOON + 100 * DAY_MS, action="view", item="j")]
    found = {kind.kind: kind for kind in measured(clicks(users=3, each=1, every_ms=1) + late).kinds}
    assert found["user"].count == 1
    assert found["device"].count == 0


def test_figures_grow_with_users_and_items_but_not_what_is_asked_for() -> None:
    options = SimulatorOptions(events=3_000, users=200, items=40)
    found = measure(ENGINE, IDENTITY, (e.event for e in simulated_events(options)), lambda user: hash(user) % 4)
    plain, grown = estimate_json(found), estimate_json(found, 10 * found.users, 400)
    assert plain["events"] == 3_000 or abs(int(str(plain["events"])) - 3_000) < 100
    was, now = plain["entities"], grown["entities"]
    assert isinstance(was, dict)
    assert isinstance(now, dict)
    assert list(was) == [kind.name for kind in CATALOGUE.kinds]
    assert now["user"]["count"] == 10 * was["user"]["count"]
    assert now["user"]["bytes_p99"] == was["user"]["bytes_p99"]
    assert now["query"] == was["query"]
    assert now["item"]["count"] > was["item"]["count"]
    for figures in (plain, grown):
        entities = figures["entities"]
        assert isinstance(entities, dict)
        assert figures["total_bytes"] == sum(kind["total_bytes"] for kind in entities.values())
        assert figures["redis_bytes"] == sum(kind["redis_bytes"] for kind in entities.values())


def test_the_table_has_a_row_for_each_kind_and_one_for_all() -> None:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(estimate_table(estimate_json(measured(clicks(3, 2, 1_000)))))
    for kind in (*(k.name for k in CATALOGUE.kinds), "all"):
        assert kind in capture.get()


def test_the_bytes_that_redis_adds_to_a_key_are_about_what_is_said(redis_url: str, redis_prefix: str) -> None:
    # Of its own allocator, so of the key's own size class; the tables' entries (40 bytes or more a key) come on top.
    with redis.Redis.from_url(redis_url) as client:
        key = f"{redis_prefix}:{{g3}}:user:{secrets.token_hex(16)}"
        client.set(key, b"x" * 90, px=60_000)
        counted = client.memory_usage(key, samples=0)
    assert KEY_BYTES - 80 <= int(counted or 0) - 90 <= KEY_BYTES
