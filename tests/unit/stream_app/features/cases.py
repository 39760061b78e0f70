"""Generated logs of events, and a run of the engine over batches with a store of blobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar
from zlib import crc32

import msgspec
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.catalog import CATALOGUE
from stream_app.features.declarations import Catalogue, EntityKind
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult
from stream_app.privacy import Pseudonymizer

_T = TypeVar("_T")

KEY = b"a key of the tests"
DAY_MS = 86_400_000
NOON = 19_676 * DAY_MS  # the start of a day, and of a tile of every window
LATENESS_MS = DAY_MS
ALL_ORDERS_MS = 200 * DAY_MS  # a lateness that refuses nothing

# Edges of every tile and window of both catalogues, one millisecond around each.
_SECONDS = (0, 10, 60, 70, 300, 600, 660, 1_800, 3_600, 3_900, 43_200, 86_400, 90_000, 7 * 86_400, 30 * 86_400, 33 * 86_400)
EDGES: Final = tuple(1_000 * edge + off for edge in _SECONDS for off in (-1, 0, 1))
# How much later (or earlier: out of order) than the event before it an event happened.
_STEPS = st.one_of(
    st.integers(-12_000, 30_000), st.sampled_from(EDGES), st.sampled_from(EDGES).map(lambda edge: -edge), st.just(0)
)  # fmt: skip
# Where a log begins: in the middle of a week, a second before a Monday, and at the first millisecond there is.
_STARTS = st.sampled_from([NOON, NOON - 2 * DAY_MS - 1_000, 0, 65 * DAY_MS])
TIMES = st.tuples(_STARTS, st.one_of(st.integers(0, 40 * DAY_MS), st.sampled_from(EDGES))).map(lambda t: max(0, sum(t)))

USERS = ("ann", "bob", "cat")  # spread over 2 groups as over 3
_SESSIONS = ("", "s0", "s1")
_DEVICES = ("", "d0", "d1", "d2")
_IPS = ("", "10.0.0.1", "10.0.0.2", "10.0.1.2", "2001:db8::1", "2001:DB8:0:0::1", "2001:db8:1::1", "::ffff:10.0.0.1", "1.2")
_SCENES = ("other", "detail", "checkout")
_PLATFORMS = ("other", "ios", "pos")
_ITEMS = ("i0", "i1", "i2", "i3")
_CATEGORIES = ("", "shoes", "books", "toys")
_CENTS = (0, 1, 31, 32, 1_999, 5_000_000, 10_000_001, 100_000_000_000)
_QUERIES = ("", "Red  Shoes", "red shoes", "STRASSE", "stra\u00dfe", "\ufb01ne a-b_c d 5", "\u7ea2\u8272\u978b\u5b50")
_COUNTRIES = ("", "DE", "CN")


class Picker:
    """Reads choices off one number: 0 chooses the first of everything, so that hypothesis shrinks to the plainest event."""

    def __init__(self, number: int) -> None:
        self.number = number

    def of(self, options: Sequence[_T]) -> _T:
        self.number, chosen = divmod(self.number, len(options))
        return options[chosen]

    def money(self) -> float:
        return self.of(_CENTS) / 100


def event_of(number: int, time_ms: int, event_id: str) -> Event:
    """The event of that number: all types and fields, few values of each, so that entities and values meet."""
    pick = Picker(number)
    kind = pick.of(("view", "order", "search", "click", "cart", "favourite", "order", "search"))
    common = {
        "event_id": event_id,
        "user": pick.of(USERS),
        "event_time_ms": time_ms,
        "session": pick.of(_SESSIONS),
        "device": pick.of(_DEVICES),
        "ip": pick.of(_IPS),
        "scene": pick.of(_SCENES),
        "platform": pick.of(_PLATFORMS),
    }
    if kind == "search":
        return msgspec.convert(common | {"query": pick.of(_QUERIES), "items_shown": list(_ITEMS[: pick.of(range(4))])}, Search)
    if kind == "order":
        lines = [
            OrderLine(
                item=pick.of(_ITEMS), category=pick.of(_CATEGORIES), quantity=1 + pick.of(range(3)), unit_price=pick.money()
            )
            for _ in range(1 + pick.of(range(2)))
        ]
        names = {"instrument": "payment_instrument", "address": "shipping_address"}
        parts = {name: pick.of(("", f"{what}0", f"{what}1")) for what, name in names.items()}
        countries = {f"{what}_country": pick.of(_COUNTRIES) for what in ("billing", "shipping", "ip")}
        return msgspec.convert(common | parts | countries | {"lines": lines, "amount": pick.money(), "currency": "EUR"}, Order)
    own = {"item": pick.of(_ITEMS), "category": pick.of(_CATEGORIES), "price": pick.money()}
    seen = {"position": pick.of((0, 1, 7, 30)), "dwell_ms": pick.of((0, 1, 950, 12_345))}
    return msgspec.convert(common | own | seen | {"action": kind}, Click)


@st.composite
def logs(draw: st.DrawFn, max_size: int = 40, duplicates: bool = True) -> list[Event]:
    """A log of events, mostly forward in time, with steps back; some of them sent twice, or with an id that was used before."""
    time_ms, log = draw(_STARTS), list[Event]()
    drawn = st.tuples(st.integers(0, 2**48), _STEPS, st.integers(0, 9))
    for number, step, again in draw(st.lists(drawn, min_size=1, max_size=max_size)):
        time_ms = max(0, time_ms + step)
        old = log[number % len(log)] if log and duplicates else None
        if old is not None and again == 9:
            log.append(old)
        elif old is not None and again == 8:
            log.append(event_of(number, time_ms, old.event_id))
        else:
            log.append(event_of(number, time_ms, f"e{len(log)}"))
    return log


def group_of(event: Event, groups: int) -> int:
    """A user's events are all of one group, as Kafka's partitioning has it."""
    return crc32(event.user.encode()) % groups


@lru_cache(maxsize=32)
def engine_of(catalogue: Catalogue, lateness_ms: int) -> FeatureEngine:
    return FeatureEngine(catalogue, allowed_lateness_ms=lateness_ms)


@dataclass
class Run:
    """An engine with a store in memory: kind -> (group, key) -> blob; each group commits once a batch that has events of it.

    Not `numbered`, commits have no numbers: a blob then does not depend on how the log was cut into batches.
    """

    engine: FeatureEngine
    groups: int = 1
    numbered: bool = True
    blobs: dict[str, dict[tuple[int, bytes], bytes]] = field(default_factory=dict)
    steps: Counter[int] = field(default_factory=Counter)
    identity: Pseudonymizer = field(default_factory=lambda: Pseudonymizer(KEY))

    def __post_init__(self) -> None:
        for kind in self.engine.kinds:
            self.blobs.setdefault(kind.name, {})

    def batch(self, batch: Sequence[Event]) -> FoldResult:
        engine, groups = self.engine, [group_of(e, self.groups) for e in batch]
        columns = engine.columns(batch, groups, self.identity)
        rows = engine.rows(columns)
        pairs = {name: list(zip(of.groups.tolist(), of.keys, strict=True)) for name, of in rows.items()}
        own = {name: engine.unpack(name, [self.blobs[name].get(pair) for pair in pairs[name]]) for name in rows}
        others = {kind.name: engine.merge(kind.name, self.replicas(kind.name, pairs[kind.name])) for kind in self.shared()}
        commits = np.array([self.steps[g] + 1 for g in groups], np.int64) if self.numbered else None
        result = engine.fold(columns, rows, own, others, commits)
        for name, of_kind in pairs.items():
            changed = np.flatnonzero(result.touched[name])
            for row, blob in zip(changed.tolist(), engine.pack(name, own[name], changed), strict=True):
                self.blobs[name][of_kind[row]] = blob
        self.steps.update(set(groups))
        return result

    def shared(self) -> Iterator[EntityKind]:
        return (kind for kind in self.engine.kinds if kind.shared)

    def replicas(self, kind: str, pairs: Sequence[tuple[int, bytes]]) -> list[list[bytes]]:
        """Return the other groups' replicas of each entity."""
        held = self.blobs[kind]
        return [[held[g, key] for g in range(self.groups) if g != group and (g, key) in held] for group, key in pairs]

    def batches(self, log: Sequence[Event], size: int) -> list[FoldResult]:
        return [self.batch(log[i : i + size]) for i in range(0, len(log), size)]

    def described(self, kind: str) -> dict[tuple[int, bytes], dict[str, Any]]:
        return {pair: self.engine.describe(kind, blob) for pair, blob in self.blobs[kind].items()}

    def merged(self, kind: str) -> dict[bytes, dict[str, Any]]:
        """Return all groups' replicas of every entity, merged, as `describe` shows them."""
        replicas: dict[bytes, list[bytes]] = {}
        for (_, key), blob in self.blobs[kind].items():
            replicas.setdefault(key, []).append(blob)
        others = self.engine.merge(kind, list(replicas.values()))
        return {key: self.engine.describe_replicas(kind, others, number) for number, key in enumerate(replicas)}


def new_run(*, lateness_ms: int = LATENESS_MS, groups: int = 1, catalogue: Catalogue = CATALOGUE, numbered: bool = True) -> Run:
    return Run(engine_of(catalogue, lateness_ms), groups, numbered)


TENSORS: Final = (
    "dense", "context", "item", "sequence_ids", "sequence_gaps", "query", "query_ids", "query_gaps", "late_by_ms",
)  # fmt: skip


def tensors(results: Sequence[FoldResult]) -> dict[str, NDArray[Any]]:
    """All results' tensors, one after the other."""
    return {name: np.concatenate([getattr(r, name) for r in results]) for name in TENSORS}
