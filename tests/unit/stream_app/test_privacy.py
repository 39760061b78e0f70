"""Identities: keyed, separated by domain, stable."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from stream_app.errors import ConfigError
from stream_app.privacy import DIGEST_BYTES, Pseudonymizer


def test_a_digest_is_blake2b_under_the_key_and_the_domain() -> None:
    expected = blake2b(b"u-17", digest_size=16, key=b"secret", person=b"user").digest()
    assert Pseudonymizer(b"secret").digest("user", "u-17") == expected
    assert len(expected) == DIGEST_BYTES


def test_digests_differ_by_key_by_domain_and_by_identifier() -> None:
    one, other = Pseudonymizer(b"one"), Pseudonymizer(b"other")
    digests = [one.digest("user", "7"), other.digest("user", "7"), one.digest("device", "7"), one.digest("user", "8")]
    assert len(set(digests)) == 4


def test_an_unknown_identifier_has_no_digest() -> None:
    assert Pseudonymizer(b"k").digest("user", "") == b""


def test_a_key_beyond_64_bytes_counts_whole() -> None:
    assert Pseudonymizer(b"k" * 65).digest("user", "u") != Pseudonymizer(b"k" * 66).digest("user", "u")


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="MILLRACE_PRIVACY_ID_KEY"):
        Pseudonymizer(b"")


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(Pseudonymizer(b"secret"))


def test_what_an_identifier_is_reduced_to_is_digested_in_its_place() -> None:
    identity = Pseudonymizer(b"k")
    reduced = identity.hasher("network", lambda ip: ip.rpartition(".")[0])
    assert reduced("10.0.0.1") == reduced("10.0.0.2") == identity.digest("network", "10.0.0")
    assert reduced("nonsense") == reduced("") == b""
    assert identity.digest("network", "10.0.0.1") != reduced("10.0.0.1")
