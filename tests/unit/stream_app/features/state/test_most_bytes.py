"""The bound of a blob's size in docs/features.md, against entities with every kind of event."""

from __future__ import annotations

import random
import re

import pytest

from stream_app.docgen.features_page import features_markdown, most_bytes
from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import EntityKind
from stream_app.features.state.layout import kind_layout
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, DAY_MS, NOON, Run, new_run

DAYS, EVENTS = 45, 6_000


def hot_log() -> list[Event]:
    """Everything comes from one device at one address, each time with another user, card, item and amount; the end is dense."""
    numbers = random.Random(7)
    spans = [DAYS * DAY_MS, 7 * DAY_MS, DAY_MS, 3_600_000, 600_000, 60_000]
    end = NOON + DAYS * DAY_MS
    times = sorted(end - numbers.randrange(spans[n % len(spans)]) for n in range(EVENTS))
    log: list[Event] = []
    for n, at in enumerate(times):
        who = {"event_id": f"e{n}", "user": f"u{n}", "device": "hot", "ip": "10.0.0.1", "session": f"s{n}", "event_time_ms": at}
        line = OrderLine(item=f"i{n}", category=f"c{n}", quantity=999, unit_price=numbers.randrange(1, 10**8) / 100)
        if n % 3 == 0:
            log.append(Search(**who, query=f"query number {n}", items_shown=[f"i{n}"]))  # type: ignore[arg-type]
        elif n % 3 == 1:
            cards = {"payment_instrument": f"p{n}", "shipping_address": f"a{n}", "billing_country": "DE", "ip_country": "CN"}
            amount = numbers.randrange(1, 10**11) / 100
            log.append(Order(**who, **cards, lines=[line, line], amount=amount, currency="EUR"))  # type: ignore[arg-type]
        else:
            seen = {"item": f"i{n}", "category": f"c{n}", "price": line.unit_price, "dwell_ms": 86_000_000, "position": 999}
            log.append(Click(**who, **seen, action=numbers.choice(("view", "click", "cart", "favourite"))))  # type: ignore[arg-type]
    return log


@pytest.fixture(scope="module")
def run() -> Run:
    made = new_run(lateness_ms=ALL_ORDERS_MS)
    made.batches(hot_log(), 1_000)
    return made


def test_the_page_states_the_bound_of_every_kind() -> None:
    page = features_markdown(CATALOGUE)
    for kind in CATALOGUE.kinds:
        [row] = re.findall(rf"^\| {kind.name} \|.*\| ([\d,]+) bytes \|$", page, re.MULTILINE)
        assert int(row.replace(",", "")) == most_bytes(kind_layout(CATALOGUE, kind))


@pytest.mark.parametrize("kind", CATALOGUE.kinds, ids=lambda kind: kind.name)
def test_no_blob_of_a_hot_entity_is_larger_than_the_page_states(run: Run, kind: EntityKind) -> None:
    most = most_bytes(kind_layout(CATALOGUE, kind))
    largest = max(map(len, run.blobs[kind.name].values()))
    assert largest <= most
    if kind.name in ("device", "ip", "network"):
        assert len(run.blobs[kind.name]) == 1
        assert largest > most // 3, "the entity is hot: its tiles are full"
