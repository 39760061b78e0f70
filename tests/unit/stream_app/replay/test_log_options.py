"""Which offsets of topics may be asked for."""

from __future__ import annotations

import pytest

from stream_app.errors import ConfigError
from stream_app.replay.log_options import _refuse_missing, _wanted


def test_offsets_that_the_broker_does_not_hold_are_refused() -> None:
    there = {("clicks", 0): (50, 100), ("clicks", 1): (0, 0)}
    for asked in ("clicks-0=50:60", "clicks-0=60:1000", "clicks-1=0:0"):
        _refuse_missing(_wanted((asked,)), there)
    with pytest.raises(ConfigError, match="clicks has no partition 2"):
        _refuse_missing(_wanted(("clicks-2=0:10",)), there)
    for asked in ("clicks-0=10:60", "clicks-0=100:200", "clicks-1=0:10"):
        with pytest.raises(ConfigError, match="the broker holds the offsets"):
            _refuse_missing(_wanted((asked,)), there)
