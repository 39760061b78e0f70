"""The catalogue on the command line: records for `--json`, a table and a page for people."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from stream_app.docgen.features_page import formula, most_bytes, spell_ms
from stream_app.errors import ConfigError
from stream_app.features.aggregations import SPECS
from stream_app.features.declarations import EVENT, Catalogue, Feature
from stream_app.features.state.layout import kind_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table


def selected(catalogue: Catalogue, entities: Sequence[str] = (), aggregations: Sequence[str] = ()) -> list[tuple[int, Feature]]:
    """Return (column, feature) of the features of some entities and aggregations; empty: all.

    Raises:
        ConfigError: The catalogue has no feature of a given name; the message lists the known names.
    """
    for what, names, known in (
        ("entity", entities, [f.entity for f in catalogue.features]),
        ("aggregation", aggregations, [f.aggregation for f in catalogue.features]),
    ):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigError(f"no feature has the {what} {unknown[0]!r}; there are {', '.join(dict.fromkeys(known))}")
    return [
        (column, f)
        for column, f in enumerate(catalogue.features)
        if (not entities or f.entity in entities) and (not aggregations or f.aggregation in aggregations)
    ]


def feature_named(catalogue: Catalogue, name: str) -> tuple[int, Feature]:
    """Return the column and the feature of that name.

    Raises:
        ConfigError: There is none; the message names similar ones.
    """
    names = [f.name for f in catalogue.features]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if name in n][:3]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"no feature is named {name!r}; {hint}`millrace features list` shows all {len(names)}")
    return names.index(name), catalogue.features[names.index(name)]


def feature_record(catalogue: Catalogue, column: int, feature: Feature) -> dict[str, object]:
    """Return the declaration of a feature and its formula; times are in ms."""
    window = catalogue.window(feature.window) if feature.window else None
    return {
        "name": feature.name,
        "column": column,
        "entity": feature.entity,
        "aggregation": feature.aggregation,
        "measure": feature.measure,
        "per": feature.per,
        "window": feature.window,
        "window_ms": window.length_ms if window else 0,
        "tile_ms": window.tile_ms if window else 0,
        "base": feature.base,
        "unit": feature.unit,
        "default": feature.default,
        "low": feature.low,
        "high": feature.high,
        "meaning": feature.meaning,
        "computed": formula(feature),
        "reason": feature.reason,
    }


def feature_table(rows: Sequence[tuple[int, Feature]]) -> Table:
    """Return one row a feature."""
    from rich.table import Table

    table = Table("#", "name", "entity", "aggregation", "window", "unit", "default", "meaning")
    for column, f in rows:
        window = " / ".join(filter(None, (f.window, f.base)))
        table.add_row(str(column), f.name, f.entity, f.aggregation, window, f.unit, f"{f.default:g}", f.meaning)
    return table


def feature_page(catalogue: Catalogue, column: int, feature: Feature) -> str:
    """Return the description of one feature, a line for each property."""
    lines = [
        ("name", feature.name),
        ("meaning", feature.meaning),
        ("why", feature.reason),
        ("computed as", formula(feature)),
        ("unit", feature.unit),
        ("range", f"{feature.low:g} .. {feature.high:g}"),
        ("default", f"{feature.default:g}"),
        ("column", f"{column} of {len(catalogue.features)} in the tensor dense"),
    ]
    if feature.entity != EVENT:
        kind = catalogue.kind(feature.entity)
        layout = kind_layout(catalogue, kind)
        replicas = (
            "one replica per partition group, merged when read" if kind.shared else "one state, of the user's partition group"
        )
        lines.append(("entity", f"{kind.name} ({kind.meaning}); {replicas}; expires after {spell_ms(kind.ttl_ms)}"))
        lines.append(
            ("state", f"{layout.plan.width} columns for all features of the {kind.name}, {most_bytes(layout):,} bytes at most")
        )
        lines.append(("reads", ", ".join(_part(catalogue, feature)) or "the times of the first and the newest event"))
    if feature.window:
        window = catalogue.window(feature.window)
        lines.append(
            (
                "window",
                f"{spell_ms(window.length_ms)} in {window.tiles} tiles of {spell_ms(window.tile_ms)}: one tile too much at most",
            )
        )
    lines.append(("as JSON", f"millrace features show {feature.name} --json"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _part(catalogue: Catalogue, feature: Feature) -> list[str]:
    """Return the parts of the state that a feature reads, by the names of `explain`."""
    windows = {w.name for w in catalogue.windows}
    return [
        f"{need.op} {need.measure}/{need.where}" if need.where in windows else f"{need.where} {need.measure}"
        for need in SPECS[feature.aggregation].needs(feature)
    ]
