"""Progress without a terminal is a few plain lines; on one, bars; a line that is said is whole in both."""

from __future__ import annotations

import io

import pytest

from stream_app.reporting.progress import ProgressLine, Reporter


def test_where_there_is_no_terminal_progress_is_plain_lines_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("stream_app.reporting.progress.time.monotonic", lambda: now_s[0])
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
    monkeypatch.setattr("stream_app.reporting.progress.time.monotonic", lambda: now_s[0])
    out = io.StringIO()
    with ProgressLine("replaying", "records", None, out) as line:
        for count, note in [(0, "reading log.jsonl"), (0, "reading log.jsonl"), (500, ""), (0, "reading"), (1_500, "")]:
            line.show(count, note)
            now_s[0] += 5.0
    assert out.getvalue().splitlines() == [
        "replaying: 0 records, 0 records/s reading log.jsonl", "replaying: 500 records, 100 records/s",
        "replaying: 0 records, 0 records/s reading", "replaying: 1,500 records, 100 records/s",
    ]  # fmt: skip


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), _Terminal()])
def test_lines_that_stay_are_whole_beside_the_progress(stream: io.StringIO) -> None:
    with Reporter(stream) as reporter:
        reporter.at("answers", 1, 2)
        reporter.say("long " * 40)
        reporter.at("answers", 2, 2)
    assert "long " * 40 in stream.getvalue()
    assert ("answers" in stream.getvalue()) == stream.isatty()
