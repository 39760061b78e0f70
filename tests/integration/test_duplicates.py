"""An event sent twice through real Kafka and Redis, to a real worker: counted once, answered twice with the first content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_app.admin.forget import group_of
from stream_app.clock import SystemClock
from stream_app.config import RedisSettings
from stream_app.events import Click, Order, OrderLine
from tests.integration.live_shop import PARTITIONS, LiveShop
from tests.integration.transport_harness import until

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow]

OWN_FIELDS = ("answer_id", "source", "ingest_time_ms", "duplicate_of")  # what may differ between two answers to one event
USER = "u-1042"
GROUP = group_of(USER, PARTITIONS)
AT_MS = SystemClock().now_ms() - 60_000
Open = Callable[[int], LiveShop]


@pytest.fixture
def open_shop(kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path) -> Iterator[Open]:
    """Opens a shop whose answers are kept for so many ms."""
    shops = []

    def opened(answers_kept_ms: int) -> LiveShop:
        redis = RedisSettings(url=redis_url, prefix=redis_prefix, answers_kept_ms=answers_kept_ms)
        shops.append(LiveShop(kafka_bootstrap, redis, topic_prefix, tmp_path))
        return shops[0]

    yield opened
    for shop in shops:
        shop.stop()


def order(number: int) -> Order:
    """Of nine of them with a card of its own each, the last one is card testing by the shipped rule."""
    return Order(
        event_id=f"o-{number}",
        user=USER,
        device="d-1",
        event_time_ms=AT_MS + number * 1_000,
        amount=10.0 + number,
        currency="EUR",
        lines=[OrderLine(item="i-1", category="c-1", unit_price=10.0 + number)],
        payment_instrument=f"card-{number}",
    )


ORDERS = [order(number) for number in range(9)]
CLICK = Click(event_id="k-1", user=USER, device="d-1", event_time_ms=AT_MS + 20_000, action="cart", item="i-1", category="c-1")


def content(shop: LiveShop, identifier: str) -> dict[str, Any]:
    told = shop.answers[identifier]
    return {topic: {name: value for name, value in said.items() if name not in OWN_FIELDS} for topic, said in told.items()}


def repeats(shop: LiveShop, identifier: str) -> set[str]:
    """What the answers say that they repeat."""
    return {said.get("duplicate_of", "") for said in shop.answers[identifier].values()}


def commit_of(shop: LiveShop, identifier: str) -> int:
    """The commit that answered, by the journal."""
    topic, group, offset = identifier.rsplit("-", 2)

    def commits() -> set[int]:
        shop.hears([])
        lines = [line for line in shop.journal if line["group"] == int(group) and topic in line["ranges"]]
        return {line["commit"] for line in lines if line["ranges"][topic][0] <= int(offset) < line["ranges"][topic][1]}

    until(lambda: bool(commits()), "the journal says which commit it was")
    [commit] = commits()
    return commit


def assert_counted_once(shop: LiveShop) -> None:
    """All of `ORDERS` and `CLICK`, for the user and for a shared entity."""
    for kind, entity in (("user", USER), ("device", "d-1")):
        tiles = shop.state(kind, entity, GROUP)["tiles"]
        counts = {name: sum(found.values()) for name, found in tiles.items()}
        events = {name: count for name, count in counts.items() if name.startswith("sum events/")}
        orders = {name: count for name, count in counts.items() if name.startswith("sum orders/")}
        assert events, tiles.keys()
        assert set(events.values()) == {len(ORDERS) + 1}
        assert set(orders.values()) == {len(ORDERS)}
    sequence = shop.state("user", USER, GROUP)["sequence"]
    assert [interaction["time_ms"] for interaction in sequence] == [event.event_time_ms for event in (*ORDERS, CLICK)]


def test_in_one_batch_in_two_and_after_a_restart_it_gets_the_first_answers(open_shop: Open) -> None:
    shop = open_shop(3_600_000)  # for longer than a busy machine can need
    before = shop.send([*ORDERS, ORDERS[8]])  # wait for the worker, so they are one batch
    shop.start()
    until(lambda: shop.hears(before), "the events are answered")
    first = before[8]
    assert commit_of(shop, before[9]) == commit_of(shop, first)
    [click] = shop.answered([CLICK])
    in_two = shop.answered([ORDERS[8], CLICK])
    assert commit_of(shop, in_two[0]) > commit_of(shop, first)
    shop.end()
    shop.start()
    restarted = shop.answered([ORDERS[8], CLICK])
    assert set(shop.answers[first]) == {"intent-labels", "recommendation-candidates", "fraud-alerts"}
    assert shop.answers[first]["fraud-alerts"]["rules"] == ["card_testing_velocity"]
    assert repeats(shop, first) == {""}
    for again in (before[9], in_two[0], restarted[0]):
        assert content(shop, again) == content(shop, first)
        assert repeats(shop, again) == {first}
    for again in (in_two[1], restarted[1]):
        assert content(shop, again) == content(shop, click)
        assert repeats(shop, again) == {click}
    assert_counted_once(shop)


def test_what_is_not_kept_is_decided_anew_and_names_the_commit(open_shop: Open) -> None:
    shop = open_shop(0)
    shop.start()
    [*_, first] = shop.answered(ORDERS)
    shop.answered([CLICK])  # its step takes the orders' answers from the outbox
    [again] = shop.answered([ORDERS[8]])
    assert repeats(shop, again) == {f"commit-{GROUP}-{commit_of(shop, first)}"}
    assert shop.answers[again]["intent-labels"]["scored_time_ms"] > shop.answers[first]["intent-labels"]["scored_time_ms"]
    assert_counted_once(shop)
