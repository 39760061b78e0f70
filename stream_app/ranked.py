"""What scoring a batch comes to: every row's answers, and which model made them.

One batch has one champion. Some of its rows may be a challenger's, by user; each row is whole, of one model. What a decision
needs of a model (its threshold, what is usual for its features) travels with the rows, since two models may score in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_app.events import Event, Source

__all__ = ["Challenger", "ModelNorms", "RankedBatch", "ScoredRows"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The model's answers as Python lists, rounded to five decimals (a probability needs no more; JSON stays short).

    Attributes:
        fraud: B probabilities.
        intent: B lists over events.INTENTS.
        next_action: B codes of events.NEXT_ACTIONS, the most probable one.
        click: B probabilities.
        items: B lists of item ids, best first.
        item_scores: B lists of scores.
    """

    fraud: list[float]
    intent: list[list[float]]
    next_action: list[int]
    click: list[float]
    items: list[list[str]]
    item_scores: list[list[float]]

    @classmethod
    def from_outputs(
        cls,
        outputs: Mapping[str, Floats],
        items: list[list[str]],
        item_scores: Floats,
    ) -> ScoredRows:
        """Turn arrays into lists: `outputs` by model.contract.OUTPUTS' names, `item_scores` (B, k)."""
        return cls(
            fraud=_rounded(outputs["fraud"]),
            intent=_rounded(outputs["intent"]),
            next_action=outputs["next_action"].argmax(axis=1).tolist(),
            click=_rounded(outputs["click"]),
            items=items,
            item_scores=_rounded(item_scores),
        )


def _rounded(values: Floats) -> list:  # type: ignore[type-arg]  # nested as deep as the array
    rounded: list[object] = np.round(values.astype(np.float64), 5).tolist()
    return rounded


@dataclass(frozen=True, slots=True, eq=False)
class ModelNorms:
    """One model, as far as a decision depends on it.

    Attributes:
        version: As it stands in every answer.
        threshold: Fraud probability from which an event is an alert; above 1 none is.
        medians: (F,) float32, usual value of each feature in catalogue order.
        scales: (F,) float32, interquartile range of each feature, > 0.
    """

    version: str
    threshold: float
    medians: Floats
    scales: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """A model that answers some of the users in the champion's place.

    Attributes:
        norms: The model.
        percent: Of the users, in (0, 100).
    """

    norms: ModelNorms
    percent: float


@dataclass(frozen=True, slots=True, eq=False)
class RankedBatch:
    """B scored events.

    Attributes:
        scored: What the answers say.
        fraud: (B,) float32 fraud probabilities, unrounded.
        champion: The model of the batch.
        versions: B versions, of the champion or of one of the challengers: who made the row.
        challengers: All that could have made a row of the batch, if any.
        degraded: The rows were made without a model, because it failed or was too slow.
        answered: Call it once the batch's answers are published, with the rows' events and where they stand: models that score
            without deciding look at the batch then. None where there are none. It never blocks.
    """

    scored: ScoredRows
    fraud: Floats
    champion: ModelNorms
    versions: Sequence[str]
    challengers: tuple[Challenger, ...] = ()
    degraded: bool = False
    on_published: Callable[[Sequence[Source], Sequence[Event]], None] | None = None

    def norms(self, row: int) -> ModelNorms:
        """Return the model that made a row."""
        version = self.versions[row]
        return next((c.norms for c in self.challengers if c.norms.version == version), self.champion)

    def thresholds(self) -> Floats:
        """Return the threshold of each row's model, (B,) float32; as (1,) where all have the same model."""
        if not self.challengers:
            return np.array([self.champion.threshold], np.float32)
        of = {c.norms.version: c.norms.threshold for c in self.challengers}
        return np.array([of.get(version, self.champion.threshold) for version in self.versions], np.float32)
