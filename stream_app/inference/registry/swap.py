"""The ranker of a worker whose models change while it runs.

All that a batch needs of the models is one object, `Serving`, which is read once when the batch comes and replaced as a whole. So
a swap falls between two batches, and no batch and no commit has answers of two champions. The model's thread never waits for a
swap: whoever replaces `Serving` has loaded, tested and warmed the models before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import MillraceError
from stream_app.inference.ranker import ModelAnswers, ModelRanker
from stream_app.inference.registry.answer_deltas import AnswerSide
from stream_app.inference.registry.shadow import Comparer, ShadowComparison
from stream_app.inference.registry.swap_gate import Recorder
from stream_app.inference.registry.traffic_split import share_of_users
from stream_app.metrics import Metrics
from stream_app.ranked import Challenger, ModelNorms, RankedBatch

__all__ = ["Serving", "SwappableRanker", "challenged"]

log = logging.getLogger(__name__)

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """The models that answer, and those that look on.

    Attributes:
        champion: Answers.
        challenger: Answers `percent` of the users in its place.
        percent: In (0, 100), 0 without a challenger.
        shadow: Scores everything after it was answered; an instance of its own, since it runs in another thread.
    """

    champion: ModelRanker
    challenger: ModelRanker | None = None
    percent: float = 0.0
    shadow: ModelRanker | None = None


class SwappableRanker:
    """See `stream_app.pipeline.Ranker`.

    Args:
        serving: Who serves first.
        recorder: Keeps the last batches, for the gate.
        comparer: Compares challenger and shadow with the champion.
        metrics: Where to count.
    """

    def __init__(self, serving: Serving, recorder: Recorder, comparer: Comparer, metrics: Metrics) -> None:
        self._serving = serving
        self._recorder = recorder
        self._comparer = comparer
        self._metrics = metrics

    @property
    def version(self) -> str:
        """The champion's version."""
        return self._serving.champion.version

    @property
    def norms(self) -> ModelNorms:
        """What the champion's decisions depend on."""
        return self._serving.champion.norms

    @property
    def serves(self) -> str:
        """See `stream_app.inference.degrade.Degradable`."""
        serving = self._serving
        return serving.champion.version + (f" and {serving.challenger.version}" if serving.challenger is not None else "")

    @property
    def serving(self) -> Serving:
        """Who serves the next batch."""
        return self._serving

    def serve(self, serving: Serving) -> None:
        """Let others serve from the next batch on; any thread may call it."""
        self._serving = serving

    def rank(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        """Score B events by those who serve now."""
        serving = self._serving
        champion = serving.champion
        answers = champion.answer(inputs)
        self._recorder.add(champion.version, inputs, answers)
        ranked = RankedBatch(answers.scored(), answers.outputs["fraud"], champion.norms, [champion.version] * len(users))
        side, beside = AnswerSide(answers, champion.norms), []
        if serving.challenger is not None:
            rows = np.flatnonzero(share_of_users(users, serving.challenger.version, serving.percent))
            theirs = self._challenge(serving.challenger, inputs, rows)
            if theirs is not None:
                ranked = challenged(ranked, Challenger(serving.challenger.norms, serving.percent), theirs, rows)
                beside.append(ShadowComparison("challenger", side, serving.challenger, inputs, rows, theirs))
        if serving.shadow is not None:
            beside.append(ShadowComparison("shadow", side, serving.shadow, inputs))
        return replace(ranked, on_published=partial(self._comparer.offer, beside)) if beside else ranked

    def _challenge(self, challenger: ModelRanker, inputs: Inputs, rows: NDArray[np.intp]) -> ModelAnswers | None:
        """Let the challenger answer its rows; None if it fails, and the champion's answers stand."""
        try:
            return challenger.answer({name: values[rows] for name, values in inputs.items()})
        except MillraceError as error:
            self._metrics.challenger_failures.inc()
            log.warning("challenger %s failed for %d rows, the champion answers them: %s", challenger.version, len(rows), error)
            return None


def challenged(ranked: RankedBatch, challenger: Challenger, theirs: ModelAnswers, rows: NDArray[np.intp]) -> RankedBatch:
    """Put the challenger's answers in the place of the champion's for its rows."""
    fraud, versions = ranked.fraud.copy(), list(ranked.versions)
    fraud[rows] = theirs.outputs["fraud"]
    said, scored = theirs.scored(), ranked.scored
    for at, row in enumerate(rows.tolist()):
        versions[row] = challenger.norms.version
        for column in ("fraud", "intent", "next_action", "click", "items", "item_scores"):
            getattr(scored, column)[row] = getattr(said, column)[at]
    return replace(ranked, fraud=fraud, versions=versions, challengers=(challenger,))
