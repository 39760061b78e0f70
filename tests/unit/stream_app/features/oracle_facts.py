"""What one event has - measures, entities, codes - straight from the sentences of declare.py and model/contract.py.

Own code from the event's fields on: nothing of stream_app.features is used but the declared catalogue, which is data.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final
from zlib import crc32

from stream_app.events import Click, Event, Order, Search
from stream_app.features.declarations import ENTITIES, Catalogue, Measure

KINDS: Final = ("search", "view", "click", "cart", "favourite", "order")
SCENES: Final = ("other", "home", "search", "detail", "cart", "live", "recommend", "campaign", "checkout", "service")
PLATFORMS: Final = ("other", "ios", "android", "web", "mini_program", "pos")
OF_USER: Final = {"session": "session", "user_category": "category"}  # entities that are a user together with another one
NONE: Final = (0, 0, 0, 0)


@dataclass(frozen=True)
class Fact:
    """One event as the oracle keeps it, with where it was applied."""

    time_ms: int
    kind: str
    topic: str
    event_id: str
    values: dict[str, int]  # by measure
    names: dict[str, str]  # by entity: what stands for it; "" for none
    codes: tuple[int, int, int, int]  # item bucket, category bucket, kind + 1, price bucket
    query: tuple[int, int, int, int]
    context: tuple[int, int, int, int]
    group: int = 0
    batch: int = 0
    commit: int = 0


def kind_of(event: Event) -> str:
    if isinstance(event, Search):
        return "search"
    return event.action if isinstance(event, Click) else "order"


def item_of(event: Event) -> tuple[str, str, float]:
    """Item, category and price; of an order its first line's."""
    if isinstance(event, Click):
        return event.item, event.category, event.price
    if isinstance(event, Order):
        return event.lines[0].item, event.lines[0].category, event.lines[0].unit_price
    return "", "", 0.0


def normalised(query: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split())[:512].rstrip()


def words_of(query: str) -> list[str]:
    """Runs of letters and digits; what is written without spaces (Han, kana) character by character."""
    spaced = ""
    for char in query:
        if unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA")):
            spaced += f" {char} "
        else:
            spaced += char if char.isalnum() else " "
    return spaced.split()


def address_of(ip: str) -> str:
    """The one spelling of an address, without its zone, of an IPv4 one written as IPv6 the IPv4 one; "" for what is none."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0] if ":" in ip else ip)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def network_of(ip: str) -> str:
    """The /24 of an IPv4 address, also one written as IPv6, the /48 of an IPv6 one; "" for what is no address."""
    if not address_of(ip):
        return ""
    address = ipaddress.ip_address(address_of(ip))
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def text_of(event: Event, what: str) -> str:
    """The identifier of `what` that the event names; "" if none."""
    if what == "query":
        return normalised(event.query) if isinstance(event, Search) else ""
    if what in ("ip", "network"):
        return address_of(event.ip) if what == "ip" else network_of(event.ip)
    if what in ("item", "category"):
        item, category, _ = item_of(event)
        return item if what == "item" else category
    if what in ("instrument", "address"):
        return str(getattr(event, {"instrument": "payment_instrument", "address": "shipping_address"}[what], ""))
    return str(getattr(event, what))


def name_of(event: Event, entity: str) -> str:
    """What stands for the entity among those of its kind; "" if the event has none."""
    text = text_of(event, OF_USER.get(entity, entity))
    return f"{event.user} {text}" if text and entity in OF_USER else text


def digest(domain: str, text: str, key: bytes) -> bytes:
    return blake2b(text.encode(), digest_size=16, key=key, person=domain.encode()).digest() if text else b""


def key_of(event: Event, entity: str, key: bytes) -> bytes:
    """The key its state is kept under; b"" if the event has no such entity."""
    part = OF_USER.get(entity)
    if part is None:
        return digest(entity, text_of(event, entity), key)
    second = digest(part, text_of(event, part), key)
    return digest("user", event.user, key) + second[:8] if second else b""


def utc(time_ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def cents(money: float) -> int:
    return round(money * 100)


def foreign(event: Event) -> int:
    if not isinstance(event, Order):
        return 0
    return max(0, len({event.billing_country, event.shipping_country, event.ip_country} - {""}) - 1)


_READ: Final[dict[str, Callable[[Event], int]]] = {
    "one": lambda _: 1,
    "amount": lambda e: cents(e.amount) if isinstance(e, Order) else 0,
    "price": lambda e: cents(item_of(e)[2]),
    "dwell": lambda e: e.dwell_ms if isinstance(e, Click) else 0,
    "position": lambda e: e.position if isinstance(e, Click) else 0,
    "quantity": lambda e: sum(line.quantity for line in e.lines) if isinstance(e, Order) else 0,
    "lines": lambda e: len(e.lines) if isinstance(e, Order) else 0,
    "shown": lambda e: len(e.items_shown) if isinstance(e, Search) else 0,
    "query_length": lambda e: len(normalised(e.query)) if isinstance(e, Search) else 0,
    "night": lambda e: int(utc(e.event_time_ms).hour < 7),
    "weekend": lambda e: int(utc(e.event_time_ms).isoweekday() >= 6),
    "foreign": foreign,
    "hour": lambda e: utc(e.event_time_ms).hour + 1,
    "weekday": lambda e: utc(e.event_time_ms).isoweekday(),
    "scene": lambda e: 1 + SCENES.index(e.scene),
    "platform": lambda e: 1 + PLATFORMS.index(e.platform),
    "category": lambda e: 1 + crc32(item_of(e)[1].encode()) if item_of(e)[1] else 0,
}


def measured(event: Event, measure: Measure, key: bytes) -> int:
    """The event's value of a measure; 0 for "not this event"."""
    if measure.kinds and kind_of(event) not in measure.kinds:
        return 0
    if measure.field in _READ:
        return _READ[measure.field](event)
    return int.from_bytes(digest(measure.field, text_of(event, measure.field), key)[:8], "big") // 2


def bucket(text: str, buckets: int) -> int:
    return 1 + crc32(text.encode()) % (buckets - 1) if text else 0


def price_bucket(in_cents: int) -> int:
    return min(15, max(1, len(f"{in_cents:b}") - 4)) if in_cents else 0


def query_codes(event: Event) -> tuple[int, int, int, int]:
    text = text_of(event, "query")
    words = [*words_of(text), "", "", ""]
    return bucket(text, 8_192), bucket(words[0], 8_192), bucket(words[1], 8_192), bucket(words[2], 8_192)


def fact_of(event: Event, catalogue: Catalogue, key: bytes) -> Fact:
    """Read everything that an event has, once."""
    item, category, price = item_of(event)
    kind = KINDS.index(kind_of(event))
    return Fact(
        time_ms=event.event_time_ms,
        kind=KINDS[kind],
        topic={"search": "searches", "order": "orders"}.get(KINDS[kind], "clicks"),
        event_id=event.event_id,
        values={m.name: measured(event, m, key) for m in catalogue.measures},
        names={entity: name_of(event, entity) for entity in ENTITIES},
        codes=(bucket(item, 16_384), bucket(category, 2_048), kind + 1, price_bucket(cents(price))),
        query=query_codes(event),
        context=(kind, SCENES.index(event.scene), PLATFORMS.index(event.platform), utc(event.event_time_ms).hour),
    )
