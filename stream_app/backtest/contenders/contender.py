"""Contenders of a backtest: models, trees, rules, single features and external scores, applied to the same events in one pass.

Each returns fraud scores, higher being more suspicious; a model also predicts the other tasks.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.config import ContenderConfig, packaged_file
from stream_app.backtest.contenders.score_files import ScoreFile
from stream_app.decision.rule_files import load_rules
from stream_app.decision.rules import SHIPPED_RULES, RuleSet
from stream_app.errors import ConfigError, ContractError, InputFileError
from stream_app.features.engine import FeatureEngine
from stream_app.inference.artifact import check_catalogue
from stream_app.inference.engines.selection import open_scorer
from stream_app.inference.retrieval.item_index import load_candidates
from stream_app.ranked import ModelNorms

_SHIPPED_RULES: Final = "shipped"  # the path of the worker's own rules
LIST_LENGTH: Final = 20  # items of a recommendation, as in a worker

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ScoringRequest:
    """B events to score: inputs by model.contract.INPUTS, kinds (B,), hashes of their ids (B,) uint64."""

    inputs: Mapping[str, Array]
    kind: NDArray[np.int32]
    event: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a contender for B events.

    Attributes:
        fraud: (B,) float32; NaN for no score.
        intent: (B, intents) probabilities, or None.
        next_action: (B, actions) probabilities, or None.
        items: (B, k) int32, rows of `Contender.items`, best first, -1 = none; or None.
    """

    fraud: NDArray[np.float32]
    intent: Array | None = None
    next_action: Array | None = None
    items: NDArray[np.int32] | None = None


class Contender:
    """A source of predictions.

    Attributes:
        version: Identifies it exactly.
        is_probability: Whether its scores are probabilities, so that calibration can be evaluated.
        threshold: Its own threshold, if it has one.
        items: The items that it can recommend.
        norms: Median and scale of each feature, if known.
    """

    version: str
    is_probability = False
    threshold: float | None = None
    items: Sequence[str] = ()
    norms: ModelNorms | None = None

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the predictions for B events; those of `tasks` besides fraud."""
        raise NotImplementedError


class ModelContender(Contender):
    """An artefact, run as a worker runs it; features that match a pattern of `without` are replaced by their medians.

    Raises:
        ContractError: The artefact is damaged.
        ConfigError: It was trained with another catalogue, or a pattern matches no feature.
    """

    is_probability = True

    def __init__(self, folder: Path, engine: FeatureEngine, without: Sequence[str] = (), runs_on: str = "auto") -> None:
        self._scorer = open_scorer(folder, runs_on)
        manifest = self._scorer.manifest
        try:
            check_catalogue(manifest, engine.catalogue_hash, engine.feature_names)
        except ContractError as err:
            raise ConfigError(f'{err}. Or name the catalogue that it reads: catalogue = "module:NAME"') from err
        self._index = load_candidates(folder, manifest)
        self.items = self._index.ids
        self.threshold = manifest.fraud_threshold
        medians, scales = (np.asarray(part, np.float32) for part in (manifest.feature_medians, manifest.feature_scales))
        self.version = self._scorer.version
        self.norms = ModelNorms(self.version, manifest.fraud_threshold, medians, scales)
        self._without = matching_columns(without, engine.feature_names)

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Score, and retrieve items for the task `candidates`."""
        inputs = dict(request.inputs)
        if self._without:
            assert self.norms is not None
            dense = inputs["dense"].copy()
            dense[:, self._without] = self.norms.medians[self._without]
            inputs["dense"] = dense
        outputs = self._scorer.score(inputs)
        retrieves = "candidates" in tasks and len(self._index)
        return Predictions(
            np.asarray(outputs["fraud"], np.float32),
            outputs["intent"] if "intent" in tasks else None,
            outputs["next_action"] if "next_action" in tasks else None,
            self._index.top(np.asarray(outputs["user_vector"], np.float32), LIST_LENGTH)[0] if retrieves else None,
        )


class RulesContender(Contender):
    """Rules, as a worker runs them; an event's score is the sum of the points of those that fire."""

    # Any rule with positive points is an alert.
    threshold = float(np.nextafter(np.float32(0), np.float32(1)))

    def __init__(self, rules: RuleSet) -> None:
        self.rules = rules
        self.version = f"{len(rules.names)} rule{'s' * (len(rules.names) != 1)}"

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the sum of points."""
        return Predictions((self.rules.fired(request.inputs["dense"], request.kind) @ self.rules.points).astype(np.float32))


class FeatureContender(Contender):
    """One feature alone: the baseline of anything that is learnt."""

    def __init__(self, feature: str, engine: FeatureEngine, *, low: bool) -> None:
        [self._column] = matching_columns([feature], engine.feature_names)
        self._sign = -1.0 if low else 1.0
        self.version = f"{'low ' if low else ''}{feature}"

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the feature; NaN is no score."""
        return Predictions((self._sign * request.inputs["dense"][:, self._column]).astype(np.float32))


class ScoresContender(Contender):
    """Scores by event id from a file: of a vendor, a notebook, an older system."""

    def __init__(self, scores: ScoreFile) -> None:
        self._scores = scores
        self.is_probability = scores.are_probabilities
        self.version = f"{len(scores):,} scores"

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the scores of the file."""
        return Predictions(self._scores.of(request.event))


class TreesContender(Contender):
    """Boosted trees of LightGBM with a binary objective, matched to features by name; a worker does not serve them.

    Raises:
        ConfigError: LightGBM is not installed, or the trees read features that the catalogue does not have.
        InputFileError: The file is not a model of LightGBM.
    """

    is_probability = True

    def __init__(self, path: Path, engine: FeatureEngine) -> None:
        if importlib.util.find_spec("lightgbm") is None:
            raise ConfigError(f"{path} needs LightGBM: pip install 'millrace[train]'")
        import lightgbm

        try:
            self._model = lightgbm.Booster(model_str=path.read_text())
        except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as err:
            raise InputFileError(f"{path} is no model file of LightGBM that can be read: {err}") from err
        names = self._model.feature_name()
        unknown = [name for name in names if name not in engine.feature_names]
        if unknown:
            raise ConfigError(f"{path} reads features that the catalogue does not have: {', '.join(unknown)}; train it on others")
        self._columns = [engine.feature_names.index(name) for name in names]
        self.version = f"{self._model.num_trees()} trees, {len(names)} features"

    def predict(self, request: ScoringRequest, tasks: Sequence[str]) -> Predictions:
        """Return the probability of fraud."""
        probabilities = self._model.predict(np.ascontiguousarray(request.inputs["dense"][:, self._columns]), num_threads=1)
        return Predictions(np.asarray(probabilities, np.float32))


def open_contender(config: ContenderConfig, engine: FeatureEngine, runs_on: str = "auto") -> Contender | None:
    """Open a contender; None for a blend, which is computed from the scores of others.

    `engine` is that of the catalogue that it reads, `runs_on` an engine of `inference.engines` for models.

    Raises:
        ConfigError: A file is missing or wrong, or a model was trained with another catalogue.
        ContractError: A model is damaged, or rules name features that the catalogue does not have.
    """
    names = engine.feature_names
    if config.kind == "model":
        return ModelContender(Path(config.path), engine, config.without, runs_on)
    if config.kind == "rules":
        rules = SHIPPED_RULES if config.path == _SHIPPED_RULES else load_rules(packaged_file(config.path))
        return RulesContender(RuleSet(rules, names))
    if config.kind == "feature":
        return FeatureContender(config.feature, engine, low=config.low)
    if config.kind == "scores":
        return ScoresContender(ScoreFile.read(Path(config.path)))
    if config.kind == "trees":
        return TreesContender(Path(config.path), engine)
    return None


def matching_columns(patterns: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the columns of the features that match any pattern, in the order of the patterns.

    Raises:
        ConfigError: A pattern matches none.
    """
    columns: dict[int, None] = {}
    for pattern in patterns:
        matches = [place for place, name in enumerate(names) if fnmatch(name, pattern)]
        if not matches:
            raise ConfigError(f"no feature is named {pattern!r}; `millrace features list` shows them all")
        columns.update(dict.fromkeys(matches))
    return list(columns)
