"""State of another catalogue: common parts keep their values, new parts are empty, nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_app.errors import ContractError
from stream_app.events import Event
from stream_app.features.declarations import Catalogue, Feature
from tests.unit.stream_app.features.agreement import check_features
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, KEY, NOON, Run, engine_of, event_of, group_of, logs, new_run
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING, HOUR, MINUTE, feature
from verification.oracle.facts import facts_of
from verification.oracle.replay import Oracle
from verification.oracle.state import rings_of

checked = settings(deadline=None, max_examples=8)
A = EVERYTHING


def features_where(keep: Callable[[Feature], bool]) -> Catalogue:
    return replace(A, features=tuple(f for f in A.features if keep(f)))


def with_features(change: Callable[[Feature], dict[str, Any]]) -> Catalogue:
    return replace(A, features=tuple(replace(f, **change(f)) for f in A.features))


def with_window(name: str, **changes: Any) -> Catalogue:
    return replace(A, windows=tuple(replace(w, **changes) if w.name == name else w for w in A.windows))


def with_measure(name: str, **changes: Any) -> Catalogue:
    return replace(A, measures=tuple(replace(m, **changes) if m.name == name else m for m in A.measures))


def with_first_kind(keep: Callable[[Feature], bool], **changes: Any) -> Catalogue:
    kinds = (replace(A.kinds[0], **changes), *A.kinds[1:])
    return replace(A, kinds=kinds, features=tuple(f for f in A.features if keep(f)))


def more() -> Catalogue:
    new = [
        feature(f"new_{e}_{how}", e, how, **words)  # type: ignore[arg-type]
        for e in ("user", "device", "category")
        for how, words in (
            ("sum", {"measure": "lines", "window": "10m"}),
            ("max", {"measure": "price", "window": "30d"}),
            ("distinct", {"measure": "scene", "window": "1m", "words": 2}),
            ("last", {"measure": "quantity"}),
            ("rank", {"measure": "platform", "cells": 3}),
        )
    ]
    return replace(A, features=(*new, *A.features))


CHANGES: dict[str, Callable[[], Catalogue]] = {
    "nothing": lambda: A,
    "the order of features": lambda: replace(A, features=A.features[::-1]),
    "new features": more,
    "no features over a day": lambda: features_where(lambda f: "1d" not in (f.window, f.base)),
    "no distinct counts": lambda: features_where(lambda f: f.aggregation != "distinct"),
    "no features but of sessions": lambda: features_where(lambda f: f.aggregation.startswith("session")),
    "no features": lambda: replace(A, features=()),
    "other words": lambda: with_features(lambda f: {"words": f.words + 1} if 0 < f.words < 16 else {}),
    "other cells": lambda: with_features(lambda f: {"cells": f.cells + 5} if f.cells else {}),
    "another tile": lambda: with_window("1d", tile_ms=2 * HOUR),
    "another length": lambda: with_window("1h", length_ms=2 * HOUR),
    "more spare tiles": lambda: with_window("10m", spare_tiles=5),
    "a window's name": lambda: replace(
        A,
        windows=tuple(replace(w, name="60s") if w.name == "1m" else w for w in A.windows),
        features=tuple(
            replace(f, **{at: "60s" for at in ("window", "base") if getattr(f, at) == "1m"})  # type: ignore[arg-type]
            for f in A.features
        ),
    ),
    "what a measure counts": lambda: with_measure("clicks", kinds=("click",)),
    "the order of what a measure counts": lambda: replace(A, measures=tuple(replace(m, kinds=m.kinds[::-1]) for m in A.measures)),
    "another gap between sessions": lambda: with_first_kind(lambda _: True, session_gap_ms=5 * MINUTE),
    "no sessions": lambda: with_first_kind(
        lambda f: f.entity != "user" or not f.aggregation.startswith("session"), session_gap_ms=0
    ),
    "no sequence": lambda: with_first_kind(lambda f: f.aggregation not in ("gap_std", "gap_min"), sequence=False),
    "fewer kinds": lambda: replace(
        A, kinds=A.kinds[:3], features=tuple(f for f in A.features if f.entity in ("user", "session", "device", "event"))
    ),
    "how long state lives": lambda: replace(A, kinds=tuple(replace(k, ttl_ms=2 * k.ttl_ms) for k in A.kinds)),
}
changes = pytest.mark.parametrize("change", CHANGES)


Part = tuple[object, ...]


def meanings(catalogue: Catalogue, kind: str) -> dict[Part, tuple[str, str]]:
    """What each part of the state means, whatever its name: meaning -> (where `describe` shows it, its name there)."""

    def measure(name: str) -> Part:
        m = catalogue.measure(name)
        return m.field, frozenset(m.kinds)

    def window(name: str) -> Part:
        w = catalogue.window(name)
        return w.length_ms, w.tile_ms, w.spare_tiles

    actual: dict[Part, tuple[str, str]] = {}
    of_kind = catalogue.kind(kind)
    for f in (f for f in catalogue.features if f.entity == kind):
        for op, m, w in rings_of(f):
            actual[op, measure(m), window(w)] = "tiles", f"{op} {m}/{w}"
        if f.aggregation == "distinct":
            actual["set", f.words, measure(f.measure), window(f.window)] = "distinct", f"{f.measure}/{f.window}"
        if f.cells:
            actual["histogram", f.cells, measure(f.measure)] = "histograms", f.measure
        if f.measure and f.aggregation in ("last", "changed", "recency"):
            actual["last", measure(f.measure)] = "last", f.measure
        if f.aggregation in ("session_sum", "session_rate"):
            for m in filter(None, (f.measure, f.per)):
                actual["session", of_kind.session_gap_ms, measure(m)] = "session", m
    if of_kind.session_gap_ms:
        actual["session", of_kind.session_gap_ms] = "session", ""
    if of_kind.sequence:
        actual["sequence",] = "sequence", ""
        actual["queries",] = "queries", ""
    return actual


def value_of(described: dict[str, Any], where: str, name: str) -> Any:
    """One part of a described state; what is empty gives something false."""
    part = described.get(where)
    if where == "session":
        return part and (part["sums"][name] if name else (part["start_ms"], part["last_ms"]))
    if where == "histograms":
        return part[name] if any(part[name]) else None  # type: ignore[index]
    return part.get(name) if name else part  # type: ignore[union-attr]


def migrated(run: Run, catalogue: Catalogue) -> Run:
    """The same store under another catalogue, whose engine has the store's layouts."""
    engine = engine_of(catalogue, ALL_ORDERS_MS)
    engine.learn_layouts(run.engine.layout_records())
    kinds = {kind.name for kind in engine.kinds}
    return Run(
        engine, run.groups, blobs={kind: dict(blobs) for kind, blobs in run.blobs.items() if kind in kinds}, steps=run.steps
    )


def states(run: Run) -> Iterator[tuple[str, tuple[int, bytes], dict[str, Any]]]:
    for kind in run.engine.kinds:
        yield from ((kind.name, pair, described) for pair, described in run.described(kind.name).items())


@changes
@checked
@given(log=logs())
def test_parts_of_both_catalogues_keep_their_values_and_new_ones_are_empty(change: str, log: list[Event]) -> None:
    b = CHANGES[change]()
    old = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=A, groups=2)
    old.batches(log, 9)
    before = {(kind, pair): described for kind, pair, described in states(old)}
    new = migrated(old, b)
    for kind, pair, described in states(new):
        was, parts = before.pop((kind, pair)), meanings(A, kind)
        assert (described["newest_ms"], described["first_ms"]) == (was["newest_ms"], was["first_ms"])
        for meaning, (where, name) in meanings(b, kind).items():
            actual = value_of(described, where, name)
            if meaning in parts:
                assert (actual or None) == (value_of(was, *parts[meaning]) or None), (kind, meaning)
            else:
                assert not actual, (kind, meaning)
    assert {kind for kind, _ in before} <= {k.name for k in A.kinds} - {k.name for k in b.kinds}


@changes
@checked
@given(log=logs())
def test_migrated_state_is_packed_in_the_new_layout_unchanged(change: str, log: list[Event]) -> None:
    old = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=A)
    old.batches(log, 9)
    new = migrated(old, CHANGES[change]())
    for kind, pair, described in states(new):
        rows = new.engine.unpack(kind, [new.blobs[kind][pair]])
        packed = new.engine.pack(kind, rows)[0]
        assert packed[:4].hex() in new.engine.layout_records()
        assert new.engine.describe(kind, packed) == described
        assert list(new.engine.pack(kind, new.engine.unpack(kind, [packed]))) == [packed]


@changes
@checked
@given(log=logs(max_size=50), cut=st.integers(0, 50), groups=st.integers(1, 2))
def test_features_of_parts_that_both_have_go_on_as_if_nothing_had_happened(
    change: str, log: list[Event], cut: int, groups: int
) -> None:
    b, (first, then) = CHANGES[change](), (log[:cut], log[cut:])
    run, oracle = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=A, groups=groups), Oracle(b, ALL_ORDERS_MS, KEY)
    run.batches(first, len(first) or 1)
    for event in first:
        oracle.apply(event, group_of(event, groups), 1)
    oracle.next_batch()
    run = migrated(run, b)
    for start in range(0, len(then), 7):
        batch = then[start : start + 7]
        result = run.batch(batch)
        for e, event in enumerate(batch):
            expected = oracle.apply(event, group_of(event, groups), 2)
            if change == "no sequence" or not b.kinds[0].sequence:
                continue  # such a catalogue knows no duplicates
            same = [n for n, f in enumerate(b.features) if is_common(b, f)]
            off = {at: expected.tolerances[n] for at, n in enumerate(same) if n in expected.tolerances}
            check_features([b.features[n] for n in same], result.dense[e, same], [expected.features[n] for n in same], off)
        oracle.next_batch()


def is_common(b: Catalogue, feature: Feature) -> bool:
    """Whether all that a feature reads of `b`'s state is in `A`'s."""
    if feature.entity == "event":
        return True
    alone = meanings(replace(b, features=(feature,)), feature.entity)
    session = feature.aggregation.startswith("session")
    needed = {m for m in alone if session or m[0] != "session"}
    return needed <= meanings(A, feature.entity).keys()


@checked
@given(log=logs(), data=st.data())
def test_replicas_of_two_catalogues_merge(log: list[Event], data: st.DataObject) -> None:
    b = more()
    old, new = (new_run(lateness_ms=ALL_ORDERS_MS, catalogue=c, groups=3) for c in (A, b))
    for run in (old, new):
        run.batches(log, 9)
    engine = engine_of(b, ALL_ORDERS_MS)
    engine.learn_layouts(old.engine.layout_records())
    for kind in ("device", "category"):
        for key in {key for _, key in new.blobs[kind]}:
            held = [(g, data.draw(st.booleans())) for g, of in new.blobs[kind] if of == key]
            mixed = [(old if is_old else new).blobs[kind][g, key] for g, is_old in held]
            actual = engine.describe_replicas(kind, engine.merge(kind, [mixed]), 0)
            expected = new.merged(kind)[key]
            for meaning in meanings(A, kind):
                where, name = meanings(b, kind)[meaning]
                assert value_of(actual, where, name) == value_of(expected, where, name), meaning


@checked
@given(log=logs(max_size=10))
def test_two_migrations_keep_the_parts_that_all_three_have(log: list[Event]) -> None:
    between, last = CHANGES["no features over a day"](), more()
    run = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=A)
    run.batches(log, 9)
    assert len({facts_of(event, A, KEY).event_hash for event in log}) == len({(type(event), event.event_id) for event in log})
    before = {(kind, pair): described for kind, pair, described in states(run)}
    run = migrated(run, between)
    for kind, pair, _ in list(states(run)):
        run.blobs[kind][pair] = run.engine.pack(kind, run.engine.unpack(kind, [run.blobs[kind][pair]]))[0]
    run = migrated(run, last)
    for kind, pair, described in states(run):
        common = meanings(between, kind).keys() & meanings(A, kind).keys()
        for meaning in common:
            where, name = meanings(A, kind)[meaning]
            assert value_of(described, where, name) == value_of(before[kind, pair], where, name)
        for meaning in meanings(last, kind).keys() - common:
            where, name = meanings(last, kind)[meaning]
            assert not value_of(described, where, name)


def test_a_layout_that_nobody_described_is_refused() -> None:
    run = new_run(lateness_ms=ALL_ORDERS_MS, catalogue=A)
    run.batches([event_of(99_999_999 * n, NOON + n, f"e{n}") for n in range(9)], 2)
    stranger = engine_of(more(), ALL_ORDERS_MS + 1)  # an engine of its own: it has learnt nothing
    blob = next(iter(run.blobs["user"].values()))
    with pytest.raises(ContractError, match=r"has layout [0-9a-f]{8}, which this worker does not know"):
        stranger.unpack("user", [blob])
    blob = next(iter(run.blobs["category"].values()), b"")
    with pytest.raises(ContractError, match=r"has layout [0-9a-f]{8}, which this worker does not know"):
        stranger.merge("category", [[blob]])


def test_an_invalid_description_is_refused() -> None:
    engine = engine_of(A, ALL_ORDERS_MS + 2)
    for text in ("", "{}", '{"kind": 5}', "nonsense"):
        with pytest.raises(ContractError, match="Operator action"):
            engine.learn_layouts({"0badf00d": text})


def test_the_layout_does_not_depend_on_the_order_of_the_kinds_that_a_measure_takes() -> None:
    reordered = CHANGES["the order of what a measure counts"]()
    assert [m.kinds for m in reordered.measures] != [m.kinds for m in A.measures]
    assert engine_of(reordered, 1).layout_records() == engine_of(A, 1).layout_records()


def test_the_layout_does_not_depend_on_names_order_prose_and_bounds() -> None:
    renamed = replace(
        A, features=tuple(replace(f, name=f"x{f.name}", meaning="x", reason="x", high=1e16) for f in A.features[::-1])
    )
    records = engine_of(A, 1).layout_records()
    assert engine_of(renamed, 1).layout_records() == records
    assert len(records) == len(A.kinds)
