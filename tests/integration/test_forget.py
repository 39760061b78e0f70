"""`millrace forget` beside a worker that works: one person goes from the real Redis, and nobody else."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from stream_app.admin.forget import group_of
from stream_app.clock import SystemClock
from stream_app.config import RedisSettings
from stream_app.events import Click, Event
from tests.integration.live_shop import PARTITIONS, LiveShop
from tests.scoring import BASE_MS, make_events

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

USER = "u-1042"
GROUP = group_of(USER, PARTITIONS)
NEIGHBOUR = next(user for user in map("u-{}".format, itertools.count()) if group_of(user, PARTITIONS) == GROUP)
NOW_MS = SystemClock().now_ms()
EVENTS = [
    msgspec.structs.replace(event, event_time_ms=event.event_time_ms - BASE_MS + NOW_MS - 700_000)
    for event in make_events(60, users=[USER, NEIGHBOUR], devices=["d-1"])
]


@pytest.fixture
def shop(kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path) -> Iterator[LiveShop]:
    made = LiveShop(kafka_bootstrap, RedisSettings(url=redis_url, prefix=redis_prefix), topic_prefix, tmp_path)
    yield made
    made.stop()


def forgetting(shop: LiveShop, user: str) -> subprocess.Popen[str]:
    """The command, under way."""
    command = [sys.executable, "-m", "stream_app", "forget", user, "--json", "--wait", "30"]
    return subprocess.Popen(command, env=shop.environ(), stdout=subprocess.PIPE, text=True)


def told(command: subprocess.Popen[str], status: int) -> dict[str, Any]:
    output, _ = command.communicate(timeout=90)
    assert command.returncode == status, output
    said: dict[str, Any] = json.loads(output)
    return said


def kinds_of(shop: LiveShop, user: str) -> set[str]:
    """Of which kinds there are keys of the user, whatever their group."""
    with redis.Redis.from_url(shop.settings.redis.url) as client:
        keys = client.scan_iter(match=f"{shop.settings.redis.prefix}:*{shop.digest('user', user).hex()}*", count=5_000)
        return {key.decode().split(":")[-2] for key in keys}


def another(number: int) -> Event:
    at_ms = SystemClock().now_ms()
    return Click(event_id=f"more-{number}", user=NEIGHBOUR, device="d-1", event_time_ms=at_ms, action="view", item="i-1")


def test_one_person_goes_while_the_neighbours_events_are_scored(shop: LiveShop) -> None:
    shop.start()
    shop.answered(EVENTS)
    assert kinds_of(shop, USER) == {"user", "session", "user_category"}
    theirs = len(shop.state("user", NEIGHBOUR, GROUP)["sequence"])
    command = forgetting(shop, USER)
    sent: list[str] = []
    while command.poll() is None:
        sent += shop.answered([another(len(sent))])
    said = told(command, 0)
    assert said["proved"] is True
    assert (said["user"], said["group"], said["groups"]) == (USER, GROUP, [GROUP])
    assert set(said["erased"]) == {"user", "session", "user_category", "answers"}
    assert (said["left"]["since_the_call_ms"], said["left"]["answers_not_published"]) == (None, [])
    assert kinds_of(shop, USER) == set()
    assert len(shop.state("user", NEIGHBOUR, GROUP)["sequence"]) == min(32, theirs + len(sent))


def test_without_a_worker_it_is_proved_by_waiting_and_what_comes_later_is_kept(shop: LiveShop) -> None:
    shop.start()
    shop.answered(EVENTS)
    shop.end()
    assert told(forgetting(shop, USER), 0)["proved"] is True
    assert kinds_of(shop, USER) == set()
    shop.start()
    back = msgspec.structs.replace(another(0), user=USER)
    [identifier] = shop.answered([back])
    assert "duplicate_of" not in shop.answers[identifier]["intent-labels"]
    said = told(forgetting(shop, "u-never-there"), 0)
    assert (said["erased"], said["proved"]) == ({}, True)
    assert len(shop.state("user", USER, GROUP)["sequence"]) == 1
