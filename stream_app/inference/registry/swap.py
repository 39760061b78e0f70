"""A ranker whose models are swapped while the worker runs.

`rank` reads one immutable object, `Serving`, once per batch; a swap replaces that object. So a swap falls between two
batches, and no batch and no commit mixes the answers of two champions. The model's thread never waits for a swap: new models are
loaded, tested and warm before `serve` is called.
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

log = logging.getLogger(__name__)

Inputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """The models of one moment.

    Attributes:
        champion: Answers.
        challenger: Answers `percent` of the users in place of the champion.
        percent: In (0, 100), 0 without a challenger.
        shadow: Scores every batch after its answers are published; a separate instance, since it runs in another thread.
    """

    champion: ModelRanker
    challenger: ModelRanker | None = None
    percent: float = 0.0
    shadow: ModelRanker | None = None


class SwappableRanker:
    """See `stream_app.pipeline.Ranker`. `recorder` records the last batches, for the gate."""

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
        """Threshold and feature norms of the champion."""
        return self._serving.champion.norms

    @property
    def serves(self) -> str:
        """See `stream_app.inference.degrade.Degradable`."""
        serving = self._serving
        return serving.champion.version + (f" and {serving.challenger.version}" if serving.challenger is not None else "")

    @property
    def serving(self) -> Serving:
        """The models of the next batch."""
        return self._serving

    def serve(self, serving: Serving) -> None:
        """Replace the models from the next batch on; any thread may call it."""
        self._serving = serving

    def rank(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        """Score B events with the current models."""
        serving = self._serving
        champion = serving.champion
        answers = champion.answer(inputs)
        self._recorder.add(champion.version, inputs, answers)
        ranked = RankedBatch(answers.scored(), answers.outputs["fraud"], champion.norms, [champion.version] * len(users))
        side, comparisons = AnswerSide(answers, champion.norms), []
        if serving.challenger is not None:
            rows = np.flatnonzero(share_of_users(users, serving.challenger.version, serving.percent))
            challenger_answers = self._challenge(serving.challenger, inputs, rows)
            if challenger_answers is not None:
                challenger = Challenger(serving.challenger.norms, serving.percent)
                ranked = with_challenger(ranked, challenger, challenger_answers, rows)
                comparisons.append(ShadowComparison("challenger", side, serving.challenger, inputs, rows, challenger_answers))
        if serving.shadow is not None:
            comparisons.append(ShadowComparison("shadow", side, serving.shadow, inputs))
        return replace(ranked, on_published=partial(self._comparer.offer, comparisons)) if comparisons else ranked

    def _challenge(self, challenger: ModelRanker, inputs: Inputs, rows: NDArray[np.intp]) -> ModelAnswers | None:
        """Score the challenger's rows; None if the challenger fails, so that the champion's answers stand."""
        try:
            return challenger.answer({name: values[rows] for name, values in inputs.items()})
        except MillraceError as error:
            self._metrics.challenger_failures.inc()
            log.warning("challenger %s failed for %d rows, the champion answers them: %s", challenger.version, len(rows), error)
            return None


def with_challenger(ranked: RankedBatch, challenger: Challenger, answers: ModelAnswers, rows: NDArray[np.intp]) -> RankedBatch:
    """Replace the champion's answers by the challenger's for the given rows; `ranked.scored` changes in place."""
    fraud, versions = ranked.fraud.copy(), list(ranked.versions)
    fraud[rows] = answers.outputs["fraud"]
    challenger_rows, scored = answers.scored(), ranked.scored
    for at, row in enumerate(rows.tolist()):
        versions[row] = challenger.norms.version
        for column in ("fraud", "intent", "next_action", "click", "items", "item_scores"):
            getattr(scored, column)[row] = getattr(challenger_rows, column)[at]
    return replace(ranked, fraud=fraud, versions=versions, challengers=(challenger,))
