"""The page docs/features.md, generated from the catalogue; lint compares the file with this text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from stream_app.features.aggregations import SPECS
from stream_app.features.catalog import SOURCES
from stream_app.features.declarations import EVENT, Catalogue, Feature
from stream_app.features.state.layout import KindLayout, catalogue_hash, kind_layout

_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))
_VARINT: Final = 10  # bytes of the longest column of a blob
_FRAME: Final = 16  # tag, checksum and the mask of columns; a tile and the head need a varint each beside their columns

_INTRODUCTION: Final = """\
# Features

Generated from `stream_app/features/catalog/` by `millrace docs`; do not edit. Catalogue `{hash}`: {count} features, in the
order of the tensor `dense`. A model carries the hash of its catalogue; a worker with another catalogue refuses it. `millrace
features list` and `show NAME` print the same on the command line, and `explain USER` a user's features of this moment.

## How to read a value

- A value comes from the past: an event does not see itself. Only `own`, and the aggregations that compare the event with its
  past (`ratio`, `zscore`, `changed`, `share`, `rank`), use its own value.
- A window of length L at time t covers `floor((t - L) / tile) * tile <= event time < t`: all of the last L, and at most one
  tile more. For an event out of order, the tile that holds t may also hold later events.
- An event out of order is added to its tile while the tile exists (`slots` tiles back from the entity's newest event), so the
  state does not depend on the order of arrival. It reads whole windows up to the time in the table below behind the entity's
  newest event, and shorter ones further behind. Beyond the allowed lateness it changes no state and goes to `late-events`.
- An IP address counts in its canonical spelling: an IPv4 address written as IPv6 is the same one. Other text is no address.
- A duplicate (same topic, event id and event time as one of the user's last 32 events) changes no state.
- Money is summed in integer cents. Sums, counts, minima and maxima are exact.
- `distinct` is exact while each tile has at most as many different values as it has words, and the window at most 32. Above it
  each tile is a HyperLogLog sketch: the relative standard error is {errors}.
- `std` and `zscore` count amounts of more than 100,000.00 as 100,000.00, and are off by at most 0.12.
- Default: the value for an entity without a past, or an event without such an entity. Values are clipped to the range.
- The replicas of a shared entity (one per partition group) are merged when it is read. A read takes at most
  `redis.max_replicas` (32) of other groups; where more exist, sums are scaled up and `distinct` is a lower bound.
"""

_MIGRATION: Final = """\
## Adding, changing and removing a feature

1. Edit the declaration in `stream_app/features/catalog/`: one `Feature`, and nothing else but a window or measure it may need.
   `millrace features show NAME` prints the result, `millrace features estimate` the cost.
2. `millrace docs` writes this page. The catalogue's hash has changed, so the worker refuses the old model: train one
   (`training`), which writes the new hash into its manifest. Then exchange the workers one after the other: a worker that finds
   state of an unknown layout reads the layout from the store. State that an old worker writes loses the new parts again.
3. The state needs no migration. Every blob begins with the tag of its layout, and the store has the layout of each tag
   (`layouts`). A worker that finds a blob of another layout takes over the common parts: tiles of the same window,
   tile and measure, last values, histograms of the same cells, the session, the sequence. A new part reads as empty and fills
   as events come: a 30 day window is whole after 30 days, or at once after a replay of the log. A removed part is dropped when
   the blob is next written. Common parts lose nothing.
4. A change of a feature's prose, unit or an entity's expiry changes neither hash nor state; a change of default, range, prior or
   name changes the hash, but no state. Another window, tile, measure, number of cells or words is another part of the state: it
   begins empty.
"""


def features_markdown(catalogue: Catalogue) -> str:
    """Return the page: windows, state per entity, a table of features for each entity, sources. Ends with a newline."""
    hashed, count = catalogue_hash(catalogue), len(catalogue.features)
    lines = [_INTRODUCTION.format(hash=hashed, count=count, errors=_errors(catalogue))]
    lines += ["## Windows", ""]
    lines += ["| window | length | tile | slots kept | whole if out of order by |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {w.name} | {spell_ms(w.length_ms)} | {spell_ms(w.tile_ms)} | {w.slots} | {spell_ms(w.spare_tiles * w.tile_ms)} |"
        for w in catalogue.windows
    ]
    lines += _entities(catalogue)
    for entity in [*(k.name for k in catalogue.kinds), EVENT]:
        lines += _section(catalogue, entity)
    cited = [(name, work) for name, work in SOURCES.items() if any(f"{name}:" in f.reason for f in catalogue.features)]
    lines += ["", "## Sources", "", *(f"- {name}: {work}." for name, work in cited)]
    lines += ["", _MIGRATION.rstrip("\n")]
    return "\n".join(lines) + "\n"


def formula(feature: Feature) -> str:
    """Return the formula of a feature in words."""
    return SPECS[feature.aggregation].formula(feature)


def most_bytes(layout: KindLayout) -> int:
    """Return the upper bound of a blob's size: every tile full, every number of the greatest length."""
    tiles = sum(block.window.slots for block in layout.schema.blocks)
    return _FRAME + _VARINT * (layout.plan.width + tiles)


def spell_ms(ms: int) -> str:
    """Return a duration in the largest unit that gives a whole number."""
    return next((f"{ms // size} {unit}" for unit, size in _UNITS if ms % size == 0), f"{ms} ms")


def _errors(catalogue: Catalogue) -> str:
    sizes = sorted({f.words for f in catalogue.features if f.words})
    errors = [f"{100 * 1.04 / math.sqrt(16 * words - 1):.0f} % with {words} words" for words in sizes]
    return ", ".join(errors) or "1.04 / sqrt(16 words - 1)"


def _entities(catalogue: Catalogue) -> Iterator[str]:
    yield from ("", "## Entities", "")
    yield "State of one entity is one blob. Most of its tiles are empty and take no space; `at most` is the bound with every tile"
    yield "full and every number of the greatest length. Real blobs are far smaller: `millrace features estimate` measures them."
    yield ""
    yield "| entity | what | features | replicas | expires after | sessions | columns | at most |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for kind in catalogue.kinds:
        layout = kind_layout(catalogue, kind)
        replicas = "one per partition group" if kind.shared else "one"
        count = sum(f.entity == kind.name for f in catalogue.features)
        sessions = f"end after {spell_ms(kind.session_gap_ms)}" if kind.session_gap_ms else "none"
        cells = (kind.name, kind.meaning, count, replicas, spell_ms(kind.ttl_ms), sessions, layout.plan.width)
        yield f"| {' | '.join(map(str, cells))} | {most_bytes(layout):,} bytes |"


def _section(catalogue: Catalogue, entity: str) -> Iterator[str]:
    rows = [(i, f) for i, f in enumerate(catalogue.features) if f.entity == entity]
    if not rows:
        return
    title = {EVENT: "Of the event itself", "user_category": "Of the user and the category"}.get(entity, f"Of the {entity}")
    yield from ("", f"## {title}", "")
    yield "| # | name | meaning | computed as | window | unit | range | default | source |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for column, f in rows:
        span = f"{f.low:g} .. {f.high:g}"
        window = " / ".join(filter(None, (f.window, f.base))) or "-"
        yield (
            f"| {column} | `{f.name}` | {f.meaning} | {formula(f)} | {window} | {f.unit} | {span} | {f.default:g} | {f.reason} |"
        )
