"""Log of an unknown shop, and its mapping."""

from __future__ import annotations

# Actions and columns have names of their own; a column of the same row is the fraud label.
MAPPING = """
name = "visits"
[[record]]
topic = "clicks"
where = { what = ["see", "like", "basket"] }
[record.fields]
event_id = "{file}-{row}"
user = "v-{who}"
event_time_ms = { column = "when", unit = "s" }
device = "{phone}"
action = { column = "what", map = { see = "view", like = "click", basket = "cart" } }
item = "{thing}"
category = "{shelf}"
[[record]]
topic = "orders"
where = { what = ["pay"] }
[record.fields]
event_id = "{file}-{row}"
user = "v-{who}"
event_time_ms = { column = "when", unit = "s" }
device = "{phone}"
lines = [{ item = "{thing}", category = "{shelf}" }]
amount = { column = "cost", default = 0 }
currency = "EUR"
[[record]]
topic = "labels"
where = { bad = ["yes"] }
[record.fields]
event_id = "{file}-{row}"
user = "v-{who}"
label_time_ms = { column = "when", unit = "s", plus_ms = 86_400_000 }
task = "fraud"
value = 1
source = "import"
"""
HEADER = "who,when,what,thing,shelf,cost,phone,bad\n"


def line(who: str, second: int, what: str, thing: str, *, bad: bool = False, cost: str = "9.5") -> str:
    """Return one row; a fraud if `bad`, which is known a day later."""
    return f"{who},{second},{what},{thing},{thing[0]},{cost},phone-{who},{'yes' if bad else 'no'}\n"
