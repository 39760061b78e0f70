"""What one raw event says: its identifiers, its integers, its entry in a sequence. In the plainest way, for the oracle.

Says again, with no code of the engine, what stream_app/features/declarations.py (Measure) and model/contract.py say of a
field, so that a disagreement shows a mistake in one of the two. Identifiers are hashed by BLAKE2b here, whatever the worker uses.
"""

from __future__ import annotations

import ipaddress
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from hashlib import blake2b
from typing import Final, NamedTuple

from stream_app.events import PLATFORMS, SCENES
from stream_app.features.declarations import Measure

__all__ = [
    "KIND_CODES",
    "Entry",
    "Hashes",
    "Query",
    "RawEvent",
    "cents",
    "entry_of",
    "identifier_hash",
    "key_of",
    "mixed",
    "query_of",
    "value_of",
]

_ITEM_BUCKETS, _CATEGORY_BUCKETS, _QUERY_BUCKETS = 16_384, 2_048, 8_192
_WORDS = 3  # of a query that have codes of their own
_LONGEST_QUERY = 512  # characters
_MASK: Final = (1 << 64) - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KIND_CODES: Final = {"search": 1, "view": 2, "click": 3, "cart": 4, "favourite": 5, "order": 6}  # 0 is no event

Query = tuple[int, tuple[int, ...]]  # time_ms, codes of the query and of its words


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One row of a raw file, as the project should understand it. Money is in units of its currency.

    An order's `item`, `category` and `price` are its first line's; `lines` and `quantity` (of all lines) count for orders only.
    """

    topic: str
    user: str
    kind: str
    time_ms: int
    event_id: str = ""
    session: str = ""
    device: str = ""
    ip: str = ""
    item: str = ""
    category: str = ""
    price: float = 0.0
    amount: float = 0.0
    instrument: str = ""
    address: str = ""
    query: str = ""
    shown: int = 0
    dwell_ms: int = 0
    position: int = 0
    lines: int = 1
    quantity: int = 1
    countries: tuple[str, ...] = ()
    scene: str = "other"
    platform: str = "other"


class Entry(NamedTuple):
    """One interaction of a sequence; `price` is a bucket, `event` a hash of topic and event id."""

    time_ms: int
    item: int
    category: int
    kind: int
    price: int
    event: int


def identifier_hash(domain: str, identifier: str, key: str) -> bytes:
    """Return the 16 bytes that stand for an identifier: BLAKE2b under `key`, personalised with what it names."""
    return blake2b(identifier.encode(), digest_size=16, key=key.encode(), person=domain.encode()).digest()


def cents(amount: float) -> int:
    """Return money in whole cents, the double's exact value rounded half to even."""
    return round(Fraction(amount) * 100)


class Hashes:
    """Hashes of identifiers under one key, each computed once."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._known: dict[tuple[str, str], bytes] = {}

    def __call__(self, domain: str, identifier: str) -> bytes:
        """Return `identifier_hash`."""
        known = self._known.get((domain, identifier))
        if known is None:
            known = self._known[domain, identifier] = identifier_hash(domain, identifier, self._key)
        return known

    def value(self, domain: str, identifier: str) -> int:
        """Return the identifier as a measure: first 8 bytes, big-endian, without the last bit; 0 if there is none."""
        return int.from_bytes(self(domain, identifier)[:8], "big") >> 1 if identifier else 0


def key_of(event: RawEvent, kind: str, hashed: Hashes) -> bytes:
    """Return the key of the event's entity of a kind, b"" if it has none.

    A session, and a user with a category, is the user's hash and 8 bytes of the other's.
    """
    if kind in ("session", "user_category"):
        other = kind.removeprefix("user_")
        named = _identifier(event, other)
        return hashed("user", event.user) + hashed(other, named)[:8] if named else b""
    named = _identifier(event, kind)
    return hashed(kind, named) if named else b""


def value_of(event: RawEvent, measure: Measure, hashed: Hashes) -> int:
    """Return the integer that the event has of a measure; 0 if it is none of the measure's kinds."""
    if measure.kinds and event.kind not in measure.kinds:
        return 0
    if measure.field in _NUMBERS:
        return _NUMBERS[measure.field](event)
    if measure.field == "category":
        return 1 + zlib.crc32(event.category.encode()) if event.category else 0
    return hashed.value(measure.field, _identifier(event, measure.field))


def entry_of(event: RawEvent) -> Entry:
    """Return what the user's sequence keeps of the event."""
    return Entry(
        event.time_ms,
        _bucket(event.item, _ITEM_BUCKETS),
        _bucket(event.category, _CATEGORY_BUCKETS),
        KIND_CODES[event.kind],
        _price_bucket(cents(event.price)),
        _event_hash(event),
    )


def query_of(event: RawEvent) -> Query:
    """Return what the user's last queries keep of a search: the query's code and those of its first three words, 0 for none."""
    text = _normalised(event.query)
    words = [*_words(text), *[""] * _WORDS][:_WORDS]
    return event.time_ms, tuple(_bucket(part, _QUERY_BUCKETS) for part in (text, *words))


def mixed(value: int) -> int:
    """Return 64 bits of which each depends on all of `value`'s: the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31


def _identifier(event: RawEvent, field: str) -> str:
    if field == "ip":
        return _address(event.ip)
    if field == "network":
        return _network(event.ip)
    if field == "query":
        return _normalised(event.query)
    return str(getattr(event, field))


def _network(ip: str) -> str:
    """Return an address's /24 (IPv4, also one written as IPv6) or /48 (IPv6) in its usual form; "" for what is no address."""
    address = _address(ip)
    return str(ipaddress.ip_network(f"{address}/{48 if ':' in address else 24}", strict=False)) if address else ""


def _address(ip: str) -> str:
    """Return an address in its usual form, without a zone, and as IPv4 if it is one; "" for what is no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.IPv6Address(address.packed))
    return str(address)


def _normalised(query: str) -> str:
    """Return a query without case, in Unicode's form NFKC, with single spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", query).casefold())
    return " ".join(folded.split())[:_LONGEST_QUERY].rstrip()


def _words(text: str) -> list[str]:
    """Return runs of letters and digits; a Chinese character or a Japanese syllable is a word of its own."""
    spaced = (f" {c} " if "\u3041" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" else c if c.isalnum() else " " for c in text)
    return "".join(spaced).split()


def _bucket(text: str, buckets: int) -> int:
    return 1 + zlib.crc32(text.encode()) % (buckets - 1) if text else 0


def _price_bucket(price_cents: int) -> int:
    """Return 0 without a price, else about the price's power of two: 1 below 32 cents, 15 from 2^18 cents on."""
    return min(15, max(1, price_cents.bit_length() - 4)) if price_cents else 0


def _event_hash(event: RawEvent) -> int:
    """Return 48 bits of FNV-1a (Fowler, Noll, Vo) over topic, a NUL and event id, mixed once more; never 0."""
    state = 0xCBF29CE484222325
    for byte in f"{event.topic}\0{event.event_id}".encode():
        state = ((state ^ byte) * 0x100000001B3) & _MASK
    return mixed(state) >> 16 or 1


def _moment(event: RawEvent) -> datetime:
    return _EPOCH + timedelta(milliseconds=event.time_ms)


def _if_order(read: Callable[[RawEvent], int]) -> Callable[[RawEvent], int]:
    return lambda event: read(event) if event.kind == "order" else 0


_NUMBERS: Final[Mapping[str, Callable[[RawEvent], int]]] = {
    "one": lambda _event: 1,
    "amount": _if_order(lambda event: cents(event.amount)),
    "price": lambda event: cents(event.price),
    "dwell": lambda event: event.dwell_ms,
    "position": lambda event: event.position,
    "quantity": _if_order(lambda event: event.quantity),
    "lines": _if_order(lambda event: event.lines),
    "shown": lambda event: event.shown,
    "query_length": lambda event: len(_normalised(event.query)),
    "night": lambda event: int(_moment(event).hour < 7),
    "weekend": lambda event: int(_moment(event).isoweekday() >= 6),
    "foreign": lambda event: max(0, len({country for country in event.countries if country}) - 1),
    "hour": lambda event: 1 + _moment(event).hour,
    "weekday": lambda event: _moment(event).isoweekday(),
    "scene": lambda event: 1 + SCENES.index(event.scene),
    "platform": lambda event: 1 + PLATFORMS.index(event.platform),
}
