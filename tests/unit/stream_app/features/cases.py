"""What the feature tests share: generated events, and a run of the engine over batches with a store of blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from hypothesis import strategies as st

from stream_app.codec.identity import Identity
from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine, FoldResult

KEY = b"a key of the tests"
DAY_MS = 86_400_000
NOON = 19_676 * DAY_MS  # the start of a day, and of a tile of every window
LATENESS_MS = DAY_MS

# Edges of every tile and window, one millisecond around each, and all in between.
_EDGES = [0, 60_000, 300_000, 600_000, 3_600_000, 12 * 3_600_000, DAY_MS, 2 * DAY_MS, 7 * DAY_MS, 30 * DAY_MS, 33 * DAY_MS]
_AROUND = st.sampled_from([edge + off for edge in _EDGES for off in (-1, 0, 1) if edge + off >= 0])
TIMES = st.one_of(
    st.integers(0, 120_000), st.integers(0, 40 * DAY_MS), st.integers(0, 2 * DAY_MS), _AROUND
).map(lambda offset: NOON + offset)  # fmt: skip

_SMALL = st.integers(0, 3)
_MONEY = st.integers(0, 5_000_000).map(lambda cents: cents / 100)


@st.composite
def events(draw: st.DrawFn, times: st.SearchStrategy[int] = TIMES) -> Event:
    user, device, ip = draw(st.integers(0, 2)), draw(_SMALL), draw(_SMALL)
    where = {
        "event_id": "e",
        "user": f"u{user}",
        "event_time_ms": draw(times),
        "device": f"d{device}" if device else "",
        "ip": f"10.0.0.{ip}" if ip else "",
    }
    item, category = f"i{draw(_SMALL)}", draw(st.sampled_from(["", "shoes", "books", "toys"]))
    kind = draw(st.sampled_from(["search", "view", "click", "cart", "favourite", "order", "order"]))
    if kind == "search":
        return Search(query="q", **where)  # type: ignore[arg-type]
    if kind == "order":
        line = OrderLine(item=item, category=category, unit_price=draw(_MONEY))
        instrument = draw(st.sampled_from(["", "p1", "p2"]))
        return Order(lines=[line], amount=draw(_MONEY), currency="EUR", payment_instrument=instrument, **where)  # type: ignore[arg-type]
    return Click(action=kind, item=item, category=category, price=draw(_MONEY), **where)  # type: ignore[arg-type]


def group_of(event: Event, groups: int) -> int:
    """A user's events are all of one group, as Kafka's partitioning has it."""
    return crc32(event.user.encode()) % groups


@dataclass
class Run:
    """An engine with a store in memory: kind -> (group, key) -> blob."""

    engine: FeatureEngine
    groups: int = 1
    blobs: dict[str, dict[tuple[int, bytes], bytes]] = field(default_factory=dict)
    identity: Identity = field(default_factory=lambda: Identity(KEY))

    def batch(self, batch: Sequence[Event]) -> FoldResult:
        engine = self.engine
        columns = engine.columns(batch, [group_of(e, self.groups) for e in batch], self.identity)
        rows = engine.rows(columns)
        own, others = {}, {}
        for kind in engine.kinds:
            held = self.blobs.setdefault(kind.name, {})
            pairs = list(zip(rows[kind.name].groups.tolist(), rows[kind.name].keys, strict=True))
            own[kind.name] = engine.unpack(kind.name, [held.get(pair) for pair in pairs])
            if kind.shared:
                elsewhere = [
                    [held[g, key] for g in range(self.groups) if g != group and (g, key) in held] for group, key in pairs
                ]
                others[kind.name] = engine.merge(kind.name, elsewhere)
        before = {name: state.copy() for name, state in others.items()}
        result = engine.fold(columns, rows, own, others)
        for name, state in others.items():
            np.testing.assert_array_equal(state, before[name], err_msg="other groups' replicas are only read")
        for name in rows:
            pairs = list(zip(rows[name].groups.tolist(), rows[name].keys, strict=True))
            packed = engine.pack(name, own[name])
            changed = result.touched[name].tolist()
            self.blobs[name].update({p: b for p, b, is_new in zip(pairs, packed, changed, strict=True) if is_new})
        return result

    def batches(self, all_events: Sequence[Event], size: int) -> list[FoldResult]:
        return [self.batch(all_events[i : i + size]) for i in range(0, len(all_events), size)]


def new_run(*, lateness_ms: int = LATENESS_MS, groups: int = 1) -> Run:
    return Run(FeatureEngine(CATALOGUE, allowed_lateness_ms=lateness_ms), groups)


def tensors(results: Sequence[FoldResult]) -> dict[str, np.ndarray]:
    """All results' tensors, one after the other."""
    names = ("dense", "context", "item", "sequence_ids", "sequence_gaps", "late_by_ms")
    return {name: np.concatenate([getattr(r, name) for r in results]) for name in names}
