"""Decisions that change when one contender replaces another, with the reasons of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.contenders.contender import Contender, RulesContender
from stream_app.backtest.spool import Spool
from stream_app.decision.decide import reasons_of
from stream_app.events import KINDS
from stream_app.ranked import ModelNorms

_BATCH: Final = 4_096  # events whose features are read from the spool at once


@dataclass(frozen=True, eq=False)
class DecidedEvents:
    """Decisions of a contender about the N scored events: score (N,), threshold (N,), alert (N,)."""

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    alert: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DecidingContender:
    """A contender with its decisions and what explains them.

    Attributes:
        contender: None for a blend, which has no reasons of its own.
        decisions: About the scored events.
        catalogue: Name of the catalogue that it reads.
        features: Names of its features.
        norms: Medians and scales of the features; None if unknown.
    """

    contender: Contender | None
    decisions: DecidedEvents
    catalogue: str
    features: tuple[str, ...]
    norms: ModelNorms | None


class ComparedDecision(msgspec.Struct, frozen=True):
    """A contender's decision: the rules that fired, or the most unusual features beside their usual values."""

    alert: bool
    score: float | None
    threshold: float | None
    rules: list[str]
    reasons: list[dict[str, float | str]]


class ChangedDecision(msgspec.Struct, frozen=True):
    """An event whose decisions differ. `fraud` is its final label: null if unknown."""

    event_id: str
    user: str
    event_time_ms: int
    kind: str
    amount: float
    fraud: bool | None
    before: ComparedDecision
    after: ComparedDecision


def changes(
    before: DecidingContender,
    after: DecidingContender,
    facts: Mapping[str, NDArray[Any]],
    evaluated: NDArray[np.int64],
    spool: Spool,
) -> Iterator[ChangedDecision]:
    """Yield the evaluated events whose decisions differ, in canonical order.

    Args:
        before: The contender that is replaced.
        after: Its replacement.
        facts: `time_ms`, `kind`, `amount`, `label` (N,) of the scored events.
        evaluated: (K,) rows of them, ascending.
        spool: Ids and features of the N events.
    """
    differ = evaluated[before.decisions.alert[evaluated] != after.decisions.alert[evaluated]]
    for first in range(0, len(differ), _BATCH):
        rows = differ[first : first + _BATCH]
        events, users = spool.names(rows)
        sides = [_compared(one, rows, spool.features(one.catalogue, rows), facts["kind"][rows]) for one in (before, after)]
        for place, row in enumerate(rows.tolist()):
            label = int(facts["label"][row])
            yield ChangedDecision(
                events[place],
                users[place],
                int(facts["time_ms"][row]),
                KINDS[int(facts["kind"][row])],
                float(facts["amount"][row]),
                None if label < 0 else label == 1,
                sides[0][place],
                sides[1][place],
            )


def earlier(
    columns: Mapping[str, NDArray[Any]], name: str, now: DecidedEvents, evaluated: NDArray[np.int64], events: Sequence[str]
) -> DecidedEvents | None:
    """Return a contender's decisions in an earlier run, whose decisions.parquet has `columns`; None if it is not among them.

    `now` are its decisions in this run, about `evaluated` rows (K,) with the ids `events`; they also stand for events that the
    earlier run did not evaluate.
    """
    if f"{name}_alert" not in columns:
        return None
    place_of = {event: place for place, event in enumerate(columns["event_id"].tolist())}
    place = np.array([place_of.get(event, -1) for event in events], np.int64)
    rows, place = evaluated[place >= 0], place[place >= 0]
    before = DecidedEvents(np.full(len(now.score), np.nan), np.full(len(now.score), np.nan), now.alert.copy())
    before.score[rows] = columns[f"{name}_score"][place]
    before.threshold[rows] = columns[f"{name}_threshold"][place]
    before.alert[rows] = columns[f"{name}_alert"][place]
    return before


def _compared(
    deciding: DecidingContender, rows: NDArray[np.int64], dense: NDArray[np.float32], kind: NDArray[np.int32]
) -> list[ComparedDecision]:
    fired: list[list[str]] = [[] for _ in rows]
    if isinstance(deciding.contender, RulesContender):
        rules = deciding.contender.rules
        fired = [[name for name, hit in zip(rules.names, row, strict=True) if hit] for row in rules.fired(dense, kind)]
    compared = []
    for place, row in enumerate(rows.tolist()):
        reasons = [] if deciding.norms is None else reasons_of(dense[place], deciding.norms, deciding.features)
        compared.append(
            ComparedDecision(
                bool(deciding.decisions.alert[row]),
                _number(deciding.decisions.score[row]),
                _number(deciding.decisions.threshold[row]),
                fired[place],
                [msgspec.structs.asdict(reason) for reason in reasons],
            )
        )
    return compared


def _number(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
