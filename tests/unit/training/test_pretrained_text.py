"""A training of texts starts from a Hugging Face checkpoint in a folder, with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # changes the environment when it is loaded, which no test may
import transformers

from model.checkpoint import load_checkpoint
from stream_app.errors import ConfigError, ContractError
from training.config import TrainingConfig, config_from_tree
from training.data.tokenizer import learn_tokenizer
from training.jobs import TrainingJob
from training.report.console import TrainingConsole
from training.run import run

GOOD, BAD = ("lovely", "great", "很好"), ("broken", "awful", "不好")
LENGTH = 8


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """240 reviews whose words say whether they are good."""
    draw, lines = np.random.default_rng(2), ["text,good"]
    for row in range(240):
        words = GOOD if row % 2 else BAD
        lines.append(f"the {('phone', 'book', 'card')[int(draw.integers(3))]} is {words[int(draw.integers(3))]},{row % 2}")
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "reviews.csv"


@pytest.fixture
def checkpoint(tmp_path: Path, reviews: Path) -> Path:
    """A small BERT and its tokenizer, as `save_pretrained` leaves them."""
    folder = tmp_path / "bert"
    learnt = learn_tokenizer(reviews.read_text().splitlines(), 200)
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=learnt, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=learnt.get_vocab_size(), max_position_embeddings=LENGTH, **sizes)
    torch.manual_seed(7)
    model: Any = transformers.BertModel
    model(config).save_pretrained(folder)
    return folder


def config(path: Path, **training: Any) -> TrainingConfig:
    tree = {
        "network": {"preset": "text_tiny"},
        "training": {"epochs": 1, "batch": 32, "device": "cpu", **training},
        "source": {
            "kind": "text",
            "text": "text",
            "tokens": {"length": LENGTH, "path": str(path)},
            "grams": {"limit": 4},
            "split": {"kind": "random", "test": 0.2, "validation": 0.2},
            "labels": [{"name": "good", "column": "good", "positive": ["1"]}],
        },
    }
    return config_from_tree(tree, "reviews")


def transformer_of(folder: Path) -> dict[str, torch.Tensor]:
    network = load_checkpoint(folder / "checkpoint.pt").network
    return {name.partition("transformer.")[2]: w for name, w in network.state_dict().items() if "transformer." in name}


def test_training_starts_from_the_folders_weights_with_its_tokenizer(reviews: Path, checkpoint: Path, tmp_path: Path) -> None:
    still = config(checkpoint, learning_rate=1e-8, weight_decay=0.0)
    run(TrainingJob(config=still, folder=tmp_path / "still", data=(reviews,)), TrainingConsole(quiet=True))
    weights, theirs = transformer_of(tmp_path / "still"), transformers.BertModel.from_pretrained(checkpoint).state_dict()
    assert weights
    for name, weight in weights.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0.0)


def test_a_network_from_the_folder_learns_and_its_checkpoint_does_not_need_the_folder(
    reviews: Path, checkpoint: Path, tmp_path: Path
) -> None:
    order = TrainingJob(config=config(checkpoint, epochs=6, learning_rate=1e-2), folder=tmp_path / "run", data=(reviews,))
    assert run(order, TrainingConsole(quiet=True))["metrics"]["good"]["auc"] > 0.95
    for file in checkpoint.iterdir():
        file.unlink()
    assert transformer_of(tmp_path / "run")
    with pytest.raises(ContractError, match="holds no tokenizer"):
        run(order, TrainingConsole(quiet=True))


def test_a_folder_with_a_tokenizer_and_no_model_is_refused(reviews: Path, checkpoint: Path, tmp_path: Path) -> None:
    for file in (*checkpoint.glob("*.safetensors"), checkpoint / "config.json"):
        file.unlink()
    with pytest.raises(ConfigError, match=r"does not fit the data|holds no model"):
        run(TrainingJob(config=config(checkpoint), folder=tmp_path / "run", data=(reviews,)), TrainingConsole(quiet=True))
