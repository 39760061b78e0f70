"""One entity's state as readable data: for `explain`, and for oracles that compare state exactly.

    {"newest_ms": 1700000000000, "first_ms": 1699990000000,
     "tiles": {"sum views/1h": {1699999800000: 3}, "max spend/1d": {1699999200000: 1999}, "first events/1h": {...}},
     "distinct": {"category/1d": {1699999200000: {"values": [3, 77]}}},
     "last": {"device": {"time_ms": ..., "value": ...}}, "histograms": {"hour": [0, 2, ...]},
     "session": {"start_ms": ..., "last_ms": ..., "sums": {"events": 3}},
     "sequence": [{"time_ms": ..., "item": 812, "category": 17, "kind": "view", "price": 6, "event": ..., "commit": ...}, ...],
     "queries": [{"time_ms": ..., "codes": [5, 7, 0, 0]}, ...]}

Keys of tiles are the tiles' starts in ms; empty tiles and cells of 0 are omitted. Sums are integers (money in cents), latest and
first are epoch ms. Sequences are in order of arrival, oldest first. Parts that the kind lacks are missing; an entity without a
past has None for both times.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_app.events import KINDS
from stream_app.features.aggregations.windows.distinct import registers_of
from stream_app.features.declarations import Catalogue
from stream_app.features.sequence import ENTRY, QUERIES, QUERY_ENTRY, SEQUENCE
from stream_app.features.state.layout import KindLayout
from stream_app.features.state.plan import HEADER
from stream_app.features.state.state_schema import Block, MeasureKey


def describe_row(catalogue: Catalogue, layout: KindLayout, row: NDArray[np.int64]) -> dict[str, object]:
    """Decode one row (W,) int64 into the form above."""
    names = {MeasureKey.of(m): m.name for m in catalogue.measures}
    spans = {(w.length_ms, w.tile_ms, w.spare_tiles): w.name for w in catalogue.windows}
    at, schema, empty = layout.at, layout.schema, row[0] == 0
    tiles: dict[str, dict[int, int]] = {}
    distinct: dict[str, dict[int, dict[str, list[int]]]] = {}
    for number, block in enumerate(schema.blocks):
        w = block.window
        window = spans[w.length_ms, w.tile_ms, w.spare_tiles]
        records = {} if empty else _records(block, at.blocks[number], int(row[HEADER + number]), row)
        column = 0
        for cell in block.cells:
            parts = {start: record[column : column + cell.columns] for start, record in records.items()}
            column += cell.columns
            if cell.op == "distinct":
                distinct[f"{names[cell.measure]}/{window}"] = {s: _set(words) for s, words in parts.items() if words.any()}
            else:
                off = 1 if cell.op in ("latest", "first") else 0
                values = {start: int(values[0]) for start, values in parts.items()}
                tiles[f"{cell.op} {names[cell.measure]}/{window}"] = {s: v - off for s, v in values.items() if v}
    described: dict[str, object] = {
        "newest_ms": None if empty else int(row[0]) - 1,
        "first_ms": None if empty else int(row[1]) - 1,
        "tiles": tiles,
        "distinct": distinct,
    }
    if at.lasts:
        described["last"] = {
            names[key]: {"time_ms": int(row[c]) - 1, "value": int(row[c + 1])} for key, c in at.lasts.items() if row[c]
        }
    if schema.histograms:
        described["histograms"] = {
            names[h.measure]: row[at.histograms[h.measure] : at.histograms[h.measure] + h.cells].tolist()
            for h in schema.histograms
        }
    if schema.session_gap_ms:
        described["session"] = _session(layout, names, row)
    if schema.sequence:
        described["sequence"] = _sequence(row[at.sequence : at.queries])
        described["queries"] = _queries(row[at.queries : at.head])
    return described


def _records(block: Block, offset: int, word: int, row: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    tile_ms, slots = block.window.tile_ms, block.window.slots
    head = (int(row[0]) - 1) // tile_ms
    table = row[offset : offset + slots * block.width].reshape(slots, block.width)
    stored = [k for k in range(max(0, head - slots + 1), head + 1) if word >> k % slots & 1]
    return {k * tile_ms: table[k % slots] for k in stored}


def _set(words: NDArray[np.int64]) -> dict[str, list[int]]:
    if words[-1] < 0:
        return {"registers": registers_of(words)}
    return {"values": [value for value in words.tolist() if value]}


def _session(layout: KindLayout, names: Mapping[MeasureKey, str], row: NDArray[np.int64]) -> dict[str, object] | None:
    start, last, *sums = row[layout.at.session : layout.at.session + 2 + len(layout.schema.session)].tolist()
    if not start:
        return None
    named = dict(zip([names[key] for key in layout.schema.session], sums, strict=True))
    return {"start_ms": start - 1, "last_ms": last - 1, "sums": named}


def _sequence(part: NDArray[np.int64]) -> list[dict[str, object]]:
    total, entries = int(part[0]), part[1:].reshape(SEQUENCE, ENTRY).tolist()
    stored = [entries[n % SEQUENCE] for n in range(max(0, total - SEQUENCE), total)]
    return [
        {
            "time_ms": time - 1,
            "item": item,
            "category": category,
            "kind": KINDS[kind - 1],
            "price": price,
            "event": event,
            "commit": commit,
        }
        for time, item, category, kind, price, event, commit in stored
    ]


def _queries(part: NDArray[np.int64]) -> list[dict[str, object]]:
    total, entries = int(part[0]), part[1:].reshape(QUERIES, QUERY_ENTRY).tolist()
    stored = [entries[n % QUERIES] for n in range(max(0, total - QUERIES), total)]
    return [{"time_ms": entry[0] - 1, "codes": entry[1:]} for entry in stored]
