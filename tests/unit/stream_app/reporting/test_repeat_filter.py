"""Log lines that a library repeats."""

from __future__ import annotations

import logging

import pytest

from stream_app.reporting.repeat_filter import RepeatFilter


def test_a_repeated_line_of_the_library_is_logged_now_and_then_with_a_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    repeats = RepeatFilter("aiokafka")
    caplog.handler.addFilter(repeats)
    try:
        for node in range(50):
            logging.getLogger("aiokafka.consumer").error("no connection to %d", node)
            logging.getLogger("aiokafka_other").error("ours %d", node)
        now_s += 31
        logging.getLogger("aiokafka.consumer").error("no connection to %d", 50)
        logging.getLogger("aiokafka.consumer").error("another message")
    finally:
        caplog.handler.removeFilter(repeats)
    lines = [record.getMessage() for record in caplog.records if record.name == "aiokafka.consumer"]
    assert lines == ["no connection to 0", "no connection to 50 (and 49 lines like it in between)", "another message"]
    assert len(caplog.records) == 53
