"""Fixtures of the unit tests that more than one package's tests take: a small, whole model artefact."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from training.data.dataset import Dataset

FEATURES = 12
ITEMS = 50


@pytest.fixture(scope="session")
def made_up_dataset() -> Dataset:
    """128 rows of valid tensors and random labels: for what is about shapes and files, not about learning."""
    import numpy as np

    from model.examples import example_inputs
    from model.inputs import EventInputs
    from model.tasks import SHOP_TASKS
    from training.data.dataset import Dataset, ItemTable

    rows, rng = 128, np.random.default_rng(5)
    classes = {"fraud": 2, "intent": 4, "next_action": 7, "click": 2, "conversion": 2, "next_item": ITEMS}
    return Dataset(
        inputs={name: tensor.numpy() for name, tensor in example_inputs(EventInputs(FEATURES), rows).items()},
        labels={name: rng.integers(-1, count, rows).astype(np.int32) for name, count in classes.items()},
        split=np.repeat(np.array([0, 1, 2], np.int8), [64, 32, 32]),
        segment=np.zeros(rows, np.int8),
        time_ms=np.arange(rows, dtype=np.int64),
        key=np.arange(rows, dtype=np.int64) % 20,
        tasks=SHOP_TASKS,
        spec=EventInputs(FEATURES),
        table=ItemTable(
            [f"i{n}" for n in range(ITEMS)],
            np.arange(1, ITEMS + 1, dtype=np.int32),
            np.arange(1, ITEMS + 1, dtype=np.int32) % 7 + 1,
        ),
        feature_names=tuple(f"feature_{n}" for n in range(FEATURES)),
        catalogue_hash="0123456789abcdef",
    )


@pytest.fixture(scope="session")
def untrained(made_up_dataset: Dataset) -> Checkpoint:
    """A tiny network with seeded random weights, as a checkpoint."""
    import torch

    from model.checkpoint import Checkpoint
    from model.network import MultiTaskNetwork
    from model.presets import PRESETS

    torch.manual_seed(3)
    network = MultiTaskNetwork(PRESETS["tiny"], made_up_dataset.spec, made_up_dataset.tasks).eval()
    return Checkpoint(network, "tiny", list(made_up_dataset.feature_names), made_up_dataset.catalogue_hash)


@pytest.fixture(scope="session")
def built_artifact(tmp_path_factory: pytest.TempPathFactory, made_up_dataset: Dataset, untrained: Checkpoint) -> Path:
    """The artefact of `untrained`: look, do not touch."""
    from training.artifact import ArtifactContents, write_artifact

    folder = tmp_path_factory.mktemp("artifact") / "tiny"
    finished = ArtifactContents(untrained, 0.5, {"fraud": {"auc": 0.5}}, "python -m training --preset tiny", {"source": "a test"})
    write_artifact(finished, made_up_dataset, folder)
    return folder


@pytest.fixture
def artifact(tmp_path: Path, built_artifact: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(built_artifact, tmp_path / "tiny"))
