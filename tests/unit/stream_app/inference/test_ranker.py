"""Rankers: one call, answers for every row; the shipped artefact is the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.contract import INPUTS
from stream_app.errors import ModelFailedError
from stream_app.inference.artifact import load_items, load_manifest
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.port import Tensors
from stream_app.inference.ranker import ModelRanker, PriorRanker
from stream_app.inference.retrieval.item_index import ItemIndex

_ARTIFACT = Path(__file__).resolve().parents[4] / "model" / "artifacts" / "demo"


def inputs(rows: int, features: int) -> dict[str, np.ndarray]:
    return {
        spec.name: np.zeros((rows, *(features if size == -1 else size for size in spec.shape)), spec.dtype) for spec in INPUTS
    }


USER = bytes(16)
FEATURES = len(load_manifest(_ARTIFACT).feature_names)


@pytest.fixture(scope="module")
def ranker() -> ModelRanker:
    ranker = ModelRanker(OnnxScorer(_ARTIFACT), ItemIndex(*load_items(_ARTIFACT)), 20)
    ranker.warm()
    return ranker


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_every_row_gets_probabilities_and_distinct_candidates_best_first(ranker: ModelRanker, rows: int) -> None:
    ranked = ranker.rank(inputs(rows, FEATURES), [USER] * rows)
    scored, fraud = ranked.scored, ranked.fraud
    assert fraud.shape == (rows,)
    assert [len(values) for values in (scored.fraud, scored.intent, scored.click, scored.items)] == [rows] * 4
    for row in range(rows):
        assert 0 <= scored.fraud[row] <= 1
        assert sum(scored.intent[row]) == pytest.approx(1, abs=1e-3)
        assert len(set(scored.items[row])) == 20
        assert scored.item_scores[row] == sorted(scored.item_scores[row], reverse=True)


def test_more_candidates_than_items_gives_all_items() -> None:
    few = ModelRanker(OnnxScorer(_ARTIFACT), ItemIndex(["a", "b"], np.eye(2, 32, dtype=np.float32)), 20)
    assert sorted(few.rank(inputs(1, FEATURES), [USER]).scored.items[0]) == ["a", "b"]


def test_an_output_that_is_not_finite_is_refused_before_anything_is_answered() -> None:
    class Broken(OnnxScorer):
        def score(self, inputs: Tensors) -> dict[str, np.ndarray]:
            outputs = dict(super().score(inputs))
            if len(outputs["intent"]) == 3:  # not while it warms up
                outputs["intent"][1, 2] = np.nan
            return outputs

    broken = ModelRanker(Broken(_ARTIFACT), ItemIndex(*load_items(_ARTIFACT)), 20)
    with pytest.raises(ModelFailedError, match="intent is not finite for row 1 of 3"):
        broken.rank(inputs(3, FEATURES), [USER] * 3)


def test_without_a_model_nothing_is_claimed() -> None:
    ranked = PriorRanker().rank(inputs(3, FEATURES), [USER] * 3)
    assert ranked.fraud.tolist() == [0, 0, 0]
    assert ranked.scored.items == [[], [], []]
    assert (ranked.fraud < ranked.thresholds()).all()


def test_rows_carry_the_version_of_their_model_and_what_its_manifest_says_of_decisions(ranker: ModelRanker) -> None:
    manifest = load_manifest(_ARTIFACT)
    ranked = ranker.rank(inputs(2, FEATURES), [USER] * 2)
    assert (list(ranked.versions), ranked.champion.version, ranked.degraded) == ([manifest.version] * 2, ranker.version, False)
    assert ranked.champion.threshold == manifest.fraud_threshold
    assert ranked.norms(1).medians.tolist() == np.array(manifest.feature_medians, np.float32).tolist()
    own = ModelRanker(OnnxScorer(_ARTIFACT), ItemIndex(*load_items(_ARTIFACT)), 20, threshold=0.25)
    assert own.norms.threshold == 0.25
