"""The demo's figures, against counts made by hand."""

from __future__ import annotations

import msgspec

from stream_app.events import FraudAlert, IntentLabel, Label, Source
from stream_app.monitor.dashboard import screen, text_line
from stream_app.monitor.scoreboard import Scoreboard

_DELAY_MS = 4_000


def _common(event_id: str, ingest_ms: int) -> dict[str, object]:
    return {
        "answer_id": f"clicks-0-{event_id}", "event_id": event_id, "user": "u1", "source": Source("clicks", 0, 1),
        "event_time_ms": ingest_ms, "ingest_time_ms": ingest_ms, "scored_time_ms": ingest_ms,
        "model_version": "m", "features_version": "f",
    }  # fmt: skip


def intent(event_id: str, ingest_ms: int) -> bytes:
    answer = msgspec.convert(
        {
            **msgspec.to_builtins(_common(event_id, ingest_ms)), "type": "intent-label", "intent": "buy",
            "probabilities": {"buy": 1.0}, "next_action": "order", "click_probability": 0.5, "fraud_probability": 0.1,
            "fraud_alert": False,
        },
        IntentLabel,
    )  # fmt: skip
    return msgspec.json.encode(answer)


def alert(event_id: str, ingest_ms: int) -> bytes:
    answer = msgspec.convert(
        {
            **msgspec.to_builtins(_common(event_id, ingest_ms)), "type": "fraud-alert", "probability": 0.9, "threshold": 0.5,
            "rules": ["r"], "reasons": [], "amount": 1.0, "currency": "EUR",
        },
        FraudAlert,
    )  # fmt: skip
    return msgspec.json.encode(answer)


def truth(event_id: str, value: float) -> bytes:
    return msgspec.json.encode(Label(event_id=event_id, user="u1", label_time_ms=1, task="fraud", value=value))


def test_percentiles_are_by_nearest_rank() -> None:
    board = Scoreboard(_DELAY_MS)
    for latency in range(1, 101):
        board.add("intent-labels", intent(f"e{latency}", 1_000), 1_000 + latency)
    summary = board.summary(2_000)
    assert (summary.p50_ms, summary.p99_ms) == (50.0, 99.0)
    assert summary.answers["intent-labels"] == 100


def test_precision_judges_only_alerts_whose_truth_had_time_to_come() -> None:
    board = Scoreboard(_DELAY_MS)
    for event_id, ingest_ms in (("right", 1_000), ("wrong", 1_000), ("young", 9_000)):
        board.add("fraud-alerts", alert(event_id, ingest_ms), ingest_ms)
    board.add("labels", truth("right", 1.0), 3_000)
    board.add("labels", truth("missed", 1.0), 3_000)
    summary = board.summary(10_000)
    assert (summary.alerts_judged, summary.alerts_right) == (2, 1)
    assert summary.precision == 0.5
    assert summary.recall == 0.5


def test_an_answer_that_is_published_again_counts_once() -> None:
    board = Scoreboard(_DELAY_MS)
    for _ in range(3):
        board.add("intent-labels", intent("e1", 1_000), 1_012)
    board.add("fraud-alerts", alert("e1", 1_000), 1_012)
    assert board.counts == {"intent-labels": 1, "fraud-alerts": 1}


def test_without_alerts_there_is_no_precision() -> None:
    summary = Scoreboard(_DELAY_MS).summary(0)
    assert (summary.precision, summary.recall, summary.p50_ms) == (None, None, None)


def test_the_screen_shows_the_figures_and_the_newest_alerts() -> None:
    from rich.console import Console

    board = Scoreboard(_DELAY_MS)
    board.add("intent-labels", intent("e1", 1_000), 1_012)
    board.add("fraud-alerts", alert("e1", 1_000), 1_012)
    board.add("labels", truth("e1", 1.0), 2_000)
    console = Console(width=140, record=True, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(screen(5.0, 400.0, board, board.summary(9_000)))
    text = console.export_text()
    assert "400" in text
    assert "12" in text
    assert "fraud" in text
    assert "buy" in text
    line = text_line(5.0, 400.0, board, board.summary(9_000))
    assert "precision 1.00" in line
    assert "p50 12 ms" in line
