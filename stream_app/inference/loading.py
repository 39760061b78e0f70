"""Load what a worker ranks with: one artefact's model and its items, checked against the worker's own features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream_app.inference.artifact import check_catalogue
from stream_app.inference.engines.selection import open_scorer
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.retrieval.item_index import load_candidates
from stream_app.metrics import Metrics

__all__ = ["CANDIDATES", "RankerLoader"]

CANDIDATES: Final = 20  # of an answer: two screens of a phone


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerLoader:
    """How this worker loads any artefact.

    Attributes:
        catalogue_hash: Of the worker's features.
        feature_names: The worker's dense features, in the order of the tensor.
        engine: As `open_scorer`.
        precision: As `open_scorer`.
        threshold: Fraud probability from which an event is an alert; negative: the one in the model's manifest.
    """

    catalogue_hash: str
    feature_names: Sequence[str]
    engine: str = "auto"
    precision: str = ""
    threshold: float = -1.0

    def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
        """Load, check, test and warm up; blocking, a second or less.

        Args:
            folder: The artefact's.
            metrics: Where the engine counts its fallbacks; None for a model that is not to be seen there.

        Raises:
            ContractError: The artefact is damaged, does not fit the worker, or answers otherwise than recorded.
            EngineNotHereError: The engine asked for cannot run it here.
        """
        scorer = open_scorer(folder, self.engine, precision=self.precision, metrics=metrics)
        try:
            check_catalogue(scorer.manifest, self.catalogue_hash, self.feature_names)
            items = load_candidates(folder, scorer.manifest)
            ranker = ModelRanker(scorer, items, CANDIDATES, self.threshold)
            ranker.warm()
        except BaseException:
            scorer.close()
            raise
        return ranker
