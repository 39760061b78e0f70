from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import pytest

from stream_app.errors import ConfigError
from stream_app.profiling.columns import Column, inspect_columns, time_column
from stream_app.profiling.table_files import ColumnTable

START = datetime(2026, 1, 1, tzinfo=UTC)
START_S = int(START.timestamp())
N = 400


def inspected(columns: dict[str, Sequence[Any]], *, headless: bool = False, label: str = "") -> dict[str, Column]:
    table = ColumnTable(list(columns), [list(values) for values in columns.values()], headless)
    return {column.name: column for column in inspect_columns(table, label)}


def one(name: str, values: Sequence[Any]) -> Column:
    return inspected({name: values})[name]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("text", [False, True])
def test_epochs_are_found_in_every_unit(unit: str, scale: int, text: bool) -> None:
    values = [(START_S + 60 * n) * scale for n in range(N)]
    column = one("c5", [str(v) for v in values] if text else values)  # no name helps: it ascends
    assert (column.time_unit, column.role) == (unit, "time")
    assert column.time_ms is not None
    assert column.time_ms[:2].tolist() == [START_S * 1_000, START_S * 1_000 + 60_000]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("%Y-%m-%d %H:%M:%S", "ISO 8601"),
        ("%Y-%m-%dT%H:%M:%S+00:00", "ISO 8601"),
        ("%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M"),
        ("%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M"),
        ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S"),
        ("%d/%b/%Y:%H:%M:%S +0000", "%d/%b/%Y:%H:%M:%S %z"),
    ],
)
def test_written_times_are_found_in_usual_forms(form: str, said: str) -> None:
    moments = [START + timedelta(hours=13 * n) for n in range(N)]
    column = one("when", [moment.strftime(form) for moment in moments])
    assert column.time_unit == said
    assert column.time_ms is not None
    assert column.time_ms[7] == (START_S + 13 * 3_600 * 7) * 1_000


def test_seconds_since_the_start_are_a_time_and_numbers_of_that_size_are_none() -> None:
    assert one("TX_TIME_SECONDS", [31 * n for n in range(N)]).time_unit == "s since the start"
    assert one("ip_number", Random(1).sample(range(600_000_000, 4_000_000_000), N)).time_ms is None
    assert one("amount", [31 * n for n in range(N)]).time_ms is None


def test_empty_cells_are_no_times_and_no_numbers() -> None:
    column = one("time", ["", str(START_S), None, str(START_S + 1)])
    assert column.time_ms is not None
    assert column.time_ms.tolist() == [-1, START_S * 1_000, -1, START_S * 1_000 + 1_000]
    assert column.numbers is not None
    assert np.isnan(column.numbers[[0, 2]]).all()
    assert (column.filled, column.distinct) == (2, 2)


def test_roles_by_name_and_values() -> None:
    rng = Random(5)
    found = inspected(
        {
            "transaction_id": list(range(N)),
            "customer_id": [rng.randrange(90) for _ in range(N)],
            "terminalId": [f"t{rng.randrange(100)}" for _ in range(N)],
            "user_agent": [f"Mozilla/{rng.randrange(100)}" for _ in range(N)],
            "amount": [round(rng.uniform(1, 99), 2) for _ in range(N)],
            "pieces": [rng.randrange(500) for _ in range(N)],
            "channel": [rng.choice(["web", "app", "shop"]) for _ in range(N)],
            "currency": ["EUR"] * N,
            "comment": [f"a customer wrote number {n} of many words" for n in range(N // 2)] * 2,
            "isFraud": [int(rng.random() < 0.1) for _ in range(N)],
            "ip_address": [732_758_368.5 + rng.randrange(70) for _ in range(N)],
        }
    )
    assert {name: column.role for name, column in found.items()} == {
        "transaction_id": "row id",
        "customer_id": "entity",
        "terminalId": "entity",
        "user_agent": "entity",
        "amount": "measure",
        "pieces": "measure",
        "channel": "category",
        "currency": "constant",
        "comment": "text",
        "isFraud": "label",
        "ip_address": "entity",
    }
    kinds = {name: column.kind for name, column in found.items() if column.kind}
    assert kinds == {"customer_id": "user", "terminalId": "device", "ip_address": "ip"}


def test_whole_numbers_of_a_headless_file_are_ids_and_a_label_may_be_named() -> None:
    values = [n % 90 for n in range(N)]
    assert inspected({"c1": values, "c2": values}, headless=True)["c1"].role == "entity"
    assert inspected({"n": values, "m": [n % 2 for n in range(N)]}, label="m")["m"].role == "label"


def test_the_event_time_is_chosen_before_other_times() -> None:
    times = [START_S + 60 * n for n in range(N)]
    columns = list(inspected({"signup_time": times, "purchase_time": times, "chargeback_at": times}).values())
    chosen = time_column(columns)
    assert chosen is not None
    assert (chosen.column.name, chosen.ascending) == ("purchase_time", True)
    wanted = time_column(columns, "signup_time")
    assert wanted is not None
    assert wanted.column.name == "signup_time"
    with pytest.raises(ConfigError, match="--time amount: that column holds no times"):
        time_column(columns, "amount")
    assert time_column(list(inspected({"a": ["x", "y"] * 50}).values())) is None


def test_a_time_that_jumps_is_not_ascending() -> None:
    times = [START_S + 60 * n for n in range(N)]
    Random(3).shuffle(times)
    chosen = time_column(list(inspected({"time": times}).values()))
    assert chosen is not None
    assert not chosen.ascending
