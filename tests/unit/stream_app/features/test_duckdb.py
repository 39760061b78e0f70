"""Features of card transactions by DuckDB's SQL over the rows agree with the engine to the tile.

The windows are spelled out once more here: length and tile in ms, `floor((t - length) / tile) * tile <= time`, of transactions
before this one. Counts, sums, extremes, times and small distinct counts agree to the last bit of float32; what is divided within
1e-6; a standard deviation within the 0.12 that declare.py states.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np
import pytest

from stream_app.events import Event, Order, OrderLine
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, NOON, new_run

CARDS: Final = Path(__file__).parents[5] / "shared" / "data" / "fraud" / "card_transactions_apr_aug_2018.parquet"

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WINDOWS: Final = {
    "1m": (MINUTE, 10_000), "10m": (10 * MINUTE, MINUTE), "1h": (HOUR, 5 * MINUTE), "1d": (DAY, HOUR), "7d": (7 * DAY, 12 * HOUR),
    "30d": (30 * DAY, 2 * DAY),
}  # fmt: skip
EXACT, CLOSE = 0.0, 1e-6


class Computed(NamedTuple):
    """How SQL computes a feature: of the earlier transactions p with the same `key` as e, in `window` ("" for all)."""

    key: str
    window: str
    sql: str
    rtol: float = EXACT
    atol: float = 0.0
    small: str = ""  # only where this holds: sets are exact only while they are small


def since(window: str) -> str:
    """Condition on p: not before the window's first tile."""
    length, tile = WINDOWS[window]
    return f"p.t >= (e.t - {length}) // {tile} * {tile}"


def few_a_tile(what: str, window: str, words: int) -> str:
    """Whether no tile of the window has more than `words` different values (even with what comes after e)."""
    return f"coalesce(max(p.{what}s_{window}), 0) <= {words}"


COUNT, SPEND = "count(p.seq)", "coalesce(sum(p.cents), 0) / 100"
MEAN = "coalesce(sum(p.cents) / 100 / count(p.seq), 0)"
RATIO = "CASE WHEN e.cents = 0 THEN 0 WHEN sum(p.cents) > 0 THEN least(e.cents / (sum(p.cents) / count(p.seq)), 1000) ELSE 1 END"
SINCE_LAST = "coalesce(least((e.t - max(p.t)) / 1000, 2592000), 2592000)"
NEWEST = "p.t::HUGEINT * 1000000000 + p.cents"  # of several at one time, the largest
AGE = "coalesce((e.t - min(p.t)) / 1000, 0)"
NIGHT = "count(p.seq) FILTER (p.t // 3600000 % 24 < 7)"


def trend(what: str) -> str:
    """1 d against the 30 d of the join; where the time before has none, 1."""
    short = what.replace(")", f") FILTER ({since('1d')})", 1)
    return f"CASE WHEN {what} > 0 THEN least(coalesce({short}, 0) / {DAY} / ({what} / {30 * DAY}), 1000) ELSE 1 END"


FEATURES: Final[dict[str, Computed]] = {
    **{f"user_events_{w}": Computed("customer", w, COUNT) for w in ("1m", "10m", "1h", "1d", "30d")},
    **{f"user_orders_{w}": Computed("customer", w, COUNT) for w in ("10m", "1h", "1d", "7d", "30d")},
    **{f"user_spend_{w}": Computed("customer", w, SPEND) for w in ("1h", "1d", "7d", "30d")},
    **{f"user_order_mean_{w}": Computed("customer", w, MEAN, CLOSE) for w in ("1d", "7d", "30d")},
    "user_order_max_30d": Computed("customer", "30d", "coalesce(max(p.cents) FILTER (p.cents > 0), 0) / 100"),
    "user_order_min_1d": Computed("customer", "1d", "coalesce(min(p.cents) FILTER (p.cents > 0), 0) / 100"),
    "user_order_std_30d": Computed(
        "customer", "30d", "CASE WHEN count(p.seq) >= 2 THEN stddev_pop(p.cents) / 100 ELSE 0 END", CLOSE, 0.12
    ),
    "user_last_amount": Computed("customer", "", f"coalesce(arg_max(p.cents, {NEWEST}) FILTER (p.cents > 0), 0) / 100"),
    "user_amount_vs_mean_30d": Computed("customer", "30d", RATIO, CLOSE),
    "user_spend_trend_1d_30d": Computed("customer", "30d", trend("sum(p.cents)"), CLOSE),
    "user_night_order_rate_30d": Computed("customer", "30d", f"({NIGHT} + 1) / (count(p.seq) + 10)", CLOSE),
    "user_hour_share": Computed(
        "customer",
        "",
        "CASE WHEN count(p.seq) = 0 THEN 0 ELSE "
        "(count(p.seq) FILTER (p.t // 3600000 % 24 = e.t // 3600000 % 24) + 1) / (count(p.seq) + 24) END",
        CLOSE,
    ),
    "user_seconds_since_last": Computed("customer", "", SINCE_LAST),
    "user_seconds_since_order": Computed("customer", "", SINCE_LAST),
    "user_seconds_since_cart": Computed("customer", "", "2592000"),
    "user_age_seconds": Computed("customer", "", AGE),
    "user_order_gap_mean_1d": Computed(
        "customer",
        "1d",
        "CASE WHEN count(p.seq) < 2 THEN 2592000 ELSE (max(p.t) - min(p.t)) / 1000 / (count(p.seq) - 1) END",
        CLOSE,
    ),
    "user_distinct_devices_7d": Computed("customer", "7d", "count(DISTINCT p.terminal)", small=few_a_tile("terminal", "7d", 2)),
    "user_distinct_instruments_7d": Computed("customer", "7d", "count(DISTINCT p.customer)"),
    **{f"device_orders_{w}": Computed("terminal", w, COUNT) for w in ("1d", "7d", "30d")},
    "device_spend_1d": Computed("terminal", "1d", SPEND),
    **{f"device_order_mean_{w}": Computed("terminal", w, MEAN, CLOSE) for w in ("1d", "7d", "30d")},
    "device_amount_vs_mean_7d": Computed("terminal", "7d", RATIO, CLOSE),
    "device_orders_trend_1d_30d": Computed("terminal", "30d", trend("count(p.seq)"), CLOSE),
    "device_distinct_users_1d": Computed("terminal", "1d", "count(DISTINCT p.customer)", small=few_a_tile("customer", "1d", 4)),
    "device_distinct_users_7d": Computed("terminal", "7d", "count(DISTINCT p.customer)", small=few_a_tile("customer", "7d", 4)),
    "device_seconds_since_last": Computed("terminal", "", SINCE_LAST),
    "device_age_seconds": Computed("terminal", "", AGE),
    "instrument_orders_1h": Computed("customer", "1h", COUNT),
    "instrument_spend_1d": Computed("customer", "1d", SPEND),
    "item_age_seconds": Computed("terminal", "", AGE),
    "amount": Computed("customer", "", "e.cents / 100"),
}

Transaction = tuple[int, int, int, int]  # time in ms, customer, terminal, cents


def generated(many: int = 2_500) -> list[Transaction]:
    """Card transactions of the handbook's shape: customers with a pace and an amount of their own, who like some terminals."""
    seeded = random.Random(2018)
    rows: list[Transaction] = []
    for customer in range(12):
        pace, usual = seeded.choice([2 * HOUR, 9 * HOUR, 26 * HOUR]), seeded.uniform(500, 20_000)
        terminals = seeded.sample(range(8), seeded.choice([1, 2, 2, 4]))
        time_ms = NOON + seeded.randrange(DAY)
        while time_ms < NOON + 60 * DAY:
            cents = max(0, round(seeded.gauss(usual, usual / 2)))
            rows.append((time_ms, customer, seeded.choice(terminals), cents))
            burst = seeded.random() < 0.1
            # Some on the very edges of tiles, where an off-by-one would show.
            time_ms += 30_000 if burst else seeded.choice([HOUR, DAY, 5 * MINUTE, round(seeded.expovariate(1 / pace)), pace])
            if seeded.random() < 0.1:
                time_ms -= time_ms % HOUR
    return sorted(rows)[:many]


def real() -> list[Transaction]:
    """Some customers and some terminals of the handbook's data, of all five months."""
    rows = duckdb.execute(
        "SELECT epoch_ms(time), customer_id, terminal_id, CAST(round(amount * 100) AS BIGINT) FROM read_parquet(?) "
        "WHERE customer_id % 1000 = 7 OR terminal_id % 2000 = 5 ORDER BY time, transaction_id",
        [str(CARDS)],
    ).fetchall()
    return [(int(t), int(customer), int(terminal), int(cents)) for t, customer, terminal, cents in rows]


def by_engine(rows: Sequence[Transaction]) -> dict[str, list[float]]:
    """The features of FEATURES, of one order a transaction as the import mapping `cards` makes it."""
    log: list[Event] = [
        Order(
            event_id=f"card-{number}",
            user=f"card-{customer}",
            event_time_ms=time_ms,
            device=f"terminal-{terminal}",
            scene="checkout",
            platform="pos",
            lines=[OrderLine(item=f"terminal-{terminal}", category="card-payment", unit_price=cents / 100)],
            amount=cents / 100,
            currency="EUR",
            payment_instrument=f"card-{customer}",
        )
        for number, (time_ms, customer, terminal, cents) in enumerate(rows)
    ]
    run = new_run(lateness_ms=ALL_ORDERS_MS)
    dense = np.concatenate([result.dense for result in run.batches(log, 256)])
    return {name: dense[:, run.engine.feature_names.index(name)].tolist() for name in FEATURES}


def by_sql(rows: Sequence[Transaction], folder: Path) -> dict[str, list[tuple[float, bool]]]:
    """The same features, each with whether it is a small one, by one query for each key and window."""
    table = folder / "transactions.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows((number, *row) for number, row in enumerate(rows))
    actual: dict[str, list[tuple[float, bool]]] = {}
    with duckdb.connect(config={"threads": 1}) as database:
        columns = "{'seq': 'BIGINT', 't': 'BIGINT', 'customer': 'BIGINT', 'terminal': 'BIGINT', 'cents': 'BIGINT'}"
        database.execute(f"CREATE TABLE rows AS FROM read_csv('{table}', header = false, columns = {columns})")
        by_window = sorted(FEATURES.items(), key=lambda item: item[1][:2])
        for (key, window), group in groupby(by_window, key=lambda item: item[1][:2]):
            features = list(group)
            many = ", ".join(
                f"count(DISTINCT {what}) OVER (PARTITION BY {key}, t // {WINDOWS[w][1]}) AS {what}s_{w}"
                for what, w in (("terminal", "7d"), ("customer", "1d"), ("customer", "7d"))
            )
            database.execute(f"CREATE OR REPLACE TEMP TABLE tx AS SELECT *, {key} AS k, {many} FROM rows")
            shown = ", ".join(f"CAST({of.sql} AS DOUBLE), {of.small or 'true'}" for _, of in features)
            condition = since(window) if window else "true"
            result = database.execute(
                f"SELECT {shown} FROM tx e LEFT JOIN tx p ON p.k = e.k AND p.seq < e.seq AND {condition} "
                "GROUP BY e.seq, e.t, e.cents ORDER BY e.seq"
            ).fetchall()
            for place, (name, _) in enumerate(features):
                actual[name] = [(row[2 * place], row[2 * place + 1] is not False) for row in result]
    return actual


def compare(rows: Sequence[Transaction], folder: Path) -> None:
    engine, sql = by_engine(rows), by_sql(rows, folder)
    assert len(FEATURES) >= 20
    for name, of in FEATURES.items():
        assert len(engine[name]) == len(sql[name]) == len(rows)
        pairs = [(read, value) for read, (value, small) in zip(engine[name], sql[name], strict=True) if small]
        assert len(pairs) > len(rows) / 4, f"{name} is small too seldom for a comparison"
        actual, expected = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
        np.testing.assert_allclose(actual, expected, rtol=of.rtol, atol=of.atol, err_msg=name)
        assert name in ("user_seconds_since_cart",) or len(set(actual.tolist())) > 1, f"{name} is always the same"


def test_generated_card_transactions_agree_with_sql(tmp_path: Path) -> None:
    compare(generated(), tmp_path)


@pytest.mark.skipif(not CARDS.exists(), reason=f"{CARDS} is not there: it is local data that the repository does not hold")
def test_real_card_transactions_agree_with_sql(tmp_path: Path) -> None:
    rows = real()
    assert len(rows) > 2_000
    compare(rows, tmp_path)
