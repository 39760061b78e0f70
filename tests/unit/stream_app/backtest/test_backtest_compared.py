"""Candidates set side by side: differences in every task, floors, and a budget that is spent on the same events for all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_app.backtest.config import DAY_MS, ContenderConfig, load_config
from stream_app.backtest.decisions import budget_threshold
from stream_app.backtest.run import Backtest
from stream_app.events import Event, Label, Order
from stream_app.logs.log_source import open_log
from stream_app.privacy import Pseudonymizer
from tests.scoring import scoring_engine
from tests.unit.stream_app.backtest.shop import BEGIN_MS, DEMO, write_log


def test_candidates_are_compared_on_intent_and_lists_and_with_floors(folder: Path) -> None:
    (folder / "two.toml").write_text(
        (folder / "shop.toml").read_text()
        + f"\n[candidates.blind]\nkind = 'model'\npath = '{DEMO}'\nwithout = ['user_*', 'session_*']\n"
    )
    config = load_config(str(folder / "two.toml"))
    judge = msgspec.structs.replace(config.judge, tasks=("intent", "next_action", "candidates"))
    # Compared with rules, which say nothing of these tasks: then the first one that does stands in for them.
    config = msgspec.structs.replace(config, judge=judge, draws=10, against="rules")
    with Backtest(config, scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as backtested:
        report = backtested.run(open_log([folder / "log.jsonl"])).report
    model, blind = report["candidates"]["model"], report["candidates"]["blind"]
    for task, figures in (
        ("intent", ["accuracy", "log_loss"]),
        ("next_action", ["accuracy"]),
        ("candidates", ["recall_at_10", "novelty"]),
    ):
        assert "difference" not in model[task]
        assert blind[task]["against"] == "model"
        for figure in figures:
            difference = blind[task]["difference"][figure]
            assert difference["value"] == pytest.approx(blind[task][figure]["value"] - model[task][figure]["value"])
            assert difference["low"] <= difference["high"]
    assert blind["intent"]["difference"]["accuracy"]["value"] < 0
    confusion = np.array(model["intent"]["confusion"])
    assert model["intent"]["commonest_share"] == pytest.approx(confusion.sum(axis=1).max() / confusion.sum())
    [floor] = report["floors"]["candidates"].values()
    assert floor["events"] == model["candidates"]["events"]
    assert 0 < floor["recall_at_20"]["value"] < 1
    assert floor["novelty"]["value"] < model["candidates"]["novelty"]["value"]


def test_the_budget_is_spent_on_events_that_can_be_judged(folder: Path, shop: list[Event | Label], tmp_path: Path) -> None:
    orders = {event.event_id for event in shop if isinstance(event, Order)}
    log = write_log(
        tmp_path / "log.jsonl",
        [one for one in shop if not isinstance(one, Label) or (one.task == "fraud" and one.event_id in orders)],
    )
    config = load_config(str(folder / "shop.toml"))
    busy = ContenderConfig(kind="feature", feature="user_events_1h", adapt="budget", lookback_days=2)
    decided = []
    for begin, end in (("2026-01-01", "2026-01-03"), ("2026-01-03", "2026-01-04")):
        judge = msgspec.structs.replace(
            config.judge, begin=begin, end=end, tasks=("fraud",), maturity_days=0.5, leave_out_known=False, daily_budget=3
        )
        asked = msgspec.structs.replace(config, judge=judge, candidates={"busy": busy}, draws=2)
        with Backtest(asked, scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as backtested:
            decided.append(backtested.run(open_log([log])).decisions())
    past, now = decided
    time_ms, users = np.asarray(past["event_time_ms"]), np.unique(past["user"], return_inverse=True)[1]
    assert set(past["event_id"]) == {
        event.event_id for event in shop if isinstance(event, Order) and BEGIN_MS <= event.event_time_ms < BEGIN_MS + 2 * DAY_MS
    }
    wanted = budget_threshold(past["busy_score"].astype(np.float64), time_ms, users, 3, BEGIN_MS + 2 * DAY_MS, 2)
    assert set(now["busy_threshold"].tolist()) == {wanted}
    assert 1 < wanted < 30
