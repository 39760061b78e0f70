"""Train, validation and test rows of any data set, by protocol.

    time, cards    train, then validation, then test, by time: shares of the rows, or ranges with dates
    leave_one_out  the last row of each key (a user) is test, the one before validation, the rest train
    sessions       whole sessions (keys) by the time they begin: shares of the sessions

training/evaluation/protocol.py evaluates under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ConfigError, ContractError
from training.data.dataset import LEFT_OUT, SPLITS, Dataset
from training.evaluation.protocol import PROTOCOLS

_SHARES: Final = (0.70, 0.15, 0.15)
BY_TIME: Final = ("time", "cards")
_KEYS: Final = {"shares", *SPLITS}


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """How rows are split.

    Attributes:
        protocol: one of `training.evaluation.protocol.PROTOCOLS`.
        shares: of the rows, or of the sessions, in order of SPLITS; they add up to 1.
        ranges: split -> [from, to) in epoch milliseconds; rows in none are left out. Empty = by shares.
    """

    protocol: str = "time"
    shares: tuple[float, float, float] = _SHARES
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def splitting_from(protocol: str, settings: Mapping[str, Any]) -> SplitRules:
    """Return the rules of a protocol ("" = time) and the section [source.split].

    `shares = [0.7, 0.15, 0.15]`, or a range for each split: `train = ["2018-07-25", "2018-08-01"]`, UTC, end exclusive.

    Raises:
        ConfigError: All problems, each with its key and the fix.
    """
    protocol = protocol or "time"
    problems = [] if protocol in PROTOCOLS else [f"protocol {protocol!r}: no such protocol; it is one of {', '.join(PROTOCOLS)}"]
    problems += [f"{key}: no such key; it is one of {', '.join(sorted(_KEYS))}" for key in settings if key not in _KEYS]
    shares, ranges = settings.get("shares", _SHARES), {}
    if not _are_shares(shares):
        problems.append(f"shares = {shares!r}: give three numbers from 0 to 1 that add up to 1, as [0.7, 0.15, 0.15]")
    for split in SPLITS:
        if split not in settings:
            continue
        try:
            begin, end = (_epoch_ms(moment) for moment in settings[split])
            ranges[split] = (begin, end)
        except (TypeError, ValueError):
            problems.append(f'{split} = {settings[split]!r}: give two dates, as ["2018-07-25", "2018-08-01"]')
    if ranges and protocol not in BY_TIME:
        problems.append(f"{', '.join(ranges)}: dates are for the protocols {', '.join(BY_TIME)}, not {protocol}; leave them out")
    if ranges and not {"train", "test"} <= ranges.keys():
        problems.append(f"only {', '.join(ranges)} has a range of dates: give train and test one at least")
    if problems:
        msg = "The split is configured wrongly ([source.split]):\n" + "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(msg)
    return SplitRules(protocol=protocol, shares=tuple(shares), ranges=ranges)


def split_rows(splitting: SplitRules, time_ms: NDArray[np.int64], key: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return (N,) int8 for N rows: an index of SPLITS, or LEFT_OUT. Rows of equal time stay in their order.

    `time_ms` (N,) orders the rows of a `key` (N,), a user or session.
    """
    if splitting.protocol == "leave_one_out":
        return _last_of_each(time_ms, key)
    if splitting.protocol == "sessions":
        return _by_session(splitting, time_ms, key)
    if not splitting.ranges:
        return by_share(splitting.shares, np.argsort(time_ms, kind="stable"))
    split = np.full(len(time_ms), LEFT_OUT, np.int8)
    for name, (begin, end) in splitting.ranges.items():
        split[(time_ms >= begin) & (time_ms < end)] = SPLITS.index(name)
    return split


def resplit(dataset: Dataset, splitting: SplitRules) -> Dataset:
    """Return the data set with another split.

    Raises:
        ContractError: A split would be empty.
    """
    dataset = replace(dataset, split=split_rows(splitting, dataset.time_ms, dataset.key))
    empty = [name for name in ("train", "test") if not len(dataset.rows(name))]
    if empty:
        times = f"{_text(dataset.time_ms.min())} to {_text(dataset.time_ms.max())}" if len(dataset) else "no time"
        raise ContractError(
            f"the protocol {splitting.protocol} leaves no row for {' and '.join(empty)}; {len(dataset):,} rows are of {times}. "
            "Operator action: change [source.split] or --protocol, or give more data."
        )
    return dataset


def _are_shares(shares: Any) -> bool:  # noqa: ANN401 (a value of a configuration)
    if not isinstance(shares, list | tuple) or len(shares) != len(SPLITS):
        return False
    return all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 1e-6


def _epoch_ms(moment: Any) -> int:  # noqa: ANN401 (a value of a configuration)
    # TOML dates and texts mean the same.
    parsed = datetime.fromisoformat(str(moment))
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)


def _text(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(sep=" ", timespec="seconds")


def by_share(shares: tuple[float, float, float], order: NDArray[np.intp]) -> NDArray[np.int8]:
    """Return (N,) int8, an index of SPLITS, of N rows or sessions, whose numbers `order` (N,) has, oldest first.

    `shares` are in order of SPLITS, and add up to 1: the oldest train, the newest test.
    """
    split = np.empty(len(order), np.int8)
    begins = [round(sum(shares[:number]) * len(order)) for number in range(len(SPLITS) + 1)]
    for number in range(len(SPLITS)):
        split[order[begins[number] : begins[number + 1]]] = number
    return split


def _last_of_each(time_ms: NDArray[np.int64], key: NDArray[np.int64]) -> NDArray[np.int8]:
    order = np.lexsort((time_ms, key))  # by key, then time; stable
    ends = np.append(key[order][1:] != key[order][:-1], [True]) if len(key) else np.zeros(0, np.bool_)
    before = np.append(ends[1:], [False]) & ~ends
    split = np.zeros(len(key), np.int8)
    split[order[before]] = SPLITS.index("validation")
    split[order[ends]] = SPLITS.index("test")
    return split


def _by_session(splitting: SplitRules, time_ms: NDArray[np.int64], key: NDArray[np.int64]) -> NDArray[np.int8]:
    sessions, number = np.unique(key, return_inverse=True)
    begin_ms = np.full(len(sessions), np.iinfo(np.int64).max)
    np.minimum.at(begin_ms, number, time_ms)
    return by_share(splitting.shares, np.argsort(begin_ms, kind="stable"))[number]
