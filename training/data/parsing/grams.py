"""Texts as bags of n-grams, of words and of characters within words: TF-IDF by scikit-learn, learnt on the train rows.

`bags` gives a later text the same buckets and values, so serving can repeat them. Each Chinese, Japanese or Korean character is a
word of its own, so the n-grams work for any language.

Source of the values: sublinear term frequency times inverse document frequency, each kind of n-gram to length 1 (Manning,
Raghavan, Schuetze, "Introduction to Information Retrieval", 2008, 6.4). "telling" multiplies that by what an n-gram says about
the class: the naive Bayes log-count ratio (Wang and Manning, "Baselines and Bigrams", ACL 2012), for many classes the divergence
of the classes given the n-gram.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

# A word: a Chinese, Japanese or Korean character; letters and digits, with apostrophes inside; or one other sign.
_IDEOGRAPH: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+(?:'[^\W{_IDEOGRAPH}]+)*|[^\w\s]")
_ODD: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64
_64_BITS: Final = (1 << 64) - 1
# A learnt n-gram. Buckets follow the hashes, so that every version numbers the n-grams of the same texts alike.
_LEARNT: Final = np.dtype([("hash", "u8"), ("kind", "i8"), ("count", "i8"), ("weight", "f8"), ("term", "O")])


class GramPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which n-grams of a text are read.

    Attributes:
        buckets: maximum number of n-grams that get a bucket, those of the most train rows first.
        limit: maximum number of n-grams of a row, those of the greatest value first: the width G of the tensors.
        words: longest n-gram of words; 0 = none.
        characters: shortest and longest n-gram of characters, with the word's borders; (0, 0) = none.
        least: an n-gram in fewer train rows is left out.
        values: "frequency" as TF-IDF, "telling" times how much the n-gram tells about the first label.
    """

    buckets: int = 60_000
    limit: int = 256
    words: int = 2
    characters: tuple[int, int] = (2, 5)
    least: int = 2
    values: Literal["frequency", "telling"] = "frequency"


@dataclass(frozen=True)
class Grams:
    """N-grams and their weights, as learnt from the train rows.

    Attributes:
        plan: which n-grams.
        hashes: (K,) uint64 ascending: one for each n-gram; bucket b is the n-gram of hash b - 1.
        values: (K,) float32 > 0: the weight of each n-gram in a row where it occurs once, before the row's scaling.
        vectorizers: for each kind of n-gram a fitted `TfidfVectorizer`, and the buckets (V,) of its columns.
    """

    plan: GramPlan
    hashes: NDArray[np.uint64]
    values: NDArray[np.float32]
    vectorizers: tuple[tuple[Any, NDArray[np.int64]], ...]


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORD.findall(text.lower())


def learn_grams(plan: GramPlan, texts: Sequence[str], labels: NDArray[np.int64]) -> Grams:
    """Choose and weigh n-grams by the texts of N train rows and their `labels` (N,), -1 = unknown, for values "telling"."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer

    learnt = np.zeros(0, _LEARNT)
    analyzers = _analyzers(plan)
    for kind, (analyze, codes_of) in enumerate(analyzers):
        if not any(map(analyze, texts)):  # CountVectorizer refuses texts without any n-gram
            continue
        counter = CountVectorizer(analyzer=analyze, binary=True)
        present = counter.fit_transform(texts)  # (N, V) of 0 and 1
        part = np.zeros(present.shape[1], _LEARNT)
        part["term"], part["kind"], part["count"] = counter.get_feature_names_out(), kind, present.getnnz(axis=0)
        part["weight"] = TfidfTransformer().fit(present).idf_
        if plan.values == "telling":
            part["weight"] *= _telling(present, labels, part["count"])
        part = part[part["count"] >= plan.least]
        part["hash"] = [_hash(codes_of(term)) for term in part["term"]]
        learnt = np.concatenate([learnt, part])
    learnt = learnt[np.lexsort((learnt["hash"], learnt["kind"], learnt["count"]))[::-1][: plan.buckets]]
    learnt = learnt[np.argsort(learnt["hash"])]
    values, vectorizers = learnt["weight"].astype(np.float32), []
    for kind in np.unique(learnt["kind"]):
        places = np.flatnonzero(learnt["kind"] == kind)
        vectorizer = TfidfVectorizer(analyzer=analyzers[kind][0], vocabulary=learnt["term"][places], sublinear_tf=True)
        vectorizer.idf_ = values[places].astype(np.float64)
        vectorizers.append((vectorizer, places + 1))
    return Grams(plan, learnt["hash"], values, tuple(vectorizers))


def bags(grams: Grams, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the n-grams of N texts: buckets (N, G) int32 and values (N, G) float32, both 0 where there is none."""
    limit = grams.plan.limit
    buckets, values = np.zeros((len(texts), limit), np.int32), np.zeros((len(texts), limit), np.float32)
    parts = [(vectorizer.transform(texts).tocoo(), places) for vectorizer, places in grams.vectorizers]
    if parts:
        row = np.concatenate([part.row for part, _ in parts])
        bucket = np.concatenate([places[part.col] for part, places in parts])
        value = np.concatenate([part.data for part, _ in parts])
        order = np.lexsort((bucket, -value, row))  # the bucket decides a tie, so that the same text gives the same row
        row, bucket, value = row[order], bucket[order], value[order]
        column = np.arange(len(row)) - np.searchsorted(row, row)
        fits = column < limit
        buckets[row[fits], column[fits]] = bucket[fits]
        values[row[fits], column[fits]] = value[fits]
    return buckets, values


def _telling(present: Any, labels: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:  # noqa: ANN401  # SciPy
    """Return (V,) the root of the divergence of the classes given the n-gram from the classes of all n-grams, smoothed by one."""
    pairs = present[labels >= 0].tocoo()
    label_of, classes = labels[labels >= 0][pairs.row], int(labels.max(initial=0)) + 1
    prior = (np.bincount(label_of, minlength=classes) + 1.0) / (len(label_of) + classes)
    cells, times = np.unique(pairs.col.astype(np.int64) * classes + label_of, return_counts=True)
    gram, label = cells // classes, cells % classes
    share = (times + prior[label]) / (count[gram] + 1.0)  # classes in which the n-gram never occurs add little: left out
    divergence = np.bincount(gram, share * np.log(share / prior[label]), minlength=len(count))
    root: NDArray[np.float64] = np.sqrt(np.maximum(divergence, 0.0)) + 1e-3
    return root


def _analyzers(plan: GramPlan) -> list[tuple[Callable[[str], list[str]], Callable[[str], list[int]]]]:
    """Return for each kind of n-gram what cuts a text into them, and what makes numbers of one."""
    shortest, longest = plan.characters

    def of_words(text: str) -> list[str]:
        words = words_of(text)
        return [" ".join(words[at : at + size]) for size in range(1, plan.words + 1) for at in range(len(words) - size + 1)]

    def of_characters(text: str) -> list[str]:
        words, sizes = [f" {word} " for word in words_of(text)], range(max(1, shortest), longest + 1)
        return [word[at : at + size] for word in words for size in sizes for at in range(len(word) - size + 1)]

    kinds: list[tuple[Callable[[str], list[str]], Callable[[str], list[int]]]] = []
    if plan.words:
        kinds.append((of_words, lambda term: [crc32(word.encode()) for word in term.split(" ")]))
    if longest:
        kinds.append((of_characters, lambda term: [ord(letter) + _ODD[0] for letter in term]))
    return kinds


def _hash(codes: Sequence[int]) -> int:
    """Return splitmix64 over the codes (Steele, Lea, Flood, OOPSLA 2014): 64 well-mixed bits."""
    mixed = 0
    for length, code in enumerate(codes, 1):
        mixed = (mixed * _ODD[0] + code + length) & _64_BITS
        mixed = ((mixed ^ (mixed >> 30)) * _ODD[1]) & _64_BITS
        mixed = ((mixed ^ (mixed >> 27)) * _ODD[2]) & _64_BITS
        mixed ^= mixed >> 31
    return mixed
