"""Turns identifiers into keyed digests: a reader of the store or of a metric learns no user, device or address.

A digest is BLAKE2b (RFC 7693) of 16 bytes under the deployment's secret, separated by domain (a user "7" and a device "7" have
different digests). Without the secret nobody can find the identifier by trying all known ids, which a plain hash would allow.
Equal identifiers always give equal digests: changing the secret orphans all state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b

from stream_app.errors import ConfigError

DIGEST_BYTES = 16  # 128 bits: no collision is likely below 2**64 entities
# Cache entries for each domain: a hit costs a tenth of a digest; 65,536 entries are about 13 MB.
_CACHED = 1 << 16


class Pseudonymizer:
    """Turn identifiers into digests under one secret key.

    Args:
        key: the secret, at least one byte; keys beyond BLAKE2b's 64 bytes are hashed down first.

    Raises:
        ConfigError: the key is empty.
    """

    __slots__ = ("_hashers", "_key")

    def __init__(self, key: bytes) -> None:
        if not key:
            raise ConfigError("the identity key is empty; set MILLRACE_PRIVACY_ID_KEY to a secret of at least 16 characters")
        self._key = key if len(key) <= 64 else blake2b(key, digest_size=64).digest()
        self._hashers: dict[tuple[str, Callable[[str], str] | None], Callable[[str], bytes]] = {}

    def hasher(self, domain: str, reduce: Callable[[str], str] | None = None) -> Callable[[str], bytes]:
        """Return the cached function `identifier -> 16 bytes` of one domain; the empty identifier ("unknown") gives b"".

        With `reduce`, the digest is of `reduce(identifier)` (such as the network of an address).
        """
        hasher = self._hashers.get((domain, reduce))
        if hasher is None:
            hasher = self._hashers[domain, reduce] = self._new_hasher(domain, reduce)
        return hasher

    def digest(self, domain: str, identifier: str) -> bytes:
        """Digest one identifier, e.g. `digest("user", "u-17")`."""
        return self.hasher(domain)(identifier)

    def digests(self, domain: str, identifiers: Iterable[bytes]) -> list[bytes]:
        """Digest many identifiers, given as UTF-8, without a cache; 16 bytes each, zeros for an empty identifier."""
        keyed = blake2b(digest_size=DIGEST_BYTES, key=self._key, person=domain.encode())
        digests, unknown = [], bytes(DIGEST_BYTES)
        for identifier in identifiers:
            hashed = keyed.copy()  # the key's block is compressed once for all
            hashed.update(identifier)
            digests.append(hashed.digest() if identifier else unknown)
        return digests

    def _new_hasher(self, domain: str, reduce: Callable[[str], str] | None) -> Callable[[str], bytes]:
        key, person = self._key, domain.encode()  # BLAKE2b's personalisation, at most 16 bytes

        @lru_cache(maxsize=_CACHED)
        def digest(identifier: str) -> bytes:
            if reduce is not None and identifier:
                identifier = reduce(identifier)
            if not identifier:
                return b""
            return blake2b(identifier.encode(), digest_size=DIGEST_BYTES, key=key, person=person).digest()

        return digest
