from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from rich.console import Console

from stream_app.features.catalog import CATALOGUE
from stream_app.profiling.columns import inspect_columns, time_column
from stream_app.profiling.suggest import CatalogueSuggestion, suggest, suggestion_json, suggestion_text
from stream_app.profiling.table_files import ColumnTable

N = 4_000
START_S = 1_700_000_000
WINDOWS_MS = {window.name: window.length_ms for window in CATALOGUE.windows}


def look(columns: dict[str, Sequence[Any]]) -> CatalogueSuggestion:
    found = inspect_columns(ColumnTable(list(columns), [list(values) for values in columns.values()]))
    return suggest(found, time_column(found), CATALOGUE, more=False)


@pytest.fixture(scope="module")
def cards() -> dict[str, Sequence[Any]]:
    rng = Random(8)
    times = sorted(START_S + rng.randrange(40 * 86_400) for _ in range(N))
    return {
        "transaction_id": list(range(N)),
        "time": times,
        "customer_id": [rng.randrange(80) for _ in range(N)],
        "terminal_id": [rng.randrange(150) for _ in range(N)],
        "amount": [round(rng.uniform(1, 200), 2) for _ in range(N)],
        "channel": [rng.choice(["web", "app", "shop"]) for _ in range(N)],
        "fraud": [int(rng.random() < 0.05) for _ in range(N)],
    }


def test_windows_tell_what_each_event_would_find_in_its_past(cards: dict[str, Sequence[Any]]) -> None:
    found = look(cards)
    user = next(use for use in found.entities if use.kind == "user")
    for window in user.windows:
        events = []
        for n in range(N):
            past = range(n)
            length_s = WINDOWS_MS[window.window] // 1_000
            events.append(
                sum(
                    cards["customer_id"][p] == cards["customer_id"][n] and cards["time"][p] >= cards["time"][n] - length_s
                    for p in past
                )
                if n % 40 == 0
                else -1
            )
        sample = [e for e in events if e >= 0]
        assert window.seen == pytest.approx(sum(e > 0 for e in sample) / len(sample), abs=0.15)
        assert window.mean_events == pytest.approx(sum(sample) / len(sample), rel=0.3, abs=0.05)
        assert window.most_events >= max(sample)


def test_windows_are_proposed_that_know_something_more_than_the_shorter_ones(cards: dict[str, Sequence[Any]]) -> None:
    found = look(cards)
    user = next(use for use in found.entities if use.kind == "user")
    assert user.proposed[-3:] == ["1d", "7d", "30d"]
    assert "1m" not in user.proposed
    short = {name: values[: N // 20] for name, values in cards.items()}  # two days: a window of seven is longer than the log
    user = next(use for use in look(short).entities if use.kind == "user")
    assert not {"7d", "30d"} & set(user.proposed)


def test_features_are_proposed_with_what_the_catalogue_already_has(cards: dict[str, Sequence[Any]]) -> None:
    features = {proposal.name: proposal for proposal in look(cards).features}
    assert features["user_amount_mean_30d"].in_catalogue == "user_order_mean_30d"
    assert features["device_events_1d"].in_catalogue == "device_orders_1d"
    assert features["user_recency"].in_catalogue == "user_seconds_since_last"
    assert features["user_device_distinct_7d"].aggregation == "distinct"
    assert features["user_channel_share"].in_catalogue == ""
    assert not any("fraud" in p.measure or "transaction" in p.measure for p in features.values())
    assert len(features) == len(look(cards).features)  # no name twice


def test_entities_that_hardly_come_twice_get_no_features(cards: dict[str, Sequence[Any]]) -> None:
    rng = Random(9)
    lonely = dict(cards) | {"device_id": [f"d{rng.randrange(10**6)}" if n % 20 else "d" for n in range(N)]}
    for proposal in look({name: lonely[name] for name in ("time", "device_id", "amount")}).features:
        assert proposal.window or proposal.aggregation in ("recency", "age", "share")


def test_without_a_time_there_are_warnings_only() -> None:
    found = look({"duration": [n * 0.5 for n in range(N)], "revenue": [n % 2 for n in range(N)]})
    assert (found.entities, found.features, found.time) == ([], [], None)
    assert suggestion_json(found)["time"] is None


def test_the_json_is_one_line_and_the_report_names_everything(cards: dict[str, Sequence[Any]]) -> None:
    found = look(cards)
    line = json.loads(json.dumps(suggestion_json(found)))
    assert {"rows", "time", "label", "columns", "entities", "features", "warnings"} <= set(line)
    assert (line["label"], line["time"]["column"], line["time"]["unit"]) == ("fraud", "time", "s")
    assert {c["name"]: c["role"] for c in line["columns"]}["transaction_id"] == "row id"
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        for part in suggestion_text(found):
            console.print(part)
    for part in ("4,000 rows, 7 columns", "time time (s), 2023-11-14", "customer_id (user)", "an id to be learnt by heart"):
        assert part in capture.get()
