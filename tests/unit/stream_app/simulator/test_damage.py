from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.codec.decode import Decoder
from stream_app.errors import InvalidEventError
from stream_app.simulator.damage import damaged
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulate

GOOD = [r for r in simulate(SimulatorOptions(events=600, users=50, items=100, malformed_share=0)) if r.topic != "labels"]


@given(way=st.integers(0, 1_000), number=st.integers(0, len(GOOD) - 1))
def test_every_way_of_damage_leaves_no_valid_event(way: int, number: int) -> None:
    record = GOOD[number]
    with pytest.raises(InvalidEventError):
        Decoder(future_skew_ms=0).decode(record.topic, record.key, damaged(record.value, way), record.time_ms)
