"""What the backtest of cards is judged with: rules written as they were mined, a network whose fraud stays what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.backtest_card import _config
from benchmarks.cards.card_models import HANDBOOK, with_untrained_heads
from benchmarks.cards.card_rules import FEATURES, mine, toml_of
from model.checkpoint import Checkpoint
from model.contract import OUTPUTS
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.tasks import SHOP_TASKS
from stream_app.backtest.config import load_config
from stream_app.decision.rule_files import load_rules
from tests.scoring import scoring_engine

if TYPE_CHECKING:
    from training.data.dataset import Dataset


def test_mined_rules_are_written_as_they_were_mined_and_find_what_was_planted(made_up_dataset: Dataset, tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(1), 4_000
    dense = rng.random((rows, len(FEATURES))).astype(np.float32)
    fraud = ((dense[:, 0] > 0.8) & (dense[:, 3] > 0.5)).astype(np.int32)
    planted = replace(
        made_up_dataset,
        tasks=tuple(task for task in SHOP_TASKS if task.name == "fraud"),
        table=None,
        inputs={"dense": dense},
        labels={"fraud": fraud},
        split=np.repeat(np.array([0, 1], np.int8), [3_000, 1_000]),
        time_ms=np.arange(rows),
        key=np.arange(rows),
        segment=np.zeros(rows, np.int8),
        feature_names=FEATURES,
    )
    rules, worth = mine(planted)
    assert worth["validation_average_precision"] > 0.95
    strongest = {condition.feature for condition in rules[0].conditions}
    assert {FEATURES[0], FEATURES[3]} <= strongest
    path = tmp_path / "rules.toml"
    path.write_text(toml_of(rules, "two\nlines"))
    assert load_rules(path) == rules


def test_with_all_heads_a_network_answers_fraud_as_it_did_without(made_up_dataset: Dataset) -> None:
    for preset in ("tiny", "demo"):
        torch.manual_seed(2)
        alone = MultiTaskNetwork(
            PRESETS[preset], made_up_dataset.spec, [task for task in SHOP_TASKS if task.name == "fraud"]
        ).eval()
        whole = with_untrained_heads(Checkpoint(alone, preset), made_up_dataset)
        rows = {name: torch.from_numpy(value) for name, value in made_up_dataset.inputs.items()}
        with torch.no_grad():
            answers = whole.network(rows)
            assert torch.allclose(answers["fraud"], alone(rows)["fraud"], atol=1e-5)
        assert {spec.name for spec in OUTPUTS} <= set(answers)


def test_the_configuration_with_trained_candidates_is_right(tmp_path: Path) -> None:
    config = load_config(str(_config(tmp_path)))
    assert config.name == "card-handbook"
    assert {"network", "trees", "network_and_trees", "handbook_floor", "rules", "demo_model"} <= set(config.candidates)
    assert {*HANDBOOK, *FEATURES} <= set(scoring_engine().feature_names)
