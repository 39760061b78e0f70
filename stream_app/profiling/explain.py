"""One entity's features at a time, and the stored state that they are read from.

Read-only; workers may run at the same time. A shared entity's replicas are merged, as a worker merges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stream_app.docgen.features_page import formula, spell_ms
from stream_app.errors import ConfigError
from stream_app.features.columns.event_columns import EntityRows
from stream_app.features.state.blobs import Blobs, Replicas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from stream_app.features.declarations import Catalogue
    from stream_app.features.engine import FeatureEngine
    from stream_app.store.port import Store

NEWEST: Final = -1  # "when its newest event is just past", for logs that were not live
_TAIL: Final = 8  # tiles and entries of a sequence in the text; --json has all


@dataclass(frozen=True, slots=True)
class ExplainedFeatures:
    """One entity at one time.

    Attributes:
        entity: Kind of entity.
        name: Identifier of the entity.
        group: Partition group of the entity; -1 for a shared kind, whose replicas are in several.
        groups: Number of groups that hold a part of the state.
        at_ms: Time at which the features are computed.
        features: Name -> value, in the catalogue's order.
        state: `FeatureEngine.describe`.
    """

    entity: str
    name: str
    group: int
    groups: int
    at_ms: int
    features: Mapping[str, float]
    state: Mapping[str, Any]

    @property
    def known(self) -> bool:
        """Whether the store has state of the entity."""
        return self.state["newest_ms"] is not None


def time_from_text(text: str) -> int:
    """Read a time: `newest`, epoch ms or s, or ISO (UTC where it names no zone). Returns epoch ms, or NEWEST.

    Raises:
        ConfigError: It is none of these.
    """
    if text == "newest":
        return NEWEST
    if text.isdigit():
        number = int(text)
        return number if number >= 100_000_000_000 else number * 1000  # as ms it would be before March 1973
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as err:
        raise ConfigError(
            f"--at {text!r} is no time; write `newest`, epoch milliseconds, or ISO as 2026-11-24T10:30:00+00:00"
        ) from err
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


async def explain(
    store: Store, engine: FeatureEngine, entity: str, name: str, digest: bytes, group: int, at_ms: int
) -> ExplainedFeatures:
    """Read the entity of that kind, identifier and key, and its features at `at_ms`, epoch ms or NEWEST.

    `group` is the partition group to read from; for a shared kind any, the replicas of all the others are merged to it.

    Raises:
        StoreUnavailableError: The store does not answer.
        ContractError: The state is damaged, or of a layout that is unknown.
    """
    engine.learn_layouts(await store.layouts({}))
    rows = EntityRows(np.array([group], np.int32), [digest], np.zeros(1, np.int32))
    snapshot = await store.read({entity: rows})
    own, shared = snapshot.own[entity], engine.catalogue.kind(entity).shared
    if not shared:
        state = engine.describe(entity, own[0] or None)
        at_ms = _at(at_ms, state)
        names, values = engine.read_features(entity, own, at_ms)
        groups = int(bool(own[0]))
    else:
        found = _with_own(own, snapshot.others[entity])
        merged = engine.merge(entity, found)
        state = engine.describe_replicas(entity, merged, 0)
        at_ms = _at(at_ms, state)
        names, values = engine.read_features(entity, merged, at_ms)
        groups = int(found.held[0])
    features = {feature: float(value) for feature, value in zip(names, values[0], strict=True)}
    return ExplainedFeatures(entity, name, -1 if shared else group, groups, at_ms, features, state)


def explained_json(explained: ExplainedFeatures) -> dict[str, object]:
    """Return it for one line of JSON, with the starts of tiles as texts."""
    who = {"user": explained.name} if explained.entity == "user" else {"entity": explained.entity, "id": explained.name}
    place = {"groups": explained.groups} if explained.group < 0 else {"group": explained.group}
    return {
        **who,
        **place,
        "at_ms": explained.at_ms,
        "known": explained.known,
        "features": dict(explained.features),
        "state": dict(explained.state),
    }


def explained_text(explained: ExplainedFeatures, catalogue: Catalogue) -> Iterator[RenderableType]:
    """Yield the text report: the entity, its features with their formulas, its state."""
    from rich.table import Table

    where = f"{explained.groups} partition groups" if explained.group < 0 else f"partition group {explained.group}"
    if not explained.known:
        ttl = spell_ms(catalogue.kind(explained.entity).ttl_ms)
        yield (
            f"{explained.entity} {explained.name}: the store knows nothing of it, so every feature has its default. No event "
            f"of it was scored, or none for {ttl}; or redis.prefix, kafka.partitions or privacy.id_key differ from the workers'"
        )
        return
    yield f"{explained.entity} {explained.name}, {where}, at {_when(explained.at_ms)} UTC"
    yield from _ages(explained)
    table = Table("feature", "value", "unit", "computed as")
    for f in catalogue.features:
        if f.name in explained.features:
            value = explained.features[f.name]
            text = f"[dim]{value:,.6g}[/dim]" if np.float32(value) == np.float32(f.default) else f"[bold]{value:,.6g}[/bold]"
            table.add_row(f.name, text, f.unit, formula(f))
    yield table
    yield "from this state (newest last; --json shows all of it):"
    yield _state_table(explained.state)


def _at(at_ms: int, state: Mapping[str, Any]) -> int:
    # An event in the same millisecond as the newest would not see it in its tiles' sum any differently: one later does.
    return (state["newest_ms"] or 0) + 1 if at_ms == NEWEST else at_ms


def _with_own(own: Blobs, others: Replicas) -> Replicas:
    """Join the replica of the group that was read from to those of the other groups."""
    if not own[0]:
        return others
    blobs = Blobs.of([own[0], *others.blobs])
    one = np.ones(1, np.int32)
    return Replicas(blobs, np.zeros(len(blobs), np.int32), others.held + one, others.asked + one)


def _ages(explained: ExplainedFeatures) -> Iterator[str]:
    newest, first = explained.state["newest_ms"], explained.state["first_ms"]
    yield f"events from {_when(first)} to {_when(newest)}"
    if explained.at_ms <= newest:
        yield f"the newest event is {_span(newest - explained.at_ms)} after that time: its tiles may know more than was known"
    elif explained.at_ms - newest > 30 * 86_400_000:
        yield f"the newest event is {_span(explained.at_ms - newest)} before that: every window is empty; try `--at newest`"


def _state_table(state: Mapping[str, Any]) -> RenderableType:
    from rich.table import Table

    table = Table("part", "content")
    for part, tiles in state["tiles"].items():
        if tiles:
            table.add_row(part, _tail([f"{_when(start)}: {value:,}" for start, value in tiles.items()]))
    for part, tiles in state["distinct"].items():
        if tiles:
            lines = [
                f"{_when(start)}: {len(s['values'])} values" if "values" in s else f"{_when(start)}: sketch"
                for start, s in tiles.items()
            ]
            table.add_row(f"distinct {part}", _tail(lines))
    for part, last in state.get("last", {}).items():
        table.add_row(f"last {part}", f"{last['value']} at {_when(last['time_ms'])}")
    for part, cells in state.get("histograms", {}).items():
        if any(cells):
            table.add_row(f"histogram {part}", ", ".join(f"{cell}: {n}" for cell, n in enumerate(cells) if n))
    session = state.get("session")
    if session:
        sums = ", ".join(f"{name} {value:,}" for name, value in session["sums"].items())
        table.add_row("session", f"{_when(session['start_ms'])} to {_when(session['last_ms'])}: {sums}")
    for part in ("sequence", "queries"):
        entries = state.get(part, [])
        if entries:
            table.add_row(part, _tail([f"{_when(e['time_ms'])} {e.get('kind', '')} {_codes(e)}" for e in entries]))
    return table


def _codes(entry: Mapping[str, Any]) -> str:
    if "codes" in entry:
        return f"codes {entry['codes']}"
    return f"item {entry['item']} category {entry['category']} price {entry['price']}"


def _tail(lines: list[str]) -> str:
    more = [f"... {len(lines) - _TAIL} before"] if len(lines) > _TAIL else []
    return "\n".join([*more, *lines[-_TAIL:]])


def _when(ms: int) -> str:
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (f".{ms % 1000:03d}" if ms % 1000 else "")


def _span(ms: int) -> str:
    return (
        f"{ms / 86_400_000:.1f} d" if ms >= 86_400_000 else f"{ms / 3_600_000:.1f} h" if ms >= 3_600_000 else f"{ms / 1000:.1f} s"
    )
