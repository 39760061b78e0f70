"""Text: canonical queries, words, networks, and stable hashes."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.contract import QUERY_BUCKETS, QUERY_CODES
from stream_app.events import SOURCE_TOPICS
from stream_app.features.columns.text import address_of, event_hashes, network_of, normalised_query, query_of, words

MASK = (1 << 64) - 1


def bucket(text: str) -> int:
    return 1 + crc32(text.encode()) % (QUERY_BUCKETS - 1)


def hash_by_hand(topic: str, event_id: str) -> int:
    """FNV-1a of topic, NUL and id, then splitmix64's finaliser, its upper 48 bits."""
    z = 0xCBF29CE484222325
    for byte in topic.encode() + b"\0" + event_id.encode():
        z = (z ^ byte) * 0x100000001B3 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return (z ^ z >> 31) >> 16


@pytest.mark.parametrize(
    ("spelled", "same"),
    [
        ("  Red\t SHOES\n", "red shoes"),
        ("STRASSE", "straße"),
        ("ｉｐｈｏｎｅ １５", "iphone 15"),
        ("cafe\u0301", "café"),
        ("\u3000手机　壳 ", "手机 壳"),
        ("", "   "),
    ],
)
def test_spellings_of_one_query_have_one_normal_form(spelled: str, same: str) -> None:
    assert normalised_query(spelled) == normalised_query(same)


def test_a_normalised_query_has_at_most_512_characters() -> None:
    assert normalised_query("\ufdfa" * 512) == normalised_query("\ufdfa" * 512)[:512]
    assert normalised_query("a" * 511 + " b") == "a" * 511


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalised_query(text)
    assert normalised_query(once) == once
    assert query_of(text).text == once
    assert query_of(once) == query_of(text)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red shoes, size 42", ["red", "shoes", "size", "42"]),
        ("usb_c-kabel", ["usb", "c", "kabel"]),
        ("苹果手机15pro", ["苹", "果", "手", "机", "15pro"]),
        ("スマホ ケース", ["ス", "マ", "ホ", "ケ", "ー", "ス"]),
        ("휴대폰 케이스", ["휴대폰", "케이스"]),
        ("!?", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_and_single_ideographs(query: str, expected: list[str]) -> None:
    assert words(query) == expected


def test_codes_are_the_whole_query_and_its_first_three_words() -> None:
    assert query_of("Red shoes size 42").codes == tuple(bucket(text) for text in ("red shoes size 42", "red", "shoes", "size"))
    assert query_of("shoes").codes == (bucket("shoes"), bucket("shoes"), 0, 0)
    assert query_of(" ").codes == (0,) * QUERY_CODES
    assert query_of("!").codes == (bucket("!"), 0, 0, 0)


@given(st.text(max_size=60))
def test_codes_are_within_the_tables(text: str) -> None:
    codes = query_of(text).codes
    assert len(codes) == QUERY_CODES
    assert all(0 <= code < QUERY_BUCKETS for code in codes)
    assert (codes[0] == 0) == (not text.strip())


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("255.255.255.255", "255.255.255.0/24"),
        ("2001:db8:1:ffff::7", "2001:db8:1::/48"),
        ("2001:DB8:0001::", "2001:db8:1::/48"),
        ("::ffff:10.1.2.3", "10.1.2.0/24"),
        ("::1", "::/48"),
        ("::ffff:0.0.0.0", "0.0.0.0/24"),
        ("10.1.2", ""),
        ("10.1.2.300", ""),
        ("beef", ""),
        ("", ""),
    ],
)
def test_a_network_is_a_24_of_ipv4_or_a_48_of_ipv6(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("::FFFF:0A01:0203", "10.1.2.3"),
        ("::ffff:0.0.0.0", "0.0.0.0"),
        ("2001:DB8:0001::", "2001:db8:1::"),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%made.up", "fe80::1"),
        ("::ffff:10.1.2.3%eth0", "10.1.2.3"),
        ("010.1.2.3", ""),
        ("10.1.2.3/32", ""),
        ("10.1.2.3%eth0", ""),
        ("beef", ""),
        ("", ""),
    ],
)
def test_an_address_has_one_spelling_and_other_texts_have_none(address: str, canonical: str) -> None:
    assert address_of(address) == canonical


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.sampled_from(SOURCE_TOPICS), st.text(st.characters(codec="utf-8"), max_size=20)), max_size=12))
def test_an_events_hash_is_that_of_its_topic_and_id_in_any_batch(events: list[tuple[str, str]]) -> None:
    topics = np.array([SOURCE_TOPICS.index(topic) for topic, _ in events], np.intp)
    hashes = event_hashes([event_id for _, event_id in events], topics)
    assert hashes.dtype == np.int64
    assert hashes.tolist() == [hash_by_hand(topic, event_id) for topic, event_id in events]


def test_hashes_and_codes_are_those_of_running_deployments_and_trained_models() -> None:
    hashes = event_hashes(["e-1", "e-1", "e-2"], np.array([0, 1, 2]))
    assert hashes.tolist() == [12_017_092_649_011, 29_359_287_439_956, 212_224_773_315_167]
    assert query_of("Red shoes").codes == (486, 4825, 2073, 0)
