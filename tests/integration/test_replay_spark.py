"""`millrace replay --engine spark` on two executors writes the bytes that one process writes: answers and features."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

CHECKOUT = Path(__file__).resolve().parents[2]
CLUSTER = "local-cluster[2,1,1024]"
MAPPING = """
name = "pays"
description = "payments, with devices that users share"

[source]
format = "parquet"

[[record]]
topic = "orders"

[record.fields]
event_id = "p-{id}"
user = "u-{user}"
device = "d-{device}"
event_time_ms = { column = "time", unit = "s" }
lines = [{ item = "i-{item}", category = "c" }]
amount = { column = "amount" }
currency = "EUR"
"""


def payments(path: Path) -> Path:
    """900 payments in three row groups, out of order, thirty of them twice, one without a user that can be."""
    draw = random.Random(9)
    rows: list[dict[str, Any]] = [
        {
            "id": number, "user": str(draw.randrange(25)), "device": draw.randrange(12), "item": draw.randrange(40),
            "time": 1_780_000_000 + draw.randrange(3 * 86_400), "amount": draw.randrange(1, 9_000) / 100,
        }
        for number in range(900)
    ]  # fmt: skip
    rows += draw.sample(rows, 30)
    rows[100] = {**rows[100], "user": "no user"}
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=310)
    return path


def replayed(folder: Path, log: Path, mapping: Path, *options: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "stream_app", "replay", str(log), "--mapping", str(mapping), "--model", "none", "--batch", "200",
        "--out", str(folder / "answers"), "--features-out", str(folder / "features"), *options,
    ]  # fmt: skip
    # Machine code of the first tier only: three Java machines run for seconds, and would compile all the time.
    environ = {**os.environ, "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".replay" not in path.parts
    }


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None and not os.environ.get("CI"), reason="Spark needs Java 17")
def test_two_executors_write_the_bytes_of_one_process(tmp_path: Path) -> None:
    log, mapping = payments(tmp_path / "pays.parquet"), tmp_path / "pays.toml"
    mapping.write_text(MAPPING)
    one = replayed(tmp_path / "one", log, mapping)
    spark = replayed(tmp_path / "spark", log, mapping, "--engine", "spark", "--spark-master", CLUSTER)
    expected = bytes_of(tmp_path / "one")
    assert one["events"] == 929
    assert one["duplicates"] >= 29
    assert one["problems"] == 1
    assert {name.split("/")[0] for name, data in expected.items() if data} == {"answers", "features"}
    assert bytes_of(tmp_path / "spark") == expected
    told = ("events", "duplicates", "dead_letters", "problems", "problems_by_reason")
    assert {name: spark[name] for name in told} == {name: one[name] for name in told}
