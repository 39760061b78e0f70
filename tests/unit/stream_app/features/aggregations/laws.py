"""Laws of every aggregation: it agrees with the oracle and merges as a monoid.

Replicas cannot be merged twice (merged rows are only read), so associativity shows in reads: own state beside the others', in
every division, reads like all of them merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import msgspec
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from stream_app.events import Click, Event
from stream_app.features.declarations import Aggregation, Catalogue, Feature
from stream_app.features.engine import FeatureEngine
from tests.unit.stream_app.features.agreement import run_both
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, EDGES, NOON, USERS, Run, engine_of, event_of
from tests.unit.stream_app.features.catalogue_for_tests import KINDS, MUCH, WINDOWS, catalogue_of, feature

checked = settings(deadline=None, max_examples=40)
USER_AND_DEVICE = KINDS[0], KINDS[2]


def declared(
    how: Aggregation, *parts: dict[str, Any], windows: bool = True, entities: Sequence[str] = ("user", "device")
) -> Catalogue:
    """The aggregation, in each of `parts`' words, for a user and for a shared entity, over every window if it has one."""
    features = list[Feature]()
    for entity in entities:
        for words in parts or ({},):
            for window in WINDOWS if windows else (None,):
                of = {"window": window.name} if window else {}
                name, default = f"{entity}_{len(features)}", words.get("default", -1.0)
                bounds = {"low": -MUCH, "high": MUCH, "default": default}
                features.append(feature(name, entity, how, **{**bounds, **of, **words}))
    return catalogue_of(*features, kinds=USER_AND_DEVICE)


@st.composite
def visits(draw: st.DrawFn, max_size: int = 30) -> list[Event]:
    """Events of one device and at most two users, most of them seconds apart."""
    steps = st.one_of(st.integers(-3_000, 20_000), st.sampled_from(EDGES), st.sampled_from(EDGES[:24]).map(lambda edge: -edge))
    time_ms, log = NOON, list[Event]()
    for number, step, user in draw(st.lists(st.tuples(st.integers(0, 2**48), steps, st.integers(0, 1)), max_size=max_size)):
        time_ms += step
        event = event_of(number, time_ms, f"e{len(log)}")
        log.append(msgspec.structs.replace(event, device="d", user=USERS[user]))
    return log


def check_agreement(catalogue: Catalogue, log: Sequence[Event]) -> None:
    for size, groups in ((1, 1), (7, 2)):
        run_both(catalogue, log, size=size, groups=groups, lateness_ms=ALL_ORDERS_MS)


def device_state(engine: FeatureEngine, log: Sequence[Event]) -> bytes:
    """The replica of a group that saw these events of the device `d`."""
    run = Run(engine)
    run.batches(log, 8)
    return next(iter(run.blobs["device"].values()), b"")


def read_with(engine: FeatureEngine, own: bytes, others: Sequence[bytes], event: Event) -> list[float]:
    """What an event of the device reads of its own group's state and the others'."""
    run = Run(engine)
    columns = engine.columns([event], [0], run.identity)
    rows = engine.rows(columns)
    states = {"user": engine.unpack("user", [None]), "device": engine.unpack("device", [own])}
    dense = engine.fold(columns, rows, states, {"device": engine.merge("device", [list(others)])}).dense
    of_device = [column for column, f in enumerate(engine.catalogue.features) if f.entity == "device"]
    return [float(value) for value in dense[0, of_device]]


def check_monoid(catalogue: Catalogue, logs: Sequence[Sequence[Event]], *, idempotent: bool) -> None:
    """Merge three logs' replicas in every order and division."""
    engine = engine_of(catalogue, ALL_ORDERS_MS)
    logs = [[renamed(event, f"{part}.{n}") for n, event in enumerate(log)] for part, log in enumerate(logs)]
    replicas = [device_state(engine, log) for log in logs]
    whole = device_state(engine, [event for log in logs for event in log])
    orders = [[replica for replica in order if replica] for order in permutations(replicas)]
    merged = engine.merge("device", orders)
    for number in range(len(orders)):
        assert engine.describe_replicas("device", merged, number) == engine.describe("device", whole), "commutative"
    probe = probe_after([event for log in logs for event in log])
    alone = read_with(engine, whole, [], probe)
    for first, *two in permutations(replicas):
        pair = [blob for blob in two if blob]
        joined = bytes(engine.pack("device", engine.merge("device", [pair]).rows)[0]) if pair else b""
        again = engine.merge("device", [[blob for blob in (first, joined) if blob]])
        assert engine.describe_replicas("device", again, 0) == engine.describe("device", whole), "associative"
    nothing = bytes(engine.pack("device", engine.unpack("device", [None]))[0])
    assert read_with(engine, nothing, [blob for blob in (nothing, whole) if blob], probe) == alone, "neutral"
    if idempotent and whole:
        assert read_with(engine, whole, [whole, whole], probe) == alone, "idempotent"


def renamed(event: Event, event_id: str) -> Event:
    return msgspec.structs.replace(event, event_id=event_id)


def probe_after(log: Sequence[Event]) -> Click:
    newest = max((event.event_time_ms for event in log), default=NOON)
    return Click(
        event_id="probe", user="probe", event_time_ms=newest, device="d", action="click", item="i1", category="books", price=3.5
    )


def values(catalogue: Catalogue, log: Sequence[Event], size: int = 1) -> dict[str, list[float]]:
    """Every feature's values over the log, as floats of float32's precision, by name."""
    run = Run(engine_of(catalogue, ALL_ORDERS_MS))
    dense = np.concatenate([result.dense for result in run.batches(log, size)])
    return {name: dense[:, column].tolist() for column, name in enumerate(run.engine.feature_names)}


def single(how: Aggregation, log: Sequence[Event], **words: Any) -> list[float]:
    """One feature of the user over a log."""
    words = {"high": MUCH, "low": -MUCH, "default": -1.0, **words}
    return values(catalogue_of(feature("f", "user", how, **words), kinds=KINDS[:1]), log)["f"]
