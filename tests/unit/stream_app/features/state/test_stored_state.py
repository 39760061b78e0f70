"""The contracts of the shipped catalogue with what is stored: its hash, which models carry, and the bytes of a blob.

A release that changes the catalogue on purpose changes these constants with it; a change of the code alone must not.
"""

from __future__ import annotations

from stream_app.events import Click, Order, OrderLine
from stream_app.features.catalog import CATALOGUE
from stream_app.features.state.layout import catalogue_hash
from tests.unit.stream_app.features.cases import NOON, new_run

HASH = "bd00b27010d9c69a"
DEVICE = bytes.fromhex(
    "4edbbd65d297cd0891dfa182bd3190bf050301010101014701cf0faeddc786c0a7adb60df8affee6e4d3869f2f010701cf0faeddc786c0a7adb60d010f01"
    "cf0fcf0ff2f301"
)
ORDERED = Order(
    event_id="o", user="u", event_time_ms=NOON, session="s", device="d", ip="10.0.0.1", payment_instrument="p",
    lines=[OrderLine(item="i", category="c", unit_price=9.5)], amount=19.99, currency="EUR",
)  # fmt: skip
VIEWED = Click(
    event_id="c", user="u", event_time_ms=NOON + 90_000, session="s", device="d", ip="10.0.0.1", action="view", item="i",
    category="c", price=9.5, dwell_ms=700,
)  # fmt: skip


def test_the_catalogues_hash_is_the_one_that_models_carry() -> None:
    assert catalogue_hash(CATALOGUE) == HASH


def test_a_blob_of_an_earlier_release_is_read_and_written_alike() -> None:
    run = new_run()
    run.batch([ORDERED, VIEWED])
    assert list(run.blobs["device"].values()) == [DEVICE]
    stored = run.engine.describe("device", DEVICE)
    assert (stored["newest_ms"], stored["first_ms"]) == (NOON + 90_000, NOON)
    assert stored["tiles"]["sum spend/1d"] == {NOON: 1_999}  # type: ignore[index]
    assert list(run.engine.pack("device", run.engine.unpack("device", [DEVICE]))) == [DEVICE]
