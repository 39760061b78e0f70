"""Blobs: round trips, refusal of damage, and the size of a light user."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.errors import ContractError
from stream_app.events import Click, Event
from stream_app.features.catalog import CATALOGUE
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, engine_of, event_of, logs, new_run
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING

CATALOGUES = {"everything": EVERYTHING, "shipped": CATALOGUE}
both_catalogues = pytest.mark.parametrize("which", CATALOGUES)
ENGINE = engine_of(EVERYTHING, ALL_ORDERS_MS)
HEAD_BYTES = 8  # tag and check

checked = settings(deadline=None, max_examples=60)


def a_users_blob(log: list[Event]) -> bytes:
    run = new_run(catalogue=EVERYTHING)
    run.batch(log)
    return max(run.blobs["user"].values(), key=len)


VIEW = Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i")


@both_catalogues
@checked
@given(log=logs())
def test_packing_and_unpacking_changes_nothing(which: str, log: list[Event]) -> None:
    run = new_run(catalogue=CATALOGUES[which])
    run.batches(log, 9)
    for kind in run.engine.kinds:
        blobs = list(run.blobs[kind.name].values())
        rows = run.engine.unpack(kind.name, blobs)
        assert list(run.engine.pack(kind.name, rows)) == blobs
        every_other = np.arange(0, len(blobs), 2)
        assert list(run.engine.pack(kind.name, rows, every_other)) == blobs[::2]


@checked
@given(log=logs())
def test_a_row_that_held_another_state_before_packs_as_a_fresh_one(log: list[Event]) -> None:
    # Decoding leaves columns that mean nothing as the memory was: they must not be packed, merged or read.
    fresh, used = new_run(catalogue=EVERYTHING, groups=2), new_run(catalogue=EVERYTHING, groups=2)
    fresh.batches(log, 5)
    for start in range(0, len(log), 5):
        for size in (3, 50):  # what is freed here is what the next call gets
            for kind in used.engine.kinds:
                used.engine.unpack(kind.name, [None] * size)[:] = -1
        used.batch(log[start : start + 5])
    assert used.blobs == fresh.blobs


def test_an_entity_without_a_past_is_empty_both_ways() -> None:
    for kind in ENGINE.kinds:
        empty = ENGINE.unpack(kind.name, [None, b""])
        packed = list(ENGINE.pack(kind.name, empty))
        assert packed[0] == packed[1]
        assert len(packed[0]) == HEAD_BYTES
        assert ENGINE.describe(kind.name, packed[0]) == ENGINE.describe(kind.name, None)
        assert len(ENGINE.pack(kind.name, ENGINE.unpack(kind.name, []))) == 0


@checked
@given(log=logs(max_size=12), data=st.data())
def test_a_blob_with_any_byte_changed_cut_or_added_is_refused(log: list[Event], data: st.DataObject) -> None:
    blob = a_users_blob(log)
    at = data.draw(st.integers(0, len(blob) - 1))
    damage = data.draw(st.sampled_from(["change", "cut", "add"]))
    if damage == "change":
        damaged = blob[:at] + bytes([blob[at] ^ data.draw(st.integers(1, 255))]) + blob[at + 1 :]
    elif damage == "cut":
        damaged = blob[: max(1, at)]
    else:
        damaged = blob + data.draw(st.binary(min_size=1, max_size=20))
    with pytest.raises(ContractError, match="Operator action"):
        ENGINE.unpack("user", [blob, damaged])
    with pytest.raises(ContractError, match="Operator action"):
        ENGINE.describe("user", damaged)
    with pytest.raises(ContractError, match="Operator action"):
        ENGINE.read_features("user", [damaged], NOON)


@checked
@given(noise=st.binary(min_size=1, max_size=200), head=st.integers(0, HEAD_BYTES))
def test_made_up_bytes_are_refused(noise: bytes, head: int) -> None:
    blob = a_users_blob([VIEW])
    made_up = blob[:head] + noise
    if made_up != blob:
        with pytest.raises(ContractError):
            ENGINE.unpack("user", [made_up])


def test_the_refusal_says_which_one_of_how_many_is_damaged() -> None:
    blob = a_users_blob([VIEW])
    with pytest.raises(ContractError, match="user number 1 of 3 read is damaged"):
        ENGINE.unpack("user", [blob, blob[:-1], blob])


@pytest.mark.parametrize("length", range(1, 12))
def test_a_blob_shorter_than_its_head_is_refused(length: int) -> None:
    tag = a_users_blob([VIEW])[:4]
    with pytest.raises(ContractError, match="damaged"):
        ENGINE.unpack("user", [(tag + bytes(8))[:length]])


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 11,  # a varint without an end
        b"\xff" * 9 + b"\x02",  # a varint of 65 bits
        b"\x80\x00",  # a varint longer than need be
        b"\x05\x05",  # the first event before there was time
        b"\x05\x00" + b"\xff" * 9 + b"\x01",  # tiles that no window has
        b"\x05\x00" + b"\x00" * 6 + b"\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # more zeros than there are columns
        b"\x05\x00" + b"\x00" * 6 + b"\x03\x01",  # four values announced, one given
    ],
)
def test_a_body_that_points_beyond_the_row_or_the_blob_is_refused(body: bytes) -> None:
    with pytest.raises(ContractError, match="damaged"):
        ENGINE.unpack("user", [a_users_blob([VIEW])[:4] + bytes(4) + body])


def test_a_damaged_replica_of_another_group_is_refused_too() -> None:
    run = new_run(catalogue=EVERYTHING)
    run.batch([Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i", device="d")])
    ((_, blob),) = run.blobs["device"].items()
    with pytest.raises(ContractError, match="device number 1 of 2 read is damaged"):
        run.engine.merge("device", [[blob], [blob[:-1]]])


def test_nothing_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    """Decode thousands of damaged blobs with numba's bounds checks on: in a process of its own, since they are compiled in."""
    seeded, run = random.Random(1), new_run(catalogue=EVERYTHING)
    for length in (1, 3, 60):
        run.batches([event_of(seeded.getrandbits(48), NOON + 20_000 * n, f"e{length}.{n}") for n in range(length)], 20)
    blobs = {kind: [blob.hex() for blob in run.blobs[kind].values()] for kind in ("user", "session", "device", "item")}
    (tmp_path / "blobs.json").write_text(json.dumps(blobs))
    root = Path(__file__).parents[5]
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    command = [sys.executable, str(Path(__file__).with_name("blob_fuzz.py")), str(tmp_path / "blobs.json")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["bounds_checked"]
    assert outcome["refused"] >= 1_500
    assert outcome["accepted_wrongly"] == 0


def test_a_user_of_two_events_fits_400_bytes_in_the_shipped_catalogue() -> None:
    first = Click(event_id="e", user="u", event_time_ms=NOON, action="view", item="i", category="c", device="d", price=19.99)
    second = Click(event_id="f", user="u", event_time_ms=NOON + 90_000, action="cart", item="i", category="c", device="d")
    run = new_run()
    run.batch([first, second])
    ((_, blob),) = run.blobs["user"].items()
    assert len(blob) <= 400


def test_a_state_of_another_width_is_refused_before_it_is_read() -> None:
    run = new_run()
    columns = run.engine.columns([VIEW], [0], run.identity)
    rows = run.engine.rows(columns)
    own = {name: run.engine.unpack(name, [None] * len(rows[name])) for name in rows}
    own["user"] = own["user"][:, :-1].copy()
    with pytest.raises(ContractError, match="the batch needs"):
        run.engine.fold(columns, rows, own, {})
