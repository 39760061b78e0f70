"""The feature engine: events in, model tensors and new state out. Live scoring, replay and the training export share it.

The engine holds no state between calls: state comes in as blobs from the store and goes back as blobs, so a batch is
`rows -> store.read -> unpack, merge -> fold -> pack -> store.commit`. All methods are pure except `fold` and `fold_into`, which
change the rows in place. The heavy parts are compiled and release the interpreter's lock. Safe to use from several threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model import contract
from stream_app.errors import ContractError, UnknownLayoutError
from stream_app.events import Click, Event, Order, OrderLine, Search
from stream_app.features import sequence
from stream_app.features.columns.event_columns import ColumnReader, EntityRows, EventColumns, rows_of_kinds
from stream_app.features.declarations import EVENT, Catalogue
from stream_app.features.fold import FoldBatch, FoldOutput, FoldScratch, FoldState, fold_kind
from stream_app.features.fold_types import FoldPass, FoldResult, LatenessFlags, MergedReplicas
from stream_app.features.state.blob import FOREIGN, as_blobs, pack_rows, unpack_rows
from stream_app.features.state.blobs import Blobs, Replicas
from stream_app.features.state.describe import describe_row
from stream_app.features.state.layout import KindLayout, catalogue_hash, kind_layout, stateless_layout
from stream_app.features.state.migrate import migrate_row
from stream_app.features.state.state_schema import FORMAT, StateSchema
from stream_app.features.state.tiles import merge_replicas
from stream_app.privacy import Pseudonymizer

_NO_EXPIRY: Final = -1  # the store expires entities itself
_NO_CHECK: Final = -1  # the first kind has checked lateness and repetition


class FeatureEngine:
    """One catalogue, compiled.

    Args:
        catalogue: the features to compute.
        allowed_lateness_ms: how much older than its user's newest event an event may be; older events are late.

    Attributes:
        catalogue_hash: 16 hex digits; a model carries the hash of the catalogue it was trained with.
        feature_names: columns of `dense`.
        kinds: the entity kinds; the first one decides lateness.
        reader: turns events into columns.
    """

    def __init__(self, catalogue: Catalogue, *, allowed_lateness_ms: int) -> None:
        stored = (sequence.SEQUENCE, sequence.CODES, sequence.QUERIES, sequence.QUERY_CODES)
        expected = (contract.SEQUENCE_LENGTH, contract.SEQUENCE_CODES, contract.QUERIES, contract.QUERY_CODES)
        if stored != expected:
            raise ContractError(
                f"the fold keeps sequences of (events, codes, queries, codes) {stored}, not the model's {expected}"
            )
        if allowed_lateness_ms < 0:
            raise ContractError(f"the allowed lateness is {allowed_lateness_ms} ms; it cannot be negative")
        self.catalogue = catalogue
        self.catalogue_hash = catalogue_hash(catalogue)
        self.feature_names = tuple(feature.name for feature in catalogue.features)
        self.kinds = catalogue.kinds
        self.allowed_lateness_ms = allowed_lateness_ms
        self._layouts: dict[str, KindLayout] = {kind.name: kind_layout(catalogue, kind) for kind in catalogue.kinds}
        self._ttl_ms = {kind.name: kind.ttl_ms for kind in catalogue.kinds}
        self._older: dict[tuple[str, bytes], KindLayout] = {}
        self._defaults = np.array([feature.default for feature in catalogue.features], np.float32)
        self.reader = ColumnReader(catalogue)

    # --- state of other catalogues -------------------------------------------------------------------------------------------

    def layout_records(self) -> dict[str, str]:
        """Return the schemas of this catalogue's state, for the store to hold beside the state: tag in hex -> JSON."""
        return {layout.tag.hex(): layout.schema.text() for layout in self._layouts.values()}

    def learn_layouts(self, records: Mapping[str, str]) -> None:
        """Register schemas that other catalogues wrote; their blobs can be read from now on.

        Raises:
            ContractError: A record is not a schema, or has another format.
        """
        own = self.layout_records()
        for tag, text in records.items():
            if tag in own:
                continue
            try:
                schema = StateSchema.parse(text)
            except msgspec.MsgspecError as err:
                raise ContractError(
                    f"the store describes the state layout {tag} by {text[:60]!r}, which is no description ({err}). Operator "
                    "action: restore the key `layouts` of this redis.prefix from a copy, or start with a new prefix."
                ) from err
            if schema.format != FORMAT:
                raise ContractError(
                    f"the store holds state of format {schema.format} ({schema.kind}, layout {tag}), this release reads format "
                    f"{FORMAT}. Operator action: give it a new redis.prefix and kafka.group, so that the state is built anew "
                    "from what Kafka holds; or deploy the release before."
                )
            if schema.kind in self._layouts:
                self._older[schema.kind, bytes.fromhex(tag)] = stateless_layout(schema)

    def _migrate(self, kind: str, blobs: Blobs, rows: NDArray[np.int64], foreign: NDArray[np.int64]) -> None:
        layout = self._layouts[kind]
        for number in foreign.tolist():
            blob = blobs[number]
            old = self._older.get((kind, blob[:4]))
            if old is None:
                raise UnknownLayoutError(
                    f"the stored state of {kind} has layout {blob[:4].hex()}, which this worker does not know (its own is "
                    f"{layout.tag.hex()}) and the store does not describe. Operator action: restore the key `layouts` of this "
                    "redis.prefix if it has lost an entry; else a release from before layouts were registered wrote the state: "
                    "choose a new redis.prefix and kafka.group."
                )
            rows[number] = migrate_row(old, unpack_rows(old, Blobs.of([blob]))[0][0], layout)

    # --- a batch ---------------------------------------------------------------------------------------------------------------

    def columns(self, events: Sequence[Event], groups: Sequence[int], identity: Pseudonymizer) -> EventColumns:
        """Read B decoded events and their partition groups into columns."""
        return self.reader.read(events, groups, identity)

    def rows(self, columns: EventColumns) -> dict[str, EntityRows]:
        """Return per kind the entities that the batch needs, by group: the keys to read from the store."""
        return rows_of_kinds(columns.group, columns.keys)

    def unpack(self, kind: str, blobs: Blobs | Sequence[bytes | None]) -> NDArray[np.int64]:
        """Decode the groups' own state, (N, W) int64; a missing blob gives an empty row.

        Raises:
            UnknownLayoutError: The layout of a blob is not registered.
            ContractError: A blob is damaged.
        """
        joined = as_blobs(blobs)
        rows, status = unpack_rows(self._layouts[kind], joined)
        foreign = np.flatnonzero(status == FOREIGN)
        if len(foreign):
            self._migrate(kind, joined, rows, foreign)
        return rows

    def merge(self, kind: str, replicas: Replicas | Sequence[Sequence[bytes]]) -> MergedReplicas:
        """Merge the replicas that other groups hold of N entities."""
        joined = replicas if isinstance(replicas, Replicas) else Replicas.of_lists(replicas)
        layout, count = self._layouts[kind], len(joined.held)
        held = np.zeros(count, np.bool_)
        if not len(joined.of):
            return MergedReplicas(np.zeros((count, layout.plan.width), np.int64), held)
        merged = np.empty((count, layout.plan.width), np.int64)
        merged[:, : layout.at.head] = 0
        held[joined.of] = True
        merge_replicas(layout.plan, self.unpack(kind, joined.blobs), joined.of, joined.held, joined.asked, merged)
        return MergedReplicas(merged, held)

    def fold(
        self,
        columns: EventColumns,
        rows: Mapping[str, EntityRows],
        own: Mapping[str, NDArray[np.int64]],
        others: Mapping[str, MergedReplicas],
        commits: NDArray[np.int64] | None = None,
        flags: LatenessFlags | None = None,
    ) -> FoldResult:
        """Read every event's features and add it to its entities, in the order of the columns.

        Args:
            columns: B events.
            rows: `self.rows(columns)`, or some of its kinds: features of missing kinds have their defaults. The first of
                `self.kinds` checks lateness and repetition, so it must be present unless `flags` are.
            own: per kind (N, W), changed in place.
            others: per kind, changed in place; a kind may be missing.
            commits: (B,) the number of the step that will apply each event, for duplicates of it; 0 where no step has a number.
            flags: Lateness and repetition from an earlier fold of the first kind.
        """
        states = {}
        for name, layout in self._layouts.items():
            if name not in rows:
                continue
            needed = (len(rows[name]), layout.plan.width)
            merged, heads = _no_rows(layout), np.zeros(0, np.int64)
            if name in others and others[name].held.any():
                merged = _checked(others[name].rows, needed, name)
                heads = merged[:, 0].copy()  # the fold changes the column
            touched = np.zeros(len(rows[name]), np.bool_)
            states[name] = FoldState(rows[name].row, _checked(own[name], needed, name), merged, heads, touched, _NO_EXPIRY)
        fold_pass = self.begin(columns, commits, flags)
        self._fold_into(fold_pass, states)
        return fold_pass.result()

    def begin(
        self, columns: EventColumns, commits: NDArray[np.int64] | None = None, flags: LatenessFlags | None = None
    ) -> FoldPass:
        """Begin a fold whose kinds follow one by one (`fold_into`).

        Args:
            columns: B events of one group.
            commits: As in `fold`.
            flags: As in `fold`.
        """
        out = self._out(len(columns))
        if flags is not None:
            out.late_by[:], out.duplicate_of[:] = flags.late_by_ms, flags.duplicate_of
        return FoldPass(columns, commits, out, has_flags=flags is not None)

    def fold_into(
        self, fold_pass: FoldPass, rows: Mapping[str, NDArray[np.int32]], state: Mapping[str, NDArray[np.int64]]
    ) -> None:
        """Fold some kinds of a batch; the first call includes the first of `self.kinds`, unless `begin` had flags.

        The state of an entity that had no event for longer than its kind's time to live is cleared, by event time.

        Args:
            fold_pass: From `begin`.
            rows: Per kind (B,) int32 below N, the row of each event's entity, -1 for none.
            state: Per kind (N, W), changed in place.
        """
        states = {}
        for name, layout in self._layouts.items():
            if name in rows:
                own, touched = state[name], np.zeros(len(state[name]), np.bool_)
                _checked(own, (len(own), layout.plan.width), name)
                states[name] = FoldState(rows[name], own, _no_rows(layout), np.zeros(0, np.int64), touched, self._ttl_ms[name])
        self._fold_into(fold_pass, states)

    def _fold_into(self, fold_pass: FoldPass, states: Mapping[str, FoldState]) -> None:
        assert fold_pass.has_flags or self.kinds[0].name in states, "the first kind must check lateness and repetition"
        for name, state in states.items():
            plan = self._layouts[name].plan
            if len(state.own) or len(plan.always):  # else no event has such an entity: all defaults
                lateness_ms = _NO_CHECK if fold_pass.has_flags else self.allowed_lateness_ms
                fold_kind(plan, fold_pass.batch, state, fold_pass.out, FoldScratch.of(plan), lateness_ms)
                fold_pass.has_flags = True
            fold_pass.touched[name] = state.touched

    def _out(self, count: int) -> FoldOutput:
        return FoldOutput(
            late_by=np.zeros(count, np.int64),
            duplicate_of=np.full(count, -1, np.int64),
            dense=np.repeat(self._defaults[None, :], count, axis=0),
            sequence_ids=np.zeros((count, sequence.SEQUENCE, sequence.CODES), np.int32),
            sequence_gaps=np.zeros((count, sequence.SEQUENCE), np.float32),
            query_ids=np.zeros((count, sequence.QUERIES, sequence.QUERY_CODES), np.int32),
            query_gaps=np.zeros((count, sequence.QUERIES), np.float32),
        )

    def pack(self, kind: str, own: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> Blobs:
        """Encode state (N, W) for the store: all rows, or the numbers `rows` (K,). Equal states give equal bytes."""
        return pack_rows(self._layouts[kind], own, rows)

    def read_features(
        self, kind: str, blobs: Blobs | Sequence[bytes | None] | MergedReplicas, at_ms: NDArray[np.int64] | int
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Read the features of N entities as an event at `at_ms` without values of its own would see them.

        Args:
            kind: The entity kind.
            blobs: Single states, or merged replicas.
            at_ms: Epoch ms, one for all or (N,).

        Returns:
            The names of the kind's features, and (N, F_kind) float32.
        """
        layout = self._layouts[kind]
        own = blobs.rows.copy() if isinstance(blobs, MergedReplicas) else self.unpack(kind, blobs)
        count = len(own)
        selected = [(f.name, column) for f, column in zip(layout.features, layout.columns, strict=True) if f.entity != EVENT]
        times = np.ascontiguousarray(np.broadcast_to(np.asarray(at_ms, np.int64), (count,)))
        # One event without values per entity; the fold adds it to the decoded copy, which is dropped.
        batch = FoldBatch(
            times, np.zeros((count, len(self.catalogue.measures)), np.int64), np.zeros((count, 4), np.int32),
            np.zeros((count, 4), np.int32), np.zeros(count, np.int64), np.zeros(count, np.int64),
        )  # fmt: skip
        rows, touched = np.arange(count, dtype=np.int32), np.zeros(count, np.bool_)
        state = FoldState(rows, own, _no_rows(layout), np.zeros(0, np.int64), touched, _NO_EXPIRY)
        out = self._out(count)
        fold_kind(layout.plan, batch, state, out, FoldScratch.of(layout.plan), _NO_CHECK)
        return tuple(name for name, _ in selected), out.dense[:, [column for _, column in selected]]

    def describe(self, kind: str, blob: bytes | None) -> dict[str, object]:
        """Return one entity's decoded state (stream_app/features/state/describe.py)."""
        return describe_row(self.catalogue, self._layouts[kind], self.unpack(kind, [blob])[0])

    def describe_replicas(self, kind: str, others: MergedReplicas, number: int) -> dict[str, object]:
        """Return the decoded state of one entity's merged replicas."""
        return describe_row(self.catalogue, self._layouts[kind], others.rows[number])

    def columns_of(self, kind: str) -> tuple[int, ...]:
        """Return the columns of `dense` that a fold of this kind writes; the first kind includes those of the event itself."""
        return self._layouts[kind].columns

    def widths(self) -> dict[str, int]:
        """Return how many columns of state an entity of each kind has."""
        return {name: layout.plan.width for name, layout in self._layouts.items()}

    def warm(self) -> None:
        """Compile the code of a batch, or load it from the cache on disk; a minute the first time on a machine."""
        events: list[Event] = [
            Search(event_id="s", user="u", event_time_ms=1, device="d", ip="::1", query="q"),
            Click(event_id="c", user="u", event_time_ms=2, device="d", ip="::1", action="view", item="i", category="c"),
            Order(event_id="o", user="u", event_time_ms=3, lines=[OrderLine(item="i")], amount=1.0, currency="EUR"),
        ]
        columns = self.columns(events, [0, 0, 0], Pseudonymizer(b"warm"))
        rows = self.rows(columns)
        blobs = {name: Blobs.of([None] * len(rows[name])) for name in rows}
        for _ in range(2):  # the second round has replicas of other groups
            own = {name: self.unpack(name, blobs[name]) for name in rows}
            others = {
                kind.name: self.merge(kind.name, [[b] for b in blobs[kind.name] if b]) for kind in self.kinds if kind.shared
            }
            self.fold(columns, rows, own, {name: other for name, other in others.items() if len(other.held)})
            blobs = {name: self.pack(name, state) for name, state in own.items()}
            for name in rows:
                self.read_features(name, blobs[name], 4)


def _checked(state: NDArray[np.int64], needed: tuple[int, int], kind: str) -> NDArray[np.int64]:
    # The compiled loop checks no bounds: it would read a matrix of another shape beyond its end.
    if state.shape != needed:
        raise ContractError(f"the state of {kind} is {state.shape}, the batch needs {needed}; unpack the rows of this batch")
    return state


def _no_rows(layout: KindLayout) -> NDArray[np.int64]:
    return np.zeros((0, layout.plan.width), np.int64)
