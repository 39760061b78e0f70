"""Read the raw files without the importer: rows to events as the comments of the mappings describe them.

- Taobao (`user,item,category,behaviour,epoch_s`, no header): pv is a view, cart and fav are cart and favourite, buy is
  an order of one item without a price.
- Cards (Parquet: transaction_id, time, customer_id, terminal_id, amount, ...): each row is an order of `amount`; the
  terminal is the device and the item, the customer's card the instrument. Chargebacks go to another topic and touch no
  state.

Where the real files are absent, `stand_in` writes files of the same shape, so that a run can go on and say so.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stream_app.events import Click, Event, Order, OrderLine

TAOBAO = Path("clickstream") / "taobao_user_behavior.csv.gz"
CARDS = Path("fraud") / "card_transactions_apr_aug_2018.parquet"
_BEHAVIOURS: dict[str, Any] = {"pv": "view", "cart": "cart", "fav": "favourite", "buy": "order"}
_CENTS = 100


@dataclass(frozen=True, slots=True)
class RawFiles:
    """Where the two files are, and whether they are the real ones."""

    taobao: Path
    cards: Path
    kind: Literal["real", "simulated"]


def find_files(data: Path) -> RawFiles | None:
    """Return the real files under `data`, or None if one of them is not there."""
    files = RawFiles(data / TAOBAO, data / CARDS, "real")
    return files if files.taobao.is_file() and files.cards.is_file() else None


def taobao_events(path: Path, limit: int) -> Iterator[Event]:
    """Yield the first `limit` rows of the clickstream as events, in the file's order (which is of time)."""
    with gzip.open(path, "rt", newline="") as file:
        for number, (user, item_id, category_id, behaviour, epoch_s) in enumerate(csv.reader(file)):
            if number >= limit:
                return
            head: dict[str, Any] = {
                "event_id": f"taobao-{number + 1}",
                "user": f"tb-{user}",
                "event_time_ms": int(epoch_s) * 1000,
            }
            item: dict[str, Any] = {"item": f"tb-{item_id}", "category": f"tb-{category_id}"}
            kind = _BEHAVIOURS[behaviour]
            if kind == "order":
                yield Order(**head, lines=[OrderLine(**item)], amount=0.0, currency="CNY", scene="checkout")
            else:
                yield Click(**head, **item, action=kind, scene="detail")


def card_events(path: Path, limit: int) -> Iterator[Event]:
    """Yield the first `limit` card transactions by time (of equal times, in the file's order) as orders."""
    table = pq.read_table(path, columns=["transaction_id", "time", "customer_id", "terminal_id", "amount"])
    times_ms = table["time"].cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
    order = np.argsort(times_ms, kind="stable")[:limit]
    columns = (times_ms, *(table[name].to_numpy() for name in ("transaction_id", "customer_id", "terminal_id", "amount")))
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    for time_ms, transaction, customer, terminal, amount in rows:
        yield Order(
            event_id=f"card-{transaction}",
            user=f"card-{customer}",
            event_time_ms=time_ms,
            device=f"terminal-{terminal}",
            lines=[OrderLine(item=f"terminal-{terminal}", category="card-payment", unit_price=amount)],
            amount=amount,
            currency="EUR",
            payment_instrument=f"card-{customer}",
            scene="checkout",
            platform="pos",
        )


def stand_in(folder: Path, taobao_rows: int, card_rows: int, seed: int = 7) -> RawFiles:
    """Write files of the real ones' shape into `folder`: seeded, sorted by time, repeating users, items and terminals."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = RawFiles(folder / TAOBAO.name, folder / CARDS.name, "simulated")
    seconds = np.sort(rng.integers(1_511_658_000, 1_511_665_800, taobao_rows))
    kinds = rng.choice(list(_BEHAVIOURS), taobao_rows, p=[0.89, 0.055, 0.03, 0.025])
    columns = (rng.integers(1, 1 + taobao_rows // 4, taobao_rows), rng.integers(1, 5_000, taobao_rows))
    items = columns[1].tolist()
    with gzip.open(files.taobao, "wt", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for user, item, kind, at in zip(columns[0].tolist(), items, kinds.tolist(), seconds.tolist(), strict=True):
            writer.writerow((user, item, item % 300, kind, at))
    pq.write_table(_card_table(rng, card_rows), files.cards)
    return files


def _card_table(rng: np.random.Generator, rows: int) -> Any:  # noqa: ANN401  # pyarrow ships no types
    start_ms = 1_522_540_800_000  # 2018-04-01
    times = np.sort(rng.integers(start_ms, start_ms + 20 * 86_400_000, rows)).astype("datetime64[ms]")
    return pa.table(
        {
            "transaction_id": np.arange(rows, dtype=np.int64),
            "time": times,
            "customer_id": rng.integers(0, max(10, rows // 40), rows).astype(np.int32),
            "terminal_id": rng.integers(0, max(10, rows // 20), rows).astype(np.int32),
            "amount": np.round(rng.lognormal(3.5, 1.0, rows) * _CENTS) / _CENTS,
            "fraud": np.zeros(rows, np.int8),
            "scenario": np.zeros(rows, np.int8),
        }
    )
