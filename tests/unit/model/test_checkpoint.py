"""Checkpoints: the same network back, for every kind of input, and from nothing but the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.examples import example_inputs
from model.inputs import TextInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from tests.unit.model.small import SMALL, YES, small_network, small_rows


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_checkpoint_gives_back_the_same_network(kind: str, tmp_path: Path) -> None:
    network = small_network(kind, sharing="ple")
    save_checkpoint(Checkpoint(network, "preset", ["f1", "f2"], "hash", {"yes": 1.5}), tmp_path / "checkpoint.pt")
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    again = loaded.network(small_rows(kind, 4))
    for name, value in network(small_rows(kind, 4)).items():
        assert torch.equal(value, again[name])
    assert (loaded.network.shape, loaded.network.inputs, loaded.network.tasks) == (network.shape, network.inputs, network.tasks)
    assert (loaded.preset, loaded.feature_names, loaded.catalogue_hash) == ("preset", ["f1", "f2"], "hash")
    assert loaded.temperatures == {"yes": 1.5}


def test_a_text_model_needs_its_folder_only_once(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    inputs = TextInputs(50, 8, path=str(tmp_path / "model"))
    network = MultiTaskNetwork(PRESETS["text_tiny"], inputs, (YES,)).eval()
    save_checkpoint(Checkpoint(network, "text_tiny"), tmp_path / "checkpoint.pt")
    shutil.rmtree(tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    rows = example_inputs(inputs, 3)
    assert torch.equal(network(rows)["yes"], loaded.network(rows)["yes"])
