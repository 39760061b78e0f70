"""One model call a batch: probabilities for every task, and the best items for every user vector.

`ModelRanker` is what the pipeline runs in the model's thread. `PriorRanker` answers without a model (model.engine = "none"):
benchmarks use it to tell what the model costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS, OUTPUTS
from stream_app.codec.answers import ScoredRows
from stream_app.errors import ContractError
from stream_app.inference.candidates import CandidateIndex
from stream_app.inference.port import Scorer

__all__ = ["ModelRanker", "PriorRanker"]


class ModelRanker:
    """Scores with a model and ranks its items.

    Args:
        scorer: A loaded model.
        index: The model's items.
        k: Candidates an event, at least 1.
    """

    def __init__(self, scorer: Scorer, index: CandidateIndex, k: int) -> None:
        self._scorer = scorer
        self._index = index
        self._k = min(k, len(index))

    def warm(self) -> None:
        """Rank one empty row, so that the first event waits for no compiler and no first run of the engine."""
        features = len(self._scorer.manifest.feature_names)
        self.rank(
            {spec.name: np.zeros((1, *(features if size == -1 else size for size in spec.shape)), spec.dtype) for spec in INPUTS}
        )

    def rank(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[ScoredRows, NDArray[np.float32]]:
        """Score B events; see `stream_app.pipeline.Ranker`."""
        outputs = {name: np.asarray(value, np.float32) for name, value in self._scorer.score(inputs).items()}
        _require_finite(outputs)
        rows, scores = self._index.top(outputs["user_vector"], self._k)
        ids = self._index.ids
        items = [[ids[row] for row in best] for best in rows.tolist()]
        return ScoredRows.from_outputs(outputs, items, scores), outputs["fraud"]


def _require_finite(outputs: Mapping[str, NDArray[np.float32]]) -> None:
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
            raise ContractError(
                f"the model's output {name} is not finite for row {row} of {len(values)}: {values[row]}; "
                "no answer can carry that. Operator action: go back to the model that served before (model.path) and have this "
                "one trained again."
            )


class PriorRanker:
    """Answers zeros and no candidates."""

    def rank(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[ScoredRows, NDArray[np.float32]]:
        """Answer for B events without looking at them."""
        batch = len(inputs["dense"])
        outputs = {spec.name: np.zeros((batch, *spec.shape), np.float32) for spec in OUTPUTS}
        empty: list[list[str]] = [[] for _ in range(batch)]
        return ScoredRows.from_outputs(outputs, empty, np.zeros((batch, 0), np.float32)), outputs["fraud"]
