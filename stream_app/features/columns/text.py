"""Text becomes numbers: the normalised query and its codes for the model, the hash of an event's id; an address and its network.

Everything here is the same on every machine and in every process; what a model or a state has learnt of a code stays true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Final, NamedTuple
from unicodedata import normalize
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.contract import QUERY_BUCKETS, QUERY_CODES
from stream_app.events import SOURCE_TOPICS
from stream_app.features.jit import allocating

__all__ = [
    "REDUCED",
    "Query",
    "address_of",
    "checksums",
    "event_hashes",
    "network_of",
    "normalised_query",
    "query_of",
    "text_hashes",
    "words",
]

_LONGEST: Final = 512  # characters of a normalised query: NFKC makes up to 18 of one
_IPV4_BITS, _IPV6_BITS = 24, 48  # what one customer of a provider usually has
_OCTETS: Final = frozenset(map(str, range(256)))

# Han, kana, and their extensions: written without spaces, so each character counts as a word.
_IDEOGRAPHS: Final = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD: Final = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+")

# FNV-1a, 64 bits (Fowler, Noll, Vo), with the finaliser of splitmix64: its upper bits are as good as its lower ones.
_FNV_START: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MASK: Final = (1 << 64) - 1


class Query(NamedTuple):
    """A search's query: its normalised text, and QUERY_CODES codes (the whole, its first words; 0 = none)."""

    text: str
    codes: tuple[int, ...]


def normalised_query(text: str) -> str:
    """Return what two spellings of a query have in common: NFKC, no case, single spaces, at most 512 characters."""
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    return " ".join(folded.split())[:_LONGEST].rstrip()


def words(query: str) -> list[str]:
    """Words of a normalised query, in order: runs of letters and digits; of Han and kana each character by itself."""
    return _WORD.findall(query)


@lru_cache(maxsize=1 << 14)
def query_of(text: str) -> Query:
    """Normalise and code one query. An empty one has zeros for codes."""
    query = normalised_query(text)
    parts = [query, *(match.group() for match in islice(_WORD.finditer(query), QUERY_CODES - 1))]
    codes = [1 + crc32(part.encode()) % (QUERY_BUCKETS - 1) if part else 0 for part in parts]
    return Query(query, tuple(codes + [0] * (QUERY_CODES - len(codes))))


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one written as IPv6 is that IPv4 one.

    A zone (%eth0) is dropped: it means something to one machine only.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped or IPv6Address(int(parsed))
    return parsed


def _plain_ipv4(address: str) -> bool:
    """Whether the text is an IPv4 address as everybody writes it: an eighth of what reading any address costs."""
    parts = address.split(".")
    return len(parts) == 4 and all(part in _OCTETS for part in parts)


def address_of(address: str) -> str:
    """Return what all spellings of an address have in common: lower case, compressed, no zone, `::ffff:1.2.3.4` as `1.2.3.4`.

    "" for what is no address: made-up texts must not become entities.
    """
    if _plain_ipv4(address):
        return address
    parsed = _parsed(address)
    return "" if parsed is None else str(parsed)


def network_of(address: str) -> str:
    """Return the /24 of an IPv4 address (also one written as IPv6), the /48 of an IPv6 one; "" for what is no address."""
    if _plain_ipv4(address):
        return f"{address[: address.rindex('.')]}.0/{_IPV4_BITS}"
    parsed = _parsed(address)
    if parsed is None:
        return ""
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> (128 - _IPV6_BITS) << (128 - _IPV6_BITS))}/{_IPV6_BITS}"
    return f"{IPv4Address(int(parsed) >> (32 - _IPV4_BITS) << (32 - _IPV4_BITS))}/{_IPV4_BITS}"


# What is digested of some identifiers, in place of what the event says (Identity.hasher, which keeps the results).
REDUCED: Final[Mapping[str, Callable[[str], str]]] = {"ip": address_of, "network": network_of, "query": normalised_query}


def event_hashes(event_ids: Sequence[str], topics: NDArray[np.intp]) -> NDArray[np.int64]:
    """Hash what a producer calls its events: 1 to 2**48 - 1, of topic and id.

    No secret is in it, so ids can be made that collide. Such an event is taken for sent twice only if it is of the same user and
    the same millisecond too: that gains no more than sending the very same id again, which is never counted.

    Args:
        event_ids: N ids.
        topics: (N,) numbers of events.SOURCE_TOPICS.
    """
    if not event_ids:
        return np.zeros(0, np.int64)
    text = "".join(event_ids)
    data = text.encode()
    if len(data) == len(text):  # ASCII, as every id that was decoded is
        lengths = np.fromiter(map(len, event_ids), np.int64, len(event_ids))
    else:
        lengths = np.array([len(event_id.encode()) for event_id in event_ids], np.int64)
    return text_hashes(np.frombuffer(data, np.uint8), np.cumsum(lengths), topics)


def text_hashes(data: NDArray[np.uint8], ends: NDArray[np.int64], topics: NDArray[np.intp]) -> NDArray[np.int64]:
    """Hash N event ids as `event_hashes` does: number i is the UTF-8 `data[ends[i - 1] : ends[i]]`."""
    return _hash(data if len(data) else _NOTHING, ends, _STARTS[topics])


def checksums(data: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return zlib.crc32 of N texts, number i the UTF-8 `data[ends[i - 1] : ends[i]]`; where a text is empty, -1 (no text)."""
    return _checksums(data if len(data) else _NOTHING, ends, _CRC32)


@allocating
def _hash(data: NDArray[np.uint8], ends: NDArray[np.int64], starts: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hash N texts, number i `data[ends[i - 1] : ends[i]]`, each from its own start (N,)."""
    hashes = np.empty(len(ends), np.int64)
    at = 0
    for i in range(len(ends)):
        z = starts[i]
        while at < ends[i]:
            z = (z ^ np.uint64(data[at])) * np.uint64(_FNV_PRIME)
            at += 1
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(16)
        hashes[i] = np.int64(z) if z != np.uint64(0) else np.int64(1)
    return hashes


@allocating
def _checksums(data: NDArray[np.uint8], ends: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full(len(ends), -1, np.int64)
    at = 0
    for i in range(len(ends)):
        if at == ends[i]:
            continue
        crc = 0xFFFFFFFF
        while at < ends[i]:
            crc = (crc >> 8) ^ table[(crc ^ np.int64(data[at])) & 0xFF]
            at += 1
        found[i] = crc ^ 0xFFFFFFFF
    return found


def _crc32_table() -> NDArray[np.int64]:
    """What eight zero bits make of each byte, by the reversed polynomial of IEEE 802.3."""
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, 0xEDB88320, 0)
    return table


def _start(topic: str) -> int:
    """The hash's state after the topic and a NUL, which no id holds."""
    state = _FNV_START
    for byte in (*topic.encode(), 0):
        state = (state ^ byte) * _FNV_PRIME & _MASK
    return state


_STARTS: Final = np.array([_start(topic) for topic in SOURCE_TOPICS], np.uint64)
_CRC32: Final = _crc32_table()
_NOTHING: Final = np.zeros(1, np.uint8)  # an empty buffer has no address to pass
