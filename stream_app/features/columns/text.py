"""Texts to numbers: normalised queries and their codes, hashes of event ids, addresses and their networks.

Results are the same on every machine and in every process, since models and stored state contain them.
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

_LONGEST: Final = 512  # characters of a normalised query: NFKC turns one character into up to 18
_IPV4_BITS, _IPV6_BITS = 24, 48  # a provider usually gives one customer this much
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
    """Return the canonical spelling of a query: NFKC, no case, single spaces, at most 512 characters."""
    folded = normalize("NFKC", normalize("NFKC", text).casefold())
    return " ".join(folded.split())[:_LONGEST].rstrip()


def words(query: str) -> list[str]:
    """Return the words of a normalised query, in order: runs of letters and digits; each Han or kana character is a word."""
    return _WORD.findall(query)


@lru_cache(maxsize=1 << 14)
def query_of(text: str) -> Query:
    """Normalise and code one query. An empty one has zeros for codes."""
    query = normalised_query(text)
    parts = [query, *(match.group() for match in islice(_WORD.finditer(query), QUERY_CODES - 1))]
    codes = [1 + crc32(part.encode()) % (QUERY_BUCKETS - 1) if part else 0 for part in parts]
    return Query(query, tuple(codes + [0] * (QUERY_CODES - len(codes))))


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Parse an address; an IPv4 address written as IPv6 becomes IPv4.

    A zone (%eth0) is dropped: it has a meaning on one machine only.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped or IPv6Address(int(parsed))
    return parsed


def _is_dotted_ipv4(address: str) -> bool:
    """Whether the text is an IPv4 address in its usual spelling: takes an eighth of the time of `ip_address`."""
    parts = address.split(".")
    return len(parts) == 4 and all(part in _OCTETS for part in parts)


def address_of(address: str) -> str:
    """Return the canonical spelling of an address: lower case, compressed, no zone, `::ffff:1.2.3.4` as `1.2.3.4`.

    "" for a text that is not an address: made-up texts must not become entities.
    """
    if _is_dotted_ipv4(address):
        return address
    parsed = _parsed(address)
    return "" if parsed is None else str(parsed)


def network_of(address: str) -> str:
    """Return the /24 of an IPv4 address (also one written as IPv6) or the /48 of an IPv6 address; "" for any other text."""
    if _is_dotted_ipv4(address):
        return f"{address[: address.rindex('.')]}.0/{_IPV4_BITS}"
    parsed = _parsed(address)
    if parsed is None:
        return ""
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> (128 - _IPV6_BITS) << (128 - _IPV6_BITS))}/{_IPV6_BITS}"
    return f"{IPv4Address(int(parsed) >> (32 - _IPV4_BITS) << (32 - _IPV4_BITS))}/{_IPV4_BITS}"


# Identifiers that are digested in a canonical form instead of the event's text (Pseudonymizer.hasher caches the results).
REDUCED: Final[Mapping[str, Callable[[str], str]]] = {"ip": address_of, "network": network_of, "query": normalised_query}


def event_hashes(event_ids: Sequence[str], topics: NDArray[np.intp]) -> NDArray[np.int64]:
    """Hash topics and event ids to 1 .. 2**48 - 1.

    The hash has no secret, so a producer can construct ids that collide. Such an event counts as a duplicate only if it also has
    the same user and millisecond, and then it gains no more than a repeated id, which is never counted.

    Args:
        event_ids: N ids.
        topics: (N,) numbers of events.SOURCE_TOPICS.
    """
    if not event_ids:
        return np.zeros(0, np.int64)
    text = "".join(event_ids)
    data = text.encode()
    if len(data) == len(text):  # ASCII: the decoder accepts no other ids
        lengths = np.fromiter(map(len, event_ids), np.int64, len(event_ids))
    else:
        lengths = np.array([len(event_id.encode()) for event_id in event_ids], np.int64)
    return text_hashes(np.frombuffer(data, np.uint8), np.cumsum(lengths), topics)


def text_hashes(data: NDArray[np.uint8], ends: NDArray[np.int64], topics: NDArray[np.intp]) -> NDArray[np.int64]:
    """Hash N event ids as `event_hashes` does: number i is the UTF-8 `data[ends[i - 1] : ends[i]]`."""
    return _hash(data if len(data) else _NOTHING, ends, _STARTS[topics])


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


def _start(topic: str) -> int:
    """The hash's state after the topic and a NUL, which no id contains."""
    state = _FNV_START
    for byte in (*topic.encode(), 0):
        state = (state ^ byte) * _FNV_PRIME & _MASK
    return state


_STARTS: Final = np.array([_start(topic) for topic in SOURCE_TOPICS], np.uint64)
_NOTHING: Final = np.zeros(1, np.uint8)  # an empty buffer has no address to pass
