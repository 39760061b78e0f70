"""`millrace features explain` against a real Redis: what a store holds is read back by the command, with its group."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner

from stream_app.__main__ import millrace
from stream_app.admin.forget import group_of
from stream_app.events import Order, OrderLine
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.privacy import Pseudonymizer
from stream_app.store.port import GroupStep, StateWrite
from stream_app.store.redis_store import RedisStore

NOON = 1_700_000_000_000
PARTITIONS = 6
KEY = "a key of sixteen or more characters"
ENGINE = FeatureEngine(CATALOGUE, allowed_lateness_ms=86_400_000)


async def store_two_orders(url: str, prefix: str) -> None:
    shared = frozenset(kind.name for kind in ENGINE.kinds if kind.shared)
    store = RedisStore(url, prefix=prefix, groups=PARTITIONS, shared_kinds=shared)
    identity = Pseudonymizer(KEY.encode())
    try:
        await store.layouts(ENGINE.layout_records())
        for user in ("u-1", "u-2"):
            event = Order(
                event_id=user,
                user=user,
                event_time_ms=NOON,
                device="d-1",
                lines=[OrderLine(item="i")],
                amount=12.5,
                currency="EUR",
            )
            group = group_of(user, PARTITIONS)
            columns = ENGINE.columns([event], [group], identity)
            rows = ENGINE.rows(columns)
            claim, snapshot = await store.claim(group, "w"), await store.read(rows)
            own = {kind: ENGINE.unpack(kind, blobs) for kind, blobs in snapshot.own.items()}
            ENGINE.fold(columns, rows, own, {})
            writes = [
                StateWrite(kind.name, kind.shared, rows[kind.name].keys, ENGINE.pack(kind.name, own[kind.name]), kind.ttl_ms)
                for kind in ENGINE.kinds
                if len(rows[kind.name])
            ]
            step = GroupStep(group, claim.epoch, {"orders": (0, 1)}, b"", writes, after=claim.commit)
            await store.commit([step])
    finally:
        await store.close()


def test_a_user_and_a_device_are_explained_from_what_the_store_holds(
    redis_url: str, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert group_of("u-1", PARTITIONS) != group_of("u-2", PARTITIONS)  # so that the device has two replicas
    asyncio.run(store_two_orders(redis_url, redis_prefix))
    for name, value in (("REDIS_URL", redis_url), ("REDIS_PREFIX", redis_prefix), ("KAFKA_PARTITIONS", str(PARTITIONS))):
        monkeypatch.setenv(f"MILLRACE_{name}", value)
    monkeypatch.setenv("MILLRACE_PRIVACY_ID_KEY", KEY)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # set by what the command imports, for the whole process
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")

    def explained(*args: str) -> dict[str, Any]:
        result = CliRunner().invoke(millrace, ["features", "explain", *args, "--at", "newest", "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    user = explained("u-1")
    assert (user["user"], user["group"], user["at_ms"]) == ("u-1", group_of("u-1", PARTITIONS), NOON + 1)
    assert (user["features"]["user_orders_1h"], user["features"]["user_spend_1h"]) == (1.0, 12.5)
    assert user["state"]["newest_ms"] == NOON
    device = explained("d-1", "--entity", "device")
    assert device["groups"] == 2
    assert (device["features"]["device_orders_1d"], device["features"]["device_distinct_users_1d"]) == (2.0, 2.0)
    assert explained("u-3")["known"] is False
    shown = CliRunner().invoke(millrace, ["features", "explain", "u-1", "--at", "newest"])
    assert "user_orders_1h" in shown.output
