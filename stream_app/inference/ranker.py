"""Score a batch with one model call: probabilities of every task, and the best items for every user vector.

`ModelRanker` runs in the model's thread. `PriorRanker` answers without a model (model.engine = "none"); benchmarks use it to
measure the cost of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.contract import OUTPUTS
from stream_app.errors import ModelFailedError
from stream_app.inference.engines.port import Scorer
from stream_app.inference.engines.tensors import InputTensors
from stream_app.inference.retrieval.item_index import ItemIndex
from stream_app.ranked import ModelNorms, RankedBatch, ScoredRows


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnswers:
    """One model's answers to B events, as arrays.

    Attributes:
        outputs: The arrays of model.contract.OUTPUTS, by name, float32.
        items: B lists of item ids, best first.
        item_scores: (B, k) float32.
    """

    outputs: Mapping[str, NDArray[np.float32]]
    items: list[list[str]]
    item_scores: NDArray[np.float32]

    def __len__(self) -> int:
        """Return B."""
        return len(self.items)

    def part(self, rows: slice) -> ModelAnswers:
        """Return some of the rows, as views."""
        outputs = {name: values[rows] for name, values in self.outputs.items()}
        return ModelAnswers(outputs, self.items[rows], self.item_scores[rows])

    def take(self, rows: NDArray[np.intp]) -> ModelAnswers:
        """Return the rows with these numbers, as copies."""
        outputs = {name: values[rows] for name, values in self.outputs.items()}
        return ModelAnswers(outputs, [self.items[row] for row in rows.tolist()], self.item_scores[rows])

    def scored(self) -> ScoredRows:
        """Return the rows as Python values, for the encoder of answers."""
        return ScoredRows.from_outputs(self.outputs, self.items, self.item_scores)


class ModelRanker:
    """Scores with a model and ranks the items of `index`, `k` per event (at least 1).

    An event is an alert from the fraud probability `threshold` on; negative: the manifest's.
    """

    def __init__(self, scorer: Scorer, index: ItemIndex, k: int, threshold: float = -1.0) -> None:
        manifest = scorer.manifest
        self.scorer = scorer
        self._index = index
        self._k = min(k, len(index))
        self.norms = ModelNorms(
            scorer.version,
            threshold if threshold >= 0 else manifest.fraud_threshold,
            np.asarray(manifest.feature_medians, np.float32),
            np.asarray(manifest.feature_scales, np.float32),
        )

    @property
    def version(self) -> str:
        """The model's version."""
        return self.norms.version

    @property
    def serves(self) -> str:
        """See `stream_app.inference.degrade.Degradable`."""
        return self.norms.version

    def warm(self) -> None:
        """Rank one empty row, so that the first event does not wait for compilation or the engine's first run."""
        self.rank(InputTensors(self.scorer.manifest).zeros(1), [b""])

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """Score B events; see `stream_app.pipeline.Ranker`."""
        answers = self.answer(inputs)
        return RankedBatch(answers.scored(), answers.outputs["fraud"], self.norms, [self.version] * len(users))

    def answer(self, inputs: Mapping[str, NDArray[Any]]) -> ModelAnswers:
        """Score B events; one thread at a time.

        Raises:
            ContractError: See `Scorer.score`.
            ModelFailedError: See `Scorer.score`; also where an output is not finite.
        """
        outputs = {name: np.asarray(value, np.float32) for name, value in self.scorer.score(inputs).items()}
        _require_finite(outputs)
        return self.with_candidates(outputs)

    def with_candidates(self, outputs: Mapping[str, NDArray[np.float32]]) -> ModelAnswers:
        """Add the best items for the user vectors in `outputs` (`model.contract.OUTPUTS`)."""
        rows, scores = self._index.top(outputs["user_vector"], self._k)
        ids = self._index.ids
        return ModelAnswers(outputs, [[ids[row] for row in best] for best in rows.tolist()], scores)

    def close(self) -> None:
        """Free the engine; no call may be running. Idempotent."""
        self.scorer.close()


def _require_finite(outputs: Mapping[str, NDArray[np.float32]]) -> None:
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
            raise ModelFailedError(
                f"the model's output {name} is not finite for row {row} of {len(values)}: {values[row]}; no answer can carry that"
            )


def zero_answers(rows: int, norms: ModelNorms) -> RankedBatch:
    """Return zeros and no candidates for `rows` rows."""
    outputs = {spec.name: np.zeros((rows, *spec.shape), np.float32) for spec in OUTPUTS}
    scored = ScoredRows.from_outputs(outputs, [[] for _ in range(rows)], np.zeros((rows, 0), np.float32))
    return RankedBatch(scored, outputs["fraud"], norms, [norms.version] * rows)


class PriorRanker:
    """Answers zeros and no candidates; no alert, because no probability reaches the threshold."""

    version = "none"

    def rank(self, inputs: Mapping[str, NDArray[Any]], users: Sequence[bytes]) -> RankedBatch:
        """Return zeros for B events."""
        batch, features = inputs["dense"].shape
        return zero_answers(batch, ModelNorms(self.version, 2.0, np.zeros(features, np.float32), np.ones(features, np.float32)))
