"""What one event holds - measures, entity keys, codes - by the sentences of declarations.py and model/contract.py.

Identifiers are hashed by BLAKE2b here, whatever the worker uses.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from zlib import crc32

from stream_app.events import Click, Event, Order, Search
from stream_app.features.declarations import Catalogue, Measure

Codes = tuple[int, int, int, int]

_KINDS: Final = ("search", "view", "click", "cart", "favourite", "order")
_TOPICS: Final = {"search": "searches", "order": "orders"}  # all other kinds: clicks
_SCENES: Final = ("other", "home", "search", "detail", "cart", "live", "recommend", "campaign", "checkout", "service")
_PLATFORMS: Final = ("other", "ios", "android", "web", "mini_program", "pos")
_WITH_USER: Final = {"session": "session", "user_category": "category"}  # entities whose key is the user's and another part's
_ITEMS, _CATEGORIES, _QUERIES = 16_384, 2_048, 8_192  # buckets of the codes
_DIGESTS: Final = 1 << 18  # some 40 MB; an identifier comes back within a few thousand events
NO_CODES: Final = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One event, and where it was applied.

    Attributes:
        time_ms: Event time.
        kind: One of the six kinds of events.
        topic: Its source topic.
        event_id: The producer's.
        event_hash: 48 bits of topic and event id.
        values: By measure; zeros are left out and read as 0.
        keys: By kind of entity: the key of its state. Kinds that the event names no entity of are left out.
        codes: Bucket of the item, bucket of the category, number of the kind (from 1), bucket of the price.
        query: Bucket of the query and of its first three words.
        context: Number of the kind (from 0), of the scene, of the platform; hour of the day (UTC).
        group: Partition group.
        batch: Number of the batch.
        commit: Number of the commit that applied it.
    """

    time_ms: int
    kind: str
    topic: str
    event_id: str
    event_hash: int
    values: Counter[str]
    keys: dict[str, bytes]
    codes: Codes
    query: Codes
    context: Codes
    group: int = 0
    batch: int = 0
    commit: int = 0


def facts_of(event: Event, catalogue: Catalogue, key: bytes, *, group: int = 0, batch: int = 0, commit: int = 0) -> EventFacts:
    """Read an event whose identifiers are hashed under `key`."""
    item, category, price = _item_of(event)
    kind = _kind_of(event)
    number, topic = _KINDS.index(kind), _TOPICS.get(kind, "clicks")
    values = {measure.name: _measured(event, kind, measure, key) for measure in catalogue.measures}
    return EventFacts(
        time_ms=event.event_time_ms,
        kind=kind,
        topic=topic,
        event_id=event.event_id,
        event_hash=_event_hash(topic, event.event_id),
        values=Counter({name: value for name, value in values.items() if value}),
        keys={entity.name: own for entity in catalogue.kinds if (own := _key_of(event, entity.name, key))},
        codes=(_bucket(item, _ITEMS), _bucket(category, _CATEGORIES), number + 1, price_bucket(cents(price))),
        query=query_codes(event),
        context=(number, _SCENES.index(event.scene), _PLATFORMS.index(event.platform), _utc(event).hour),
        group=group,
        batch=batch,
        commit=commit,
    )


def cents(money: float) -> int:
    """Return money in whole cents: the double's exact value, rounded half to even."""
    return round(Fraction(money) * 100)


@lru_cache(maxsize=_DIGESTS)
def digest(domain: str, text: str, key: bytes) -> bytes:
    """Return the 16 bytes that stand for an identifier: BLAKE2b under `key`, personalised with what it names; b"" for ""."""
    return blake2b(text.encode(), digest_size=16, key=key, person=domain.encode()).digest() if text else b""


def mixed(value: int) -> int:
    """Return 64 bits of which each depends on all of `value`'s: the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def price_bucket(in_cents: int) -> int:
    """Return 0 without a price, else about the price's power of two: 1 below 32 cents, 15 from 2^18 cents on."""
    return min(15, max(1, len(f"{in_cents:b}") - 4)) if in_cents else 0


def query_codes(event: Event) -> Codes:
    """Return the codes of a search's query and of its first three words; zeros for another event."""
    text = _identifier(event, "query")
    words = [*_words(text), "", "", ""]
    return _bucket(text, _QUERIES), _bucket(words[0], _QUERIES), _bucket(words[1], _QUERIES), _bucket(words[2], _QUERIES)


def _kind_of(event: Event) -> str:
    if isinstance(event, Search):
        return "search"
    return event.action if isinstance(event, Click) else "order"


def _item_of(event: Event) -> tuple[str, str, float]:
    """Item, category and price; of an order its first line's."""
    if isinstance(event, Click):
        return event.item, event.category, event.price
    if isinstance(event, Order):
        return event.lines[0].item, event.lines[0].category, event.lines[0].unit_price
    return "", "", 0.0


def _normalised(query: str) -> str:
    """The query without case, in Unicode's form NFKC, with single spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split())[:512].rstrip()


def _words(query: str) -> list[str]:
    """Runs of letters and digits; what is written without spaces (Han, kana) character by character."""
    spaced = ""
    for char in query:
        if unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA")):
            spaced += f" {char} "
        else:
            spaced += char if char.isalnum() else " "
    return spaced.split()


def _address(ip: str) -> str:
    """The usual spelling of an address, without its zone, of an IPv4 one written as IPv6 the IPv4 one; "" for anything else."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0] if ":" in ip else ip)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _network(ip: str) -> str:
    """The /24 of an IPv4 address (also one written as IPv6), the /48 of an IPv6 one; "" for anything else."""
    if not _address(ip):
        return ""
    address = ipaddress.ip_address(_address(ip))
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def _identifier(event: Event, part: str) -> str:
    """The identifier that the event has of an item, a category, a device, ...; "" if none."""
    if part == "query":
        return _normalised(event.query) if isinstance(event, Search) else ""
    if part in ("ip", "network"):
        return _address(event.ip) if part == "ip" else _network(event.ip)
    if part in ("item", "category"):
        item, category, _ = _item_of(event)
        return item if part == "item" else category
    if part in ("instrument", "address"):
        return str(getattr(event, {"instrument": "payment_instrument", "address": "shipping_address"}[part], ""))
    return str(getattr(event, part))


def _key_of(event: Event, entity: str, key: bytes) -> bytes:
    """The key of the entity's state: a digest, or the user's and 8 bytes of another part's; b"" for no such entity."""
    part = _WITH_USER.get(entity)
    if part is None:
        return digest(entity, _identifier(event, entity), key)
    second = digest(part, _identifier(event, part), key)
    return digest("user", event.user, key) + second[:8] if second else b""


def _utc(event: Event) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=event.event_time_ms)


def _foreign(event: Event) -> int:
    if not isinstance(event, Order):
        return 0
    return max(0, len({event.billing_country, event.shipping_country, event.ip_country} - {""}) - 1)


_NUMBERS: Final[dict[str, Callable[[Event], int]]] = {
    "one": lambda _: 1,
    "amount": lambda e: cents(e.amount) if isinstance(e, Order) else 0,
    "price": lambda e: cents(_item_of(e)[2]),
    "dwell": lambda e: e.dwell_ms if isinstance(e, Click) else 0,
    "position": lambda e: e.position if isinstance(e, Click) else 0,
    "quantity": lambda e: sum(line.quantity for line in e.lines) if isinstance(e, Order) else 0,
    "lines": lambda e: len(e.lines) if isinstance(e, Order) else 0,
    "shown": lambda e: len(e.items_shown) if isinstance(e, Search) else 0,
    "query_length": lambda e: len(_normalised(e.query)) if isinstance(e, Search) else 0,
    "night": lambda e: int(_utc(e).hour < 7),
    "weekend": lambda e: int(_utc(e).isoweekday() >= 6),
    "foreign": _foreign,
    "hour": lambda e: _utc(e).hour + 1,
    "weekday": lambda e: _utc(e).isoweekday(),
    "scene": lambda e: 1 + _SCENES.index(e.scene),
    "platform": lambda e: 1 + _PLATFORMS.index(e.platform),
    "category": lambda e: 1 + crc32(_item_of(e)[1].encode()) if _item_of(e)[1] else 0,
}


def _measured(event: Event, kind: str, measure: Measure, key: bytes) -> int:
    """The event's value of a measure; 0 if it is none of the measure's kinds. An identifier: the first 63 bits of its digest."""
    if measure.kinds and kind not in measure.kinds:
        return 0
    if measure.field in _NUMBERS:
        return _NUMBERS[measure.field](event)
    return int.from_bytes(digest(measure.field, _identifier(event, measure.field), key)[:8], "big") // 2


def _bucket(text: str, buckets: int) -> int:
    return 1 + crc32(text.encode()) % (buckets - 1) if text else 0


def _event_hash(topic: str, event_id: str) -> int:
    """48 bits of FNV-1a (Fowler, Noll, Vo) over topic, a NUL and event id, mixed once more; never 0."""
    state = 0xCBF29CE484222325
    for byte in f"{topic}\0{event_id}".encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return mixed(state) >> 16 or 1
