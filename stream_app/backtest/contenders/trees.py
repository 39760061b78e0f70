"""Boosted trees as a contender: a model file of LightGBM on features of the catalogue, matched by name.

Meant for models from a notebook, also on fewer features. A worker does not serve them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_app.backtest.contenders.contender import Predictions, ScoringRequest
from stream_app.errors import ConfigError, InputFileError
from stream_app.features.engine import FeatureEngine
from stream_app.ranked import ModelNorms


class TreesContender:
    """Trees of a binary objective, so their scores are probabilities.

    Args:
        path: What `Booster.save_model` wrote.
        engine: The features.

    Raises:
        ConfigError: LightGBM is not installed, or the trees read features that the catalogue does not have.
        InputFileError: The file is not a model of LightGBM.
    """

    is_probability = True
    items: Sequence[str] = ()
    norms: ModelNorms | None = None
    threshold: float | None = None

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
        del tasks
        says = self._model.predict(np.ascontiguousarray(request.inputs["dense"][:, self._columns]), num_threads=1)
        return Predictions(np.asarray(says, np.float32))
