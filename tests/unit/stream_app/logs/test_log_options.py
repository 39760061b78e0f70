"""Which log may be asked for: options that would be without effect are refused, and so are offsets that are not there."""

from __future__ import annotations

import pytest

from stream_app.errors import ConfigError
from stream_app.logs.log_options import LogOptions, _parsed_ranges, _refuse_missing


def test_offsets_that_the_broker_does_not_hold_are_refused() -> None:
    there = {("clicks", 0): (50, 100), ("clicks", 1): (0, 0)}
    for asked in ("clicks-0=50:60", "clicks-0=60:1000", "clicks-1=0:0"):
        _refuse_missing(_parsed_ranges((asked,)), there)
    with pytest.raises(ConfigError, match="clicks has no partition 2"):
        _refuse_missing(_parsed_ranges(("clicks-2=0:10",)), there)
    for asked in ("clicks-0=10:60", "clicks-0=100:200", "clicks-1=0:10"):
        with pytest.raises(ConfigError, match="the broker holds the offsets"):
            _refuse_missing(_parsed_ranges((asked,)), there)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (LogOptions(paths=("log",), since_ms=0), "--since: only with --from-topics"),
        (LogOptions(paths=("log",), until_ms=0, offsets=("clicks-0=1:2",)), "--until, --offsets: only with --from-topics"),
        (LogOptions(from_topics=True, window_ms=0), "--sort-window is for files"),
    ],
)
def test_an_option_of_the_other_kind_of_log_is_refused(options: LogOptions, told: str) -> None:
    [problem] = options.problems()
    assert told in problem
    assert LogOptions(paths=("log",), window_ms=0).problems() == []
    assert LogOptions(from_topics=True, since_ms=0, until_ms=0, offsets=("clicks-0=1:2",)).problems() == []
