"""Who is judged: models, rules, single features and scores from elsewhere, all asked about the same events in one pass.

Each answers fraud scores, of which higher is more suspicious; a model answers all else that it is asked besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.contenders.score_files import ScoreFile
from stream_app.decision.rules import RuleSet
from stream_app.errors import ConfigError, ContractError
from stream_app.features.engine import FeatureEngine
from stream_app.inference.artifact import check_catalogue
from stream_app.inference.engines.selection import open_scorer
from stream_app.inference.retrieval.item_index import load_candidates
from stream_app.ranked import ModelNorms

__all__ = ["SHOWN", "Contender", "ModelContender", "Predictions", "RulesContender", "ScoringRequest", "matching_columns"]

SHOWN: Final = 20  # items of an answer, as a worker's

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """B events that are asked about: inputs by model.contract.INPUTS, kinds (B,), hashes of their ids (B,) uint64."""

    inputs: Mapping[str, Array]
    kind: NDArray[np.int32]
    event: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a candidate says of B events.

    Attributes:
        fraud: (B,) float32; NaN where it says nothing.
        intent: (B, intents) probabilities, or None.
        next_action: (B, actions) probabilities, or None.
        items: (B, k) int32, rows of `Contender.items`, best first, -1 = none; or None.
    """

    fraud: NDArray[np.float32]
    intent: Array | None = None
    next_action: Array | None = None
    items: NDArray[np.int32] | None = None


class Contender(Protocol):
    """One that is judged."""

    @property
    def threshold(self) -> float | None:
        """Its own threshold, if it has one."""
        ...

    @property
    def claims(self) -> bool:
        """Whether its scores are probabilities, so that their calibration can be judged."""
        ...

    @property
    def items(self) -> Sequence[str]:
        """The items it can show."""
        ...

    @property
    def norms(self) -> ModelNorms | None:
        """What is usual for each feature, if it knows."""
        ...

    @property
    def version(self) -> str:
        """What it is, to the byte."""
        ...

    def answer(self, asked: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Answer for B events, the tasks that are wanted."""
        ...


class ModelContender:
    """An artefact, run as a worker runs it.

    Args:
        folder: The artefact's.
        engine: The features it will be given.
        without: Patterns of features that it must do without: they are what is usual.
        runs_on: An engine of `inference.engines`.

    Raises:
        ContractError: It is damaged.
        ConfigError: It was trained with another catalogue; a pattern that fits no feature.
    """

    claims = True

    def __init__(self, folder: Path, engine: FeatureEngine, without: Sequence[str] = (), runs_on: str = "auto") -> None:
        self._scorer = open_scorer(folder, runs_on)
        manifest = self._scorer.manifest
        try:
            check_catalogue(manifest, engine.catalogue_hash, engine.feature_names)
        except ContractError as err:
            raise ConfigError(f'{err}. Or name the catalogue that it reads: catalogue = "module:NAME"') from err
        self._index = load_candidates(folder, manifest)
        self.items = self._index.ids
        self.threshold: float | None = manifest.fraud_threshold
        medians, scales = (np.asarray(part, np.float32) for part in (manifest.feature_medians, manifest.feature_scales))
        self.version = self._scorer.version
        self.norms: ModelNorms | None = ModelNorms(self.version, manifest.fraud_threshold, medians, scales)
        self._without = matching_columns(without, engine.feature_names)

    def answer(self, asked: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Score, and look for items where they are wanted."""
        inputs = dict(asked.inputs)
        if self._without:
            assert self.norms is not None
            dense = inputs["dense"].copy()
            dense[:, self._without] = self.norms.medians[self._without]
            inputs["dense"] = dense
        outputs = self._scorer.score(inputs)
        shows = "candidates" in tasks and len(self._index)
        return Predictions(
            np.asarray(outputs["fraud"], np.float32),
            outputs["intent"] if "intent" in tasks else None,
            outputs["next_action"] if "next_action" in tasks else None,
            self._index.top(np.asarray(outputs["user_vector"], np.float32), SHOWN)[0] if shows else None,
        )


class RulesContender:
    """Rules, as a worker runs them; an event's score is the sum of the points of those that fire.

    Args:
        rules: Compiled.
        threshold: Points from which an event is an alert: by default any rule that speaks against the customer.
    """

    claims = False
    items: Sequence[str] = ()
    norms: ModelNorms | None = None
    threshold: float | None = float(np.nextafter(np.float32(0), np.float32(1)))

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.version = f"{len(rules.names)} rule{'s' * (len(rules.names) != 1)}"

    def answer(self, asked: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Add up points."""
        del tasks
        return Predictions((self.rules.fired(asked.inputs["dense"], asked.kind) @ self.rules.points).astype(np.float32))


class FeatureContender:
    """One feature alone: what anything that was learnt has to beat."""

    claims = False
    items: Sequence[str] = ()
    norms: ModelNorms | None = None
    threshold: float | None = None

    def __init__(self, feature: str, engine: FeatureEngine, *, low: bool) -> None:
        [self._column] = matching_columns([feature], engine.feature_names)
        self._sign = -1.0 if low else 1.0
        self.version = f"{'low ' if low else ''}{feature}"

    def answer(self, asked: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the feature; not a number says nothing."""
        del tasks
        return Predictions((self._sign * asked.inputs["dense"][:, self._column]).astype(np.float32))


class ScoresContender:
    """Scores that something else has written down, by event id: a vendor's, a notebook's, an older system's."""

    items: Sequence[str] = ()
    norms: ModelNorms | None = None
    threshold: float | None = None

    def __init__(self, scores: ScoreFile) -> None:
        self._scores = scores
        self.claims = scores.are_probabilities
        self.version = f"{len(scores):,} scores"

    def answer(self, asked: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Look scores up."""
        del tasks
        return Predictions(self._scores.of(asked.event))


def matching_columns(patterns: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the columns of the features that match any pattern, in the order of the patterns.

    Raises:
        ConfigError: A pattern matches none.
    """
    found: dict[int, None] = {}
    for pattern in patterns:
        places = [place for place, name in enumerate(names) if fnmatch(name, pattern)]
        if not places:
            raise ConfigError(f"no feature is named {pattern!r}; `millrace features list` shows them all")
        found.update(dict.fromkeys(places))
    return list(found)
