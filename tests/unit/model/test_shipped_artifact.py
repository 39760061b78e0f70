"""The artefact that ships: whole, small, of this checkout's features, and better than its floors by its own report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.inference.artifact import check_catalogue, load_manifest, load_samples
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.self_test import self_test
from stream_app.inference.retrieval.item_index import load_candidates
from trt_build.parity.verify import verify_artifact

FOLDER = Path(__file__).resolve().parents[3] / "model" / "artifacts" / "demo"


def test_it_is_whole_and_answers_as_recorded() -> None:
    assert verify_artifact(FOLDER) == []
    assert self_test(OnnxScorer(FOLDER), FOLDER) < 1e-4


def test_it_answers_a_row_to_the_last_bit_alike_in_any_batch() -> None:
    scorer, inputs = OnnxScorer(FOLDER), load_samples(FOLDER, load_manifest(FOLDER))[0]
    inputs = {name: np.tile(value, (4, *[1] * (value.ndim - 1))) for name, value in inputs.items()}  # 256 rows
    whole = scorer.score(inputs)
    for size in (1, 2, 3, 7, 13, 31, 100, 127, 255):
        parts = [scorer.score({k: v[at : at + size] for k, v in inputs.items()}) for at in range(0, 256, size)]
        for name, value in whole.items():
            assert np.array_equal(np.concatenate([part[name] for part in parts]), value), (size, name)


def test_it_was_trained_with_the_features_of_this_checkout() -> None:
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=0)
    check_catalogue(load_manifest(FOLDER), engine.catalogue_hash, engine.feature_names)


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4_500_000
    assert (FOLDER / "model.onnx").stat().st_size <= 4_000_000


def test_its_items_make_an_index() -> None:
    assert len(load_candidates(FOLDER, load_manifest(FOLDER))) == 4_000


@pytest.mark.parametrize(
    ("task", "metric", "floor"),
    [
        ("fraud", "average_precision", "floor_logistic_average_precision"),
        ("intent", "accuracy", "floor_table_accuracy"),
        ("next_action", "accuracy", "floor_table_accuracy"),
        ("click", "auc", "floor_scene_table_auc"),
        ("user_vector", "recall_at_20", "floor_category_popularity_recall_at_20"),
    ],
)
def test_it_reports_to_have_learnt_something(task: str, metric: str, floor: str) -> None:
    metrics = load_manifest(FOLDER).metrics[task]
    assert metrics[metric] > metrics[floor]


def test_its_manifest_names_the_command_that_rebuilds_it() -> None:
    assert load_manifest(FOLDER).command == "python -m training --preset demo --out model/artifacts/demo"
