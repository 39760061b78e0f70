"""Load one artefact's model and items, and check them against the worker's features."""

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

CANDIDATES: Final = 20  # per answer: two screens of a phone


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerLoader:
    """Loads artefacts with this worker's settings; see `check_catalogue`, `open_scorer` and `ModelRanker`."""

    catalogue_hash: str
    feature_names: Sequence[str]
    engine: str = "auto"
    precision: str = ""
    threshold: float = -1.0

    def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
        """Load, check, test and warm up a model; blocking, a second or less. `metrics` count the engine's fallbacks.

        Raises:
            ContractError: The artefact is damaged, does not fit the worker, or fails its self-test.
            EngineNotHereError: The configured engine cannot run the model on this machine.
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
