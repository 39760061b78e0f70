"""The reader of the demo's screen."""

from __future__ import annotations

import pytest

from devservices.mock_broker import mock_broker
from stream_app.errors import BrokerUnavailableError
from stream_app.monitor.answer_reader import AnswerReader


def test_a_broker_that_ends_is_an_error_and_not_a_shop_without_events() -> None:
    with mock_broker({"intent-labels": 1}) as bootstrap:
        reader = AnswerReader(bootstrap, label_delay_ms=1_000)
    with (
        reader,
        pytest.raises(BrokerUnavailableError, match=rf"reading from the broker at {bootstrap} failed: .*millrace doctor"),
    ):
        reader.read(30)
