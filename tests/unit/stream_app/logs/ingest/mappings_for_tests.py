"""A small shop's log and its mapping, for the import tests, and what reads a file or a sink's output for them."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from stream_app.logs.ingest.mapping import LogMapping, load_mapping
from stream_app.logs.ingest.rows import RowSource

VISITS = """
name = "visits"
[source]
header = true
[[record]]
topic = "clicks"
where = { what = ["look", "basket"] }
[record.fields]
event_id = "v-{row}"
user = "v{who}"
event_time_ms = { column = "when", unit = "iso", time_zone = "Europe/Berlin" }
action = { column = "what", map = { look = "view", basket = "cart" } }
item = "i{thing}"
price = { column = "price", default = 0 }
[[record]]
topic = "orders"
where = { what = ["pay"] }
[record.fields]
event_id = "v-{row}"
user = "v{who}"
event_time_ms = { column = "when", unit = "iso", time_zone = "Europe/Berlin" }
lines = [{ item = "i{thing}", unit_price = { column = "price" } }]
amount = { column = "price" }
currency = "EUR"
"""
HEADER = "who,when,what,thing,price\n"


def visits(n: int) -> str:
    """Return a CSV of n good rows: two looks, then a payment, and so on."""
    what = ("look", "look", "pay")
    return HEADER + "".join(f"{r % 50},2026-01-31 12:00:00,{what[r % 3]},{r % 9},{r}.5\n" for r in range(n))


def mapping_from(folder: Path, text: str = VISITS) -> LogMapping:
    """Write a mapping into `folder` and load it."""
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return load_mapping(str(path))


def read_jsonl(path: Path) -> list[tuple[str, bytes, bytes, int]]:
    """Return the (topic, key, value, time_ms) that a JsonlSink wrote."""
    records = []
    with path.open("rb") as lines:
        for text in lines:
            line = msgspec.json.decode(text)
            value = line["value"].encode() if "value" in line else base64.b64decode(line["value_base64"])
            records.append((line["topic"], line["key"].encode(), value, line["time_ms"]))
    return records


def read_until_it_ends(source: RowSource, got: list[object]) -> None:
    """Read all rows of a file into `got`, which keeps those before what is raised."""
    for chunk in source.chunks(0, 100):
        got.extend(chunk)
