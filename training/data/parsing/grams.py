"""Texts as bags of n-grams: of words, and of characters within words; numbered and weighed by what the train rows taught.

    text -> 64-bit hash of each n-gram -> bucket (its place among the kept hashes + 1; 0 = none) and value

All texts are worked on at once, as arrays; a text of another day goes through `bags` with the same `Grams` and gets the same
buckets and values, so serving can repeat it. Works for any language: each Chinese character is a word of its own.

Source of the values: sublinear term frequency times inverse document frequency, each kind to length 1 (Manning, Raghavan,
Schuetze, "Introduction to Information Retrieval", 2008, 6.4); how telling a bucket is of the class: the naive Bayes log-count
ratio (Wang and Manning, "Baselines and Bigrams", ACL 2012), for many classes the divergence of the classes given it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["GramPlan", "Grams", "bags", "learn_grams", "words_of"]

# A word: a Chinese, Japanese or Korean character; letters and digits, with apostrophes inside; or one other sign.
_IDEOGRAPH: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+(?:'[^\W{_IDEOGRAPH}]+)*|[^\w\s]")
_ODD: Final = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))  # of splitmix64
_END: Final = "\n"  # between words of the text that character n-grams are read from

Hashes = NDArray[np.uint64]


class GramPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which n-grams of a text are looked at.

    Attributes:
        buckets: most n-grams that are numbered, those of the most train rows first.
        limit: most n-grams of a row, those of the greatest value first: the width G of the tensors.
        words: n-grams of 1 to so many words; 0 = none.
        characters: shortest and longest n-gram of characters, with the word's borders; (0, 0) = none.
        least: an n-gram in fewer train rows is left out.
        values: "frequency" as TF-IDF, "telling" times how telling it is of the first label.
    """

    buckets: int = 60_000
    limit: int = 256
    words: int = 2
    characters: tuple[int, int] = (2, 5)
    least: int = 2
    values: Literal["frequency", "telling"] = "frequency"


@dataclass(frozen=True)
class Grams:
    """What the train rows taught.

    Attributes:
        plan: which n-grams.
        hashes: (K,) uint64 ascending: the kept n-grams; bucket b is the one at b - 1.
        values: (K,) float32 > 0: what one occurrence of each is worth.
    """

    plan: GramPlan
    hashes: Hashes
    values: NDArray[np.float32]


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORD.findall(text.lower())


def learn_grams(plan: GramPlan, texts: Sequence[str], labels: NDArray[np.int64]) -> Grams:
    """Choose and weigh n-grams.

    Args:
        plan: which.
        texts: of the N train rows.
        labels: (N,) classes, -1 = unknown; only for values "telling".
    """
    kept, weights = [], []
    for rows, hashes in _kinds(plan, texts):
        distinct, pairs_of = np.unique(hashes, return_inverse=True)
        pairs = np.unique(rows * len(distinct) + pairs_of)  # a row counts once, however often the n-gram is in it
        row, number = pairs // len(distinct), pairs % len(distinct)
        count = np.bincount(number, minlength=len(distinct))
        value = np.log((1 + len(texts)) / (1 + count)) + 1.0
        if plan.values == "telling":
            value *= _telling(number, labels[row], count, len(distinct))
        enough = count >= plan.least
        kept.append(np.stack([distinct[enough], count[enough].astype(np.uint64)]))
        weights.append(value[enough])
    hashes, counts = np.concatenate(kept, axis=1) if kept else np.zeros((2, 0), np.uint64)
    values = np.concatenate(weights) if weights else np.zeros(0)
    most = np.argsort(counts.astype(np.int64), kind="stable")[::-1][: plan.buckets]
    order = most[np.argsort(hashes[most])]
    return Grams(plan, hashes[order], values[order].astype(np.float32))


def bags(grams: Grams, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the n-grams of N texts: buckets (N, G) int32 and values (N, G) float32, both 0 where there is none."""
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for rows, hashes in _kinds(grams.plan, texts):
        if not len(grams.hashes):
            break
        place = np.minimum(np.searchsorted(grams.hashes, hashes), len(grams.hashes) - 1)
        known = grams.hashes[place] == hashes
        pairs, times = np.unique(rows[known] * len(grams.hashes) + place[known], return_counts=True)
        row, number = pairs // len(grams.hashes), pairs % len(grams.hashes)
        value = (1.0 + np.log(times)) * grams.values[number]
        length = np.sqrt(np.bincount(row, value * value, minlength=len(texts)))
        found.append((row, number + 1, value / length[row]))
    return _table(found, len(texts), grams.plan.limit)


def _table(
    found: Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], rows: int, limit: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    buckets, values = np.zeros((rows, limit), np.int32), np.zeros((rows, limit), np.float32)
    if found:
        row, bucket, value = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((bucket, -value, row))  # the bucket decides a tie, so that the same text gives the same row
        row, bucket, value = row[order], bucket[order], value[order]
        column = np.arange(len(row)) - np.searchsorted(row, row)
        fits = column < limit
        buckets[row[fits], column[fits]] = bucket[fits]
        values[row[fits], column[fits]] = value[fits]
    return buckets, values


def _telling(number: NDArray[np.int64], labels: NDArray[np.int64], count: NDArray[np.int64], buckets: int) -> NDArray[np.float64]:
    """Return (K,) the root of the divergence of the classes given the n-gram from the classes of all rows, add-one smoothed."""
    known = labels >= 0
    classes = int(labels.max(initial=0)) + 1
    prior = (np.bincount(labels[known], minlength=classes) + 1.0) / (known.sum() + classes)
    pairs, times = np.unique(number[known] * classes + labels[known], return_counts=True)
    of, label = pairs // classes, pairs % classes
    share = (times + prior[label]) / (count[of] + 1.0)  # the classes it never occurs with add little: left out
    divergence = np.bincount(of, share * np.log(share / prior[label]), minlength=buckets)
    root: NDArray[np.float64] = np.sqrt(np.maximum(divergence, 0.0)) + 1e-3
    return root


def _kinds(plan: GramPlan, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], Hashes]]:
    """Return (row, hash) of each n-gram: first those of words, then those of characters."""
    words = [words_of(text) for text in texts]
    kinds = [_word_grams(words, plan.words)] if plan.words else []
    shortest, longest = plan.characters
    return [*kinds, _character_grams(words, shortest, longest)] if longest else kinds


def _word_grams(words: Sequence[list[str]], longest: int) -> tuple[NDArray[np.int64], Hashes]:
    codes = np.array([crc32(word.encode()) for of in words for word in of], np.uint64)
    rows = np.repeat(np.arange(len(words)), [len(of) for of in words])
    return _runs(codes, rows, rows, 1, longest)


def _character_grams(words: Sequence[list[str]], shortest: int, longest: int) -> tuple[NDArray[np.int64], Hashes]:
    joined = [_END.join(f" {word} " for word in of) + _END for of in words]
    codes = np.frombuffer("".join(joined).encode("utf-32-le"), np.uint32).astype(np.uint64)
    rows = np.repeat(np.arange(len(words)), [len(text) for text in joined])
    borders = np.cumsum(codes == ord(_END))
    inside = codes != ord(_END)
    return _runs(codes[inside] + _ODD[0], rows[inside], borders[inside], shortest, longest)


def _runs(
    codes: Hashes, rows: NDArray[np.int64], groups: NDArray[np.int64], shortest: int, longest: int
) -> tuple[NDArray[np.int64], Hashes]:
    """Return (row, hash) of each run of `shortest` to `longest` neighbouring codes of one group."""
    found_rows, found = [], []
    running = np.zeros(len(codes), np.uint64)
    for length in range(1, longest + 1):
        count = max(0, len(codes) - length + 1)
        running = _mixed(running[:count] * _ODD[0] + codes[length - 1 :] + np.uint64(length))
        if length >= shortest:
            whole = groups[:count] == groups[length - 1 :]
            found_rows.append(rows[:count][whole])
            found.append(running[whole])
    return np.concatenate(found_rows), np.concatenate(found)


def _mixed(values: Hashes) -> Hashes:
    """Return splitmix64 of each value (Steele, Lea, Flood, OOPSLA 2014): 64 well-mixed bits; overflow wraps on purpose."""
    values = (values ^ (values >> np.uint64(30))) * _ODD[1]
    values = (values ^ (values >> np.uint64(27))) * _ODD[2]
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed
