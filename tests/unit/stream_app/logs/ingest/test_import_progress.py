from __future__ import annotations

import io
import os
import signal

import pytest

from stream_app.logs.ingest.progress import ProgressLine
from stream_app.logs.ingest.stopping import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_breaks_off_and_then_all_is_as_before(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_where_there_is_no_terminal_progress_is_plain_lines_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("stream_app.logs.ingest.progress.time.monotonic", lambda: now_s[0])
    out = io.StringIO()
    with ProgressLine("importing visits", "rows", 1_200, out) as line:
        for count in range(0, 1_200, 100):
            line.show(count)
            now_s[0] += 1.0
    lines = out.getvalue().splitlines()
    assert lines[0] == "importing visits: 500 of 1,200 rows, 100 rows/s"
    assert len(lines) == 2
    assert "\x1b" not in out.getvalue()


def test_the_time_until_something_is_done_is_not_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("stream_app.logs.ingest.progress.time.monotonic", lambda: now_s[0])
    out = io.StringIO()
    with ProgressLine("replaying", "records", None, out) as line:
        for count, note in [(0, "reading log.jsonl"), (0, "reading log.jsonl"), (500, ""), (0, "reading"), (1_500, "")]:
            line.show(count, note)
            now_s[0] += 5.0
    assert out.getvalue().splitlines() == [
        "replaying: 0 records, 0 records/s reading log.jsonl", "replaying: 500 records, 100 records/s",
        "replaying: 0 records, 0 records/s reading", "replaying: 1,500 records, 100 records/s",
    ]  # fmt: skip
