"""What changes when one candidate replaces another: the events whose decisions differ, and why each decided as it did."""

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

__all__ = ["ChangedDecision", "ComparedDecision", "DecidedEvents", "DecidingContender", "changes", "earlier"]

_AT_ONCE: Final = 4_096  # features read again


@dataclass(frozen=True, eq=False)
class DecidedEvents:
    """What a candidate decided of the N events that are kept: score (N,), threshold (N,), alert (N,)."""

    score: NDArray[np.float64]
    threshold: NDArray[np.float64]
    alert: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DecidingContender:
    """One whose decisions are compared.

    Attributes:
        who: The candidate; None: a blend, which has no reasons of its own.
        decided: What it decided.
        catalogue: The name of the catalogue that it reads.
        features: The names of its features.
        norms: What is usual for them, if anybody knows.
    """

    who: Contender | None
    decided: DecidedEvents
    catalogue: str
    features: tuple[str, ...]
    norms: ModelNorms | None


class ComparedDecision(msgspec.Struct, frozen=True):
    """One candidate's decision: rules that fired, or the features that stood out, with what is usual."""

    alert: bool
    score: float | None
    threshold: float | None
    rules: list[str]
    reasons: list[dict[str, float | str]]


class ChangedDecision(msgspec.Struct, frozen=True):
    """One event whose decisions differ. `fraud` is what became known in the end: null for never."""

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
    judged: NDArray[np.int64],
    spool: Spool,
) -> Iterator[ChangedDecision]:
    """Yield the judged events whose decisions differ, in canonical order.

    Args:
        before: Whose decisions stood.
        after: Whose decisions are to stand.
        facts: `time_ms`, `kind`, `amount`, `label` (N,), of the events that are kept.
        judged: (K,) rows of them that are judged, ascending.
        spool: Has ids and features of the N events.
    """
    differ = judged[before.decided.alert[judged] != after.decided.alert[judged]]
    for first in range(0, len(differ), _AT_ONCE):
        rows = differ[first : first + _AT_ONCE]
        events, users = spool.names(rows)
        sides = [_sides(party, rows, spool.features(party.catalogue, rows), facts["kind"][rows]) for party in (before, after)]
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
    columns: Mapping[str, NDArray[Any]], name: str, now: DecidedEvents, judged: NDArray[np.int64], events: Sequence[str]
) -> DecidedEvents | None:
    """Return what a candidate of this name decided in an earlier run; None if it was none of that run's.

    Args:
        columns: Of that run's decisions.parquet.
        name: Of the candidate.
        now: What it decided in this run. An event that was not judged then counts as decided alike.
        judged: (K,) rows that are judged in this run.
        events: Their ids.
    """
    if f"{name}_alert" not in columns:
        return None
    place_of = {event: place for place, event in enumerate(columns["event_id"].tolist())}
    place = np.array([place_of.get(event, -1) for event in events], np.int64)
    rows, place = judged[place >= 0], place[place >= 0]
    found = DecidedEvents(np.full(len(now.score), np.nan), np.full(len(now.score), np.nan), now.alert.copy())
    found.score[rows] = columns[f"{name}_score"][place]
    found.threshold[rows] = columns[f"{name}_threshold"][place]
    found.alert[rows] = columns[f"{name}_alert"][place]
    return found


def _sides(
    party: DecidingContender, rows: NDArray[np.int64], dense: NDArray[np.float32], kind: NDArray[np.int32]
) -> list[ComparedDecision]:
    fired: list[list[str]] = [[] for _ in rows]
    if isinstance(party.who, RulesContender):
        rules = party.who.rules
        fired = [[name for name, hit in zip(rules.names, row, strict=True) if hit] for row in rules.fired(dense, kind)]
    found = []
    for place, row in enumerate(rows.tolist()):
        reasons = [] if party.norms is None else reasons_of(dense[place], party.norms, party.features)
        found.append(
            ComparedDecision(
                bool(party.decided.alert[row]),
                _number(party.decided.score[row]),
                _number(party.decided.threshold[row]),
                fired[place],
                [msgspec.structs.asdict(reason) for reason in reasons],
            )
        )
    return found


def _number(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
