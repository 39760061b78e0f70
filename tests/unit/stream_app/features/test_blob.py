"""Blobs: what goes in comes out, what is damaged is refused, and a light user is small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stream_app.errors import ContractError
from stream_app.events import Click, Event
from stream_app.features.blob import pack_rows, unpack_rows
from stream_app.features.catalog import CATALOGUE
from stream_app.features.layout import kind_layout
from tests.unit.stream_app.features.cases import NOON, events, new_run

LAYOUTS = [kind_layout(CATALOGUE, kind) for kind in CATALOGUE.kinds]
USER = LAYOUTS[0]
TAG_BYTES = 8

checked = settings(deadline=None, max_examples=200)


def a_users_blob(all_events: list[Event]) -> bytes:
    run = new_run()
    run.batch(all_events)
    return max(run.blobs["user"].values(), key=len)


@checked
@given(data=st.data())
def test_any_row_comes_back_as_it_was(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    values = st.one_of(st.just(0), st.integers(0, 300), st.integers(-(2**63), 2**63 - 1))
    rows = data.draw(hnp.arrays(np.int64, (data.draw(st.integers(0, 4)), layout.plan.width), elements=values, fill=st.just(0)))
    # Times are positive and not after the newest.
    for row in rows:
        row[0] = max(abs(int(row[0]) // 4), 1)
        row[layout.plan.relative] = np.minimum(np.abs(row[layout.plan.relative] // 4), row[0])
    blobs = pack_rows(layout, rows)
    np.testing.assert_array_equal(unpack_rows(layout, blobs), rows)
    assert pack_rows(layout, unpack_rows(layout, blobs)) == blobs


def test_an_entity_without_a_past_is_a_row_of_zeros_both_ways() -> None:
    assert not unpack_rows(USER, [None, None]).any()
    assert unpack_rows(USER, []).shape == (0, USER.plan.width)
    assert pack_rows(USER, np.zeros((0, USER.plan.width), np.int64)) == []
    assert not unpack_rows(USER, pack_rows(USER, np.zeros((1, USER.plan.width), np.int64))).any()


def test_a_blob_of_another_layout_reads_as_empty() -> None:
    blob = a_users_blob([Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i")])
    other = bytes(TAG_BYTES) + blob[TAG_BYTES:]
    rows = unpack_rows(USER, [other, blob])
    assert not rows[0].any()
    assert rows[1].any()


@checked
@given(all_events=st.lists(events(), min_size=1, max_size=12), data=st.data())
def test_a_blob_with_any_byte_changed_cut_or_added_is_refused(all_events: list[Event], data: st.DataObject) -> None:
    blob = a_users_blob(all_events)
    at = data.draw(st.integers(TAG_BYTES, len(blob) - 1))
    damage = data.draw(st.sampled_from(["change", "cut", "add"]))
    if damage == "change":
        changed = blob[at] ^ data.draw(st.integers(1, 255))
        damaged = blob[:at] + bytes([changed]) + blob[at + 1 :]
    elif damage == "cut":
        damaged = blob[:at]
    else:
        damaged = blob + data.draw(st.binary(min_size=1, max_size=20))
    with pytest.raises(ContractError, match="user number 1 of 2 read is damaged"):
        unpack_rows(USER, [blob, damaged])


@checked
@given(noise=st.binary(min_size=1, max_size=200), tagged=st.booleans())
def test_made_up_bytes_are_refused_or_read_as_empty(noise: bytes, tagged: bool) -> None:
    made_up = USER.tag + noise if tagged else noise
    try:
        rows = unpack_rows(USER, [made_up])
    except ContractError:
        return
    assert not rows.any()


@pytest.mark.parametrize("length", range(1, 12))
def test_a_blob_shorter_than_its_head_is_refused(length: int) -> None:
    with pytest.raises(ContractError, match="damaged"):
        unpack_rows(USER, [(USER.tag + bytes(4))[:length]])


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 11,  # a varint without an end
        b"\xff" * 9 + b"\x02",  # a varint of 65 bits
        b"\x80\x00",  # a varint longer than need be
        b"\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00",  # more zeros than there are columns
        b"\x03\x01",  # four values announced, one given
    ],
)
def test_a_body_that_points_beyond_the_row_or_the_blob_is_refused(body: bytes) -> None:
    with pytest.raises(ContractError, match="damaged"):
        unpack_rows(USER, [USER.tag + bytes(4) + body])


def test_a_user_of_two_events_fits_150_bytes() -> None:
    first = Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i", category="c", device="d", price=19.99)
    second = Click(event_id="f", user="u", event_time_ms=NOON + 90_000, action="cart", item="i", category="c", device="d")
    assert len(a_users_blob([first, second])) <= 150


def test_a_state_of_another_width_is_refused_before_it_is_read() -> None:
    run = new_run()
    columns = run.engine.columns([Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i")], [0], run.identity)
    rows = run.engine.rows(columns)
    own = {name: run.engine.unpack(name, [None] * len(rows[name])) for name in rows}
    own["user"] = own["user"][:, :-1].copy()
    with pytest.raises(ContractError, match="the batch needs"):
        run.engine.fold(columns, rows, own, {})
