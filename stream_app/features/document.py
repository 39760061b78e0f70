"""docs/features.md, generated from the catalogue so that it cannot be wrong; lint compares the file with this."""

from __future__ import annotations

from collections.abc import Iterator

from stream_app.features.declare import EVENT, Catalogue, Feature
from stream_app.features.layout import catalogue_hash, kind_layout

__all__ = ["features_markdown"]

_DAY_MS, _HOUR_MS, _MINUTE_MS = 86_400_000, 3_600_000, 60_000

_INTRODUCTION = """\
# Features

Generated from `stream_app/features/catalog.py`; do not edit. Catalogue `{hash}`: {count} features, in the order of the tensor
`dense`. A model carries the hash it was trained with; a worker with another catalogue refuses it.

- Every value is read from the past: an event does not see itself, but for `own` and `ratio`, which use its own value.
- A window of length L at time t covers `floor((t - L) / tile) * tile <= event time < t`: nothing of the last L is missed, at most
  one tile too much is covered. The tile that holds t may also hold events that are later than one that comes out of order.
- An event that comes out of order is added to its tile while that tile is kept (`slots` tiles from the entity's newest event
  back), so the state does not depend on the order of arrival. Beyond the allowed lateness it changes nothing and goes to
  `late-events`.
- Money is summed in integer cents. `distinct` is linear counting over the stated bits, rounded: exact but for collisions.
- Default: the value for an entity without a past, or an event without such an entity. Values are clipped to the range.
"""


def features_markdown(catalogue: Catalogue) -> str:
    """Return the page: windows, state per entity, and one table of features for each entity. Ends with a newline."""
    lines = [_INTRODUCTION.format(hash=catalogue_hash(catalogue), count=len(catalogue.features))]
    lines += ["## Windows", "", "| window | tile | slots kept |", "| --- | --- | --- |"]
    lines += [f"| {w.name} | {_duration(w.tile_ms)} | {w.slots} |" for w in catalogue.windows]
    lines += ["", "## Entities", "", "| entity | what | replicas | expires after | columns of state |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for kind in catalogue.kinds:
        replicas = "one per partition group, merged when read" if kind.shared else "one"
        columns = kind_layout(catalogue, kind).plan.width
        lines.append(f"| {kind.name} | {kind.meaning} | {replicas} | {_duration(kind.ttl_ms)} | {columns} |")
    for entity in [*(k.name for k in catalogue.kinds), EVENT]:
        lines += _section(catalogue, entity)
    return "\n".join(lines) + "\n"


def _section(catalogue: Catalogue, entity: str) -> Iterator[str]:
    rows = [(i, f) for i, f in enumerate(catalogue.features) if f.entity == entity]
    if not rows:
        return
    yield from ("", f"## {'Of the event itself' if entity == EVENT else f'Of the {entity}'}", "")
    yield "| # | name | meaning | computed as | unit | range | default | why |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for column, f in rows:
        span = f"{f.low:g} .. {f.high:g}"
        yield f"| {column} | `{f.name}` | {f.meaning} | {_computed(f)} | {f.unit} | {span} | {f.default:g} | {f.reason} |"


def _computed(feature: Feature) -> str:
    over = f" over {feature.window}" if feature.window else ""
    if feature.aggregation == "rate":
        up, down = feature.prior
        return f"rate ({feature.measure} + {up:g}) / ({feature.per} + {down:g}){over}"
    if feature.aggregation == "distinct":
        return f"distinct {feature.measure}{over}, {64 * feature.words} bits"
    per = f" / {feature.per}" if feature.per else ""
    return f"{feature.aggregation} {feature.measure}{per}{over}".replace("  ", " ").strip()


def _duration(ms: int) -> str:
    for unit, size in (("d", _DAY_MS), ("h", _HOUR_MS), ("min", _MINUTE_MS)):
        if ms % size == 0:
            return f"{ms // size} {unit}"
    return f"{ms} ms"
