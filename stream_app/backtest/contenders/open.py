"""Opens contenders by their configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from stream_app.backtest.config import ContenderConfig, packaged_file
from stream_app.backtest.contenders.contender import (
    Contender,
    FeatureContender,
    ModelContender,
    RulesContender,
    ScoresContender,
)
from stream_app.backtest.contenders.score_files import ScoreFile
from stream_app.backtest.contenders.trees import TreesContender
from stream_app.decision.rule_files import load_rules
from stream_app.decision.rules import SHIPPED_RULES, RuleSet
from stream_app.features.engine import FeatureEngine

_SHIPPED: Final = "shipped"  # the path of the worker's own rules


def open_contender(config: ContenderConfig, engine: FeatureEngine, runs_on: str = "auto") -> Contender | None:
    """Open a contender; None for a blend, which is computed from the scores of others.

    Args:
        config: Of one contender.
        engine: Of the catalogue that it reads.
        runs_on: An engine of `inference.engines` for models.

    Raises:
        ConfigError: A file is missing or wrong, or a model was trained with another catalogue.
        ContractError: A model is damaged, or rules name features that the catalogue does not have.
    """
    names = engine.feature_names
    if config.kind == "model":
        return ModelContender(Path(config.path), engine, config.without, runs_on)
    if config.kind == "rules":
        rules = SHIPPED_RULES if config.path == _SHIPPED else load_rules(packaged_file(config.path))
        return RulesContender(RuleSet(rules, names))
    if config.kind == "feature":
        return FeatureContender(config.feature, engine, low=config.low)
    if config.kind == "scores":
        return ScoresContender(ScoreFile.read(Path(config.path)))
    if config.kind == "trees":
        return TreesContender(Path(config.path), engine)
    return None
