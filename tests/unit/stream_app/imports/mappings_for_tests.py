"""A small shop's log and its mapping, for the import tests."""

from __future__ import annotations

from pathlib import Path

from stream_app.imports.mapping import Mapping, load_mapping

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


def mapping_from(folder: Path, text: str = VISITS) -> Mapping:
    """Write a mapping into `folder` and load it."""
    path = folder / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    return load_mapping(str(path))
