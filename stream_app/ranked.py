"""A batch after scoring: every row's answers, and the model that made them.

A batch has one champion. A challenger may answer some users; each row belongs to one model. The threshold and the usual feature
values that a decision needs travel with the rows, because the models of a batch may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_app.events import Event, Source

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The model's outputs as Python lists, rounded to five decimals (enough for a probability; JSON stays short).

    Attributes:
        fraud: B probabilities.
        intent: B lists over events.INTENTS.
        next_action: B codes of events.NEXT_ACTIONS, each the most probable one.
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
        """Convert arrays to lists: `outputs` by the names of model.contract.OUTPUTS, `item_scores` (B, k)."""
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
    """The parts of a model that a decision depends on.

    Attributes:
        version: Version in every answer of this model.
        threshold: Fraud probability from which an event is an alert; above 1: never.
        medians: (F,) float32, usual value of each feature in catalogue order.
        scales: (F,) float32, interquartile range of each feature, > 0.
    """

    version: str
    threshold: float
    medians: Floats
    scales: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Challenger:
    """A model that answers some users in place of the champion.

    Attributes:
        norms: The model.
        percent: Percent of the users, in (0, 100).
    """

    norms: ModelNorms
    percent: float


@dataclass(frozen=True, slots=True, eq=False)
class RankedBatch:
    """B scored events.

    Attributes:
        scored: The values of the answers.
        fraud: (B,) float32 fraud probabilities, unrounded.
        champion: The model of the batch.
        versions: B versions, of the champion or a challenger: the model that scored the row.
        challengers: All challengers that may have scored rows of the batch.
        degraded: Whether the rows have no model scores because the model failed or was too slow.
        on_published: Called after the answers are published, with the coordinates and events of the rows: then the scores of a
            challenger or shadow model are compared. None if there is nothing to compare. It never blocks.
    """

    scored: ScoredRows
    fraud: Floats
    champion: ModelNorms
    versions: Sequence[str]
    challengers: tuple[Challenger, ...] = ()
    degraded: bool = False
    on_published: Callable[[Sequence[Source], Sequence[Event]], None] | None = None

    def norms(self, row: int) -> ModelNorms:
        """Return the model that scored a row."""
        version = self.versions[row]
        return next((c.norms for c in self.challengers if c.norms.version == version), self.champion)

    def thresholds(self) -> Floats:
        """Return the threshold of each row's model, (B,) float32; (1,) if all rows have the same model."""
        if not self.challengers:
            return np.array([self.champion.threshold], np.float32)
        of = {c.norms.version: c.norms.threshold for c in self.challengers}
        return np.array([of.get(version, self.champion.threshold) for version in self.versions], np.float32)
