"""The feature engine: events in, model tensors and new state out. Live, replay and the training export call the same.

It keeps nothing between calls: state comes in as blobs from the store and goes back as blobs, so a batch is
`rows -> store.read -> unpack, merge -> fold -> pack -> store.commit`. All methods but `fold` are pure; `fold` changes the rows it
is given. Everything heavy is compiled and runs without the interpreter's lock. Safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS, SEQUENCE_LENGTH
from stream_app.codec.identity import Identity
from stream_app.errors import ContractError
from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features.blob import pack_rows, unpack_rows
from stream_app.features.columns import ColumnReader, EntityRows, EventColumns, entity_rows
from stream_app.features.declare import EVENT, Catalogue
from stream_app.features.describe import describe_row
from stream_app.features.fold import SEQUENCE, Batch, Out, State, fold_kind, merge_rows
from stream_app.features.layout import KindLayout, catalogue_hash, kind_layout

__all__ = ["FeatureEngine", "FoldResult"]

_JUDGED_BEFORE: Final = -1  # lateness was judged with the first kind

# What a fold without a sequence passes in place of one.
_NO_IDS, _NO_GAPS = np.zeros((0, 0, 3), np.int32), np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class FoldResult:
    """The tensors of model.contract.INPUTS for B events, and what happened to the state.

    dense (B, F) float32, context (B, 4), item (B, 2), sequence_ids (B, 32, 3) int32, sequence_gaps (B, 32) float32. late (B,):
    the event is older than the allowed lateness, its tensors are zeros (but for context and item) and it changed nothing;
    late_by_ms (B,) int64, behind its user's newest event, 0 if not late. touched: per kind (N,) bool, rows to write back.
    """

    dense: NDArray[np.float32]
    context: NDArray[np.int32]
    item: NDArray[np.int32]
    sequence_ids: NDArray[np.int32]
    sequence_gaps: NDArray[np.float32]
    late: NDArray[np.bool_]
    late_by_ms: NDArray[np.int64]
    touched: dict[str, NDArray[np.bool_]]

    def inputs(self) -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
        """Return the tensors by their names in model.contract.INPUTS."""
        return {spec.name: getattr(self, spec.name) for spec in INPUTS}


class FeatureEngine:
    """One catalogue, compiled.

    Args:
        catalogue: what to compute.
        allowed_lateness_ms: an event this much older than its user's newest is still folded; older ones are late.

    Attributes:
        catalogue_hash: 16 hex digits; a model carries the one it was trained with.
        feature_names: columns of `dense`.
        kinds: the entity kinds, the one that lateness is judged by first.
    """

    def __init__(self, catalogue: Catalogue, *, allowed_lateness_ms: int) -> None:
        if SEQUENCE != SEQUENCE_LENGTH:
            raise ContractError(f"the fold keeps {SEQUENCE} interactions, the model reads {SEQUENCE_LENGTH}; make them equal")
        if allowed_lateness_ms < 0:
            raise ContractError(f"the allowed lateness is {allowed_lateness_ms} ms; it cannot be negative")
        self.catalogue = catalogue
        self.catalogue_hash = catalogue_hash(catalogue)
        self.feature_names = tuple(feature.name for feature in catalogue.features)
        self.kinds = catalogue.kinds
        self.allowed_lateness_ms = allowed_lateness_ms
        self._layouts: dict[str, KindLayout] = {kind.name: kind_layout(catalogue, kind) for kind in catalogue.kinds}
        self._reader = ColumnReader(catalogue)

    def columns(self, events: Sequence[Event], groups: Sequence[int], identity: Identity) -> EventColumns:
        """Read B decoded events, with their partition groups, into columns."""
        return self._reader.read(events, groups, identity)

    def rows(self, columns: EventColumns) -> dict[str, EntityRows]:
        """Tell, per kind, which entities of which groups the batch needs: what to read from the store."""
        return {name: entity_rows(columns.group, keys) for name, keys in columns.keys.items()}

    def unpack(self, kind: str, blobs: Sequence[bytes | None]) -> NDArray[np.int64]:
        """Decode the groups' own state, (N, W) int64; None gives zeros. Raises ContractError for a damaged blob."""
        return unpack_rows(self._layouts[kind], blobs)

    def merge(self, kind: str, replicas: Sequence[Sequence[bytes]]) -> NDArray[np.int64]:
        """Merge what other groups hold of each of N entities, (N, W) int64; zeros where no other does."""
        layout = self._layouts[kind]
        merged = np.zeros((len(replicas), layout.plan.width), np.int64)
        flat = [blob for of_one in replicas for blob in of_one]
        if flat:
            of = np.repeat(np.arange(len(replicas)), [len(of_one) for of_one in replicas])
            merge_rows(layout.plan, unpack_rows(layout, flat), of, merged)
        return merged

    def fold(
        self,
        columns: EventColumns,
        rows: Mapping[str, EntityRows],
        own: Mapping[str, NDArray[np.int64]],
        others: Mapping[str, NDArray[np.int64]],
    ) -> FoldResult:
        """Read every event's features and add it to its entities, in the order of the columns.

        Args:
            columns: B events.
            rows: `self.rows(columns)`.
            own: per kind (N, W), changed in place.
            others: per kind (N, W), only read; a kind may be missing.
        """
        count = len(columns)
        batch = Batch(columns.time_ms, columns.values, columns.ids)
        out = Out(
            late_by=np.zeros(count, np.int64),
            dense=np.zeros((count, len(self.feature_names)), np.float32),
            sequence_ids=np.zeros((count, SEQUENCE_LENGTH, 3), np.int32),
            sequence_gaps=np.zeros((count, SEQUENCE_LENGTH), np.float32),
        )
        touched: dict[str, NDArray[np.bool_]] = {}
        lateness_ms = self.allowed_lateness_ms
        for name, layout in self._layouts.items():
            needed = (len(rows[name]), layout.plan.width)
            elsewhere = _checked(others[name], needed, name) if name in others else _no_rows(layout)
            state = State(rows[name].row, _checked(own[name], needed, name), elsewhere, np.zeros(len(rows[name]), np.bool_))
            fold_kind(layout.plan, batch, state, out, lateness_ms)
            touched[name] = state.touched
            lateness_ms = _JUDGED_BEFORE
        return FoldResult(
            dense=out.dense,
            context=columns.context,
            item=np.ascontiguousarray(columns.ids[:, :2]),
            sequence_ids=out.sequence_ids,
            sequence_gaps=out.sequence_gaps,
            late=out.late_by > 0,
            late_by_ms=out.late_by,
            touched=touched,
        )

    def pack(self, kind: str, own: NDArray[np.int64]) -> list[bytes]:
        """Encode state (N, W) for the store. Equal states give equal bytes."""
        return pack_rows(self._layouts[kind], own)

    def read_features(
        self, kind: str, blobs: Sequence[bytes | None], at_ms: NDArray[np.int64] | int
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Read what an event at `at_ms` (one for all, or (N,)) without values of its own would see of N entities.

        Returns:
            The names of the kind's features, and (N, F_kind) float32.
        """
        layout = self._layouts[kind]
        own, count = unpack_rows(layout, blobs), len(blobs)
        wanted = [(f.name, column) for f, column in zip(layout.features, layout.columns, strict=True) if f.entity != EVENT]
        dense = np.zeros((count, len(self.feature_names)), np.float32)
        times = np.ascontiguousarray(np.broadcast_to(np.asarray(at_ms, np.int64), (count,)))
        # One event without values for each entity; the fold adds it to the decoded copy, which is dropped.
        batch = Batch(times, np.zeros((count, len(self.catalogue.measures)), np.int64), np.zeros((count, 3), np.int32))
        state = State(np.arange(count, dtype=np.int32), own, _no_rows(layout), np.zeros(count, np.bool_))
        out = Out(np.zeros(count, np.int64), dense, _NO_IDS, _NO_GAPS)
        fold_kind(layout.plan._replace(sequence=-1), batch, state, out, _JUDGED_BEFORE)
        return tuple(name for name, _ in wanted), dense[:, [column for _, column in wanted]]

    def describe(self, kind: str, blob: bytes | None) -> dict[str, object]:
        """Show one entity's decoded state (stream_app/features/describe.py)."""
        layout = self._layouts[kind]
        return describe_row(layout, unpack_rows(layout, [blob])[0])

    def warm(self) -> None:
        """Compile, or load from numba's cache, all that a batch needs; seconds the first time on a machine."""
        events: list[Event] = [
            Search(event_id="s", user="u", event_time_ms=1, device="d", ip="::1", query="q"),
            Click(event_id="c", user="u", event_time_ms=2, device="d", ip="::1", action="view", item="i"),
            Order(event_id="o", user="u", event_time_ms=3, lines=[OrderLine(item="i")], amount=1.0, currency="EUR"),
        ]
        columns = self.columns(events, [0, 0, 0], Identity(b"warm"))
        rows = self.rows(columns)
        own = {name: self.unpack(name, [None] * len(rows[name])) for name in rows}
        others = {kind.name: self.merge(kind.name, [[]] * len(rows[kind.name])) for kind in self.kinds if kind.shared}
        self.fold(columns, rows, own, others)
        for name, state in own.items():
            blobs = self.pack(name, state)
            self.merge(name, [blobs])
            self.read_features(name, blobs, 4)


def _checked(state: NDArray[np.int64], needed: tuple[int, int], kind: str) -> NDArray[np.int64]:
    # The compiled loop checks no bounds: a matrix of another shape would be read beyond its end.
    if state.shape != needed:
        raise ContractError(f"the state of {kind} is {state.shape}, the batch needs {needed}; unpack the rows of this batch")
    return state


def _no_rows(layout: KindLayout) -> NDArray[np.int64]:
    return np.zeros((0, layout.plan.width), np.int64)
