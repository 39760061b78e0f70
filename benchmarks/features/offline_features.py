"""Twenty of the features of card transactions, point in time, as Polars and DuckDB compute them from a whole table at once.

All are counts and sums over windows that begin at a tile, of what came before a row in order of (time, row): a sum up to the row
less the sum up to the window's first tile. Both tools scan whole columns on one thread; neither keeps a state, so neither
could go on with the next event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
_TIES: Final = 1 << 20  # rows of one millisecond, at most
_WINDOWS: Final = {
    "1m": (_MINUTE, 10_000), "10m": (10 * _MINUTE, _MINUTE), "1h": (_HOUR, 5 * _MINUTE), "1d": (_DAY, _HOUR),
    "7d": (7 * _DAY, 12 * _HOUR), "30d": (30 * _DAY, 2 * _DAY),
}  # fmt: skip

# feature -> (entity, what, window)
FEATURES: Final[dict[str, tuple[str, str, str]]] = {
    **{f"user_events_{w}": ("customer", "count", w) for w in ("1m", "10m", "1h", "1d", "30d")},
    "user_orders_7d": ("customer", "count", "7d"),
    **{f"user_spend_{w}": ("customer", "sum", w) for w in ("1h", "1d", "7d", "30d")},
    **{f"user_order_mean_{w}": ("customer", "mean", w) for w in ("1d", "7d", "30d")},
    "device_events_10m": ("terminal", "count", "10m"),
    **{f"device_orders_{w}": ("terminal", "count", w) for w in ("1d", "7d", "30d")},
    "device_spend_1d": ("terminal", "sum", "1d"),
    "device_order_mean_1d": ("terminal", "mean", "1d"),
    "instrument_spend_1d": ("customer", "sum", "1d"),
}


@dataclass(frozen=True, slots=True)
class Transactions:
    """N card transactions in order of (time, row): all (N,) int64."""

    time_ms: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    cents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time_ms)


def by_duckdb(data: Transactions) -> Callable[[], dict[str, NDArray[np.float64]]]:
    """Return what computes FEATURES by SQL: one window frame for each entity and window."""
    import duckdb

    order = _order(data)
    frames = sorted({(entity, window) for entity, _, window in FEATURES.values()})
    parts, windows = ["place"], []
    for entity, window in frames:
        length, tile = _WINDOWS[window]
        name = f"{entity}_{window}"
        back = f"place - greatest(0, (t - {length}) // {tile} * {tile}) * {_TIES}"
        windows.append(f"{name} AS (PARTITION BY {entity} ORDER BY place RANGE BETWEEN ({back}) PRECEDING AND 1 PRECEDING)")
        parts += [f"count(*) OVER {name} AS n_{name}", f"coalesce(sum(cents) OVER {name}, 0)::BIGINT AS s_{name}"]
    query = f"SELECT {', '.join(parts)} FROM cards WINDOW {', '.join(windows)} ORDER BY place"  # noqa: S608 (all of it is ours)
    connection = duckdb.connect(config={"threads": 1})
    table = {"place": order, "t": data.time_ms, "customer": data.customer, "terminal": data.terminal, "cents": data.cents}
    connection.execute("CREATE TABLE cards (place BIGINT, t BIGINT, customer BIGINT, terminal BIGINT, cents BIGINT)")
    import pyarrow as pa

    given = pa.table(table)
    connection.register("given", given)
    connection.execute("INSERT INTO cards SELECT place, t, customer, terminal, cents FROM given")

    def run() -> dict[str, NDArray[np.float64]]:
        columns = connection.execute(query).fetchnumpy()
        return _features(lambda kind, entity, window: np.asarray(columns[f"{kind}_{entity}_{window}"], np.int64))

    return run


def by_polars(data: Transactions) -> Callable[[], dict[str, NDArray[np.float64]]]:
    """Return what computes FEATURES with sums up to each row, and an as-of join to the window's first tile."""
    import polars as pl

    frame = pl.DataFrame(
        {"place": _order(data), "t": data.time_ms, "customer": data.customer, "terminal": data.terminal, "cents": data.cents}
    )

    def run() -> dict[str, NDArray[np.float64]]:
        sums: dict[tuple[str, str, str], Any] = {}
        for entity in ("customer", "terminal"):
            upto = frame.with_columns(
                n=pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(entity), s=pl.col("cents").cum_sum().over(entity)
            )
            keyed = upto.select(entity, "place", "n", "s").set_sorted("place")
            for window in sorted({w for e, _, w in FEATURES.values() if e == entity}):
                length, tile = _WINDOWS[window]
                first = ((pl.col("t") - length) // tile * tile).clip(lower_bound=0) * _TIES - 1
                asked = upto.select(entity, "place", "n", "s", "cents", edge=first).sort("edge")
                columns = asked.join_asof(
                    keyed, left_on="edge", right_on="place", by=entity, suffix="_before", check_sortedness=False
                ).sort("place")  # both are sorted
                sums["n", entity, window] = (columns["n"] - 1 - columns["n_before"].fill_null(0)).to_numpy()
                sums["s", entity, window] = (columns["s"] - columns["cents"] - columns["s_before"].fill_null(0)).to_numpy()
        return _features(lambda kind, entity, window: np.asarray(sums[kind, entity, window], np.int64))

    return run


def _order(data: Transactions) -> NDArray[np.int64]:
    """A number for each row that ascends with (time, row) and tells the time: time * 2**20 + how many of that time before."""
    starts = np.flatnonzero(np.diff(data.time_ms, prepend=-1))
    first = np.repeat(starts, np.diff(np.append(starts, len(data))))
    return data.time_ms * _TIES + np.arange(len(data)) - first


def _features(of: Callable[[str, str, str], NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
    columns = {}
    for name, (entity, what, window) in FEATURES.items():
        count = of("n", entity, window).astype(np.float64)
        spend = of("s", entity, window) / 100.0
        mean = np.divide(spend, count, out=np.zeros_like(spend), where=count > 0)
        columns[name] = {"count": count, "sum": spend, "mean": mean}[what]
    return columns
