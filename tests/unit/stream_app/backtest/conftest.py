"""A folder with a simulated shop's log, rules, scores from elsewhere, and a backtest of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream_app.events import Event, Label, Order
from tests.unit.stream_app.backtest.shop import DEMO, simulated, write_log

CONFIG = """
[judge]
from = 2026-01-03
to = 2026-01-05
tasks = ["fraud", "intent", "next_action", "candidates"]
daily_budget = 5
known_days = 2
leave_out_known = true

[costs]
review = 4.0
missed = 10.0

[candidates.model]
kind = "model"
path = "{demo}"

[candidates.rules]
kind = "rules"
path = "{folder}/own.toml"

[candidates.amount]
kind = "feature"
feature = "amount"
adapt = "precision"
precision = 0.3

[candidates.elsewhere]
kind = "scores"
path = "{folder}/scores.jsonl"

[candidates.both]
kind = "blend"
of = ["model", "elsewhere"]
threshold = 0.5

[segments.scene]
field = "scene"

[segments.amount]
feature = "amount"
edges = [50, 200]
"""
RULES = """
[[rule]]
name = "costly"
kinds = ["order"]
points = 2
when = [{ feature = "amount", at_least = 100 }]

[[rule]]
name = "busy, and not too costly"
points = 0.5
when = [{ feature = "user_events_1h", at_least = 3 }, { feature = "amount", below = 1000 }]
"""


@pytest.fixture(scope="module")
def shop() -> list[Event | Label]:
    return list(simulated())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shop: list[Event | Label]) -> Path:
    folder = tmp_path_factory.mktemp("backtest")
    write_log(folder / "log.jsonl", shop)
    (folder / "own.toml").write_text(RULES)
    # Something that knows a little: the sum of the digits of the event's id, as a probability.
    orders = {event.event_id for event in shop if isinstance(event, Order)}  # some came twice
    lines = [{"event_id": order, "score": sum(map(int, filter(str.isdigit, order))) % 97 / 97} for order in sorted(orders)]
    (folder / "scores.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "shop.toml").write_text(CONFIG.format(demo=DEMO, folder=folder))
    return folder
