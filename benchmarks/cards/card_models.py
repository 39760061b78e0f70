"""Models for the backtest of card transactions, each trained on labels known when the test week began.

network     the network of training/configs/cards.toml, as an artefact that a worker's scorer runs
trees       LightGBM on the whole catalogue
handbook    LightGBM on the handbook's own fifteen features and its one week of training: the floor
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.network import MultiTaskNetwork
from model.tasks import SHOP_TASKS
from stream_app.errors import ContractError
from training.artifact import ArtifactContents, write_artifact
from training.config import load_config
from training.data.dataset import Dataset
from training.fit.gbdt import LIGHTGBM
from training.jobs import TrainingJob, apply_task_choice, build_dataset
from training.outcome import checkpoint_of, train_and_evaluate
from training.report.console import TrainingConsole

CARDS_FILE: Final = "fraud/card_transactions_apr_aug_2018.parquet"
# The handbook's features as the catalogue has them: amount, weekend, night; a customer's and a terminal's number of transactions
# (and the customer's mean amount) over 1, 7 and 30 days; the terminal's rate of frauds that are known.
HANDBOOK: Final = (
    "amount",
    "weekend",
    "night",
    "user_orders_1d",
    "user_orders_7d",
    "user_orders_30d",
    "user_order_mean_1d",
    "user_order_mean_7d",
    "user_order_mean_30d",
    "device_orders_1d",
    "device_orders_7d",
    "device_orders_30d",
    "item_cart_rate_7d",
    "category_cart_rate_7d",
)
_SAME: Final = 1e-6  # of a probability: what another order of adding up may change


def card_dataset(path: Path, keep: Path | None) -> Dataset:
    """Return the training set of `cards`, made or as it was kept."""
    job = TrainingJob(config=load_config("cards"), folder=Path("runs/cards"), data=(path,), cache=keep)
    return apply_task_choice(build_dataset(job, lambda _line: None), job.config)[0]


def train_network(path: Path, keep: Path, folder: Path, command: str, epochs: int | None = None) -> None:
    """Train the network of `cards` and write its artefact to `folder`; `epochs` in place of the configuration's."""
    torch.set_num_threads(1)
    config = load_config("cards")
    config = config.changed({"training.epochs": epochs}) if epochs is not None else config
    dataset, config, _ = apply_task_choice(card_dataset(path, keep), config)
    outcome = train_and_evaluate(dataset, config, TrainingConsole(quiet=True))
    assert outcome.threshold is not None
    whole = with_untrained_heads(checkpoint_of(dataset, config, outcome), dataset)
    notes = {
        "events": f"{len(dataset):,} card transactions",
        "not trained": "all heads but fraud: for a backtest, not for a worker",
    }
    write_artifact(ArtifactContents(whole, outcome.threshold, outcome.evaluation.metrics, command, notes), dataset, folder)


def with_untrained_heads(checkpoint: Checkpoint, dataset: Dataset) -> Checkpoint:
    """Return a network that has all heads that are served, and answers fraud as `checkpoint`, which has this one alone.

    Raises:
        ContractError: It does not answer the same.
    """
    trained = checkpoint.network
    torch.manual_seed(0)
    whole = MultiTaskNetwork(trained.shape, trained.inputs, SHOP_TASKS)
    state = whole.state_dict()
    for name, weight in trained.state_dict().items():  # fraud is the first task, so what it owns of a shared tensor comes first
        if state[name].shape == weight.shape:
            state[name] = weight
        else:
            state[name][: len(weight)] = weight
    whole.load_state_dict(state)
    whole.eval()
    rows = dataset.rows("test")[:256]
    inputs = {
        spec.name: torch.from_numpy(np.ascontiguousarray(dataset.inputs[spec.name][rows])) for spec in trained.inputs.tensors()
    }
    with torch.no_grad():
        trained.eval()
        gap = float((torch.sigmoid(whole(inputs)["fraud"]) - torch.sigmoid(trained(inputs)["fraud"])).abs().max())
    if gap > _SAME:
        raise ContractError(f"with all heads the network answers fraud otherwise, by {gap:.2g}. Operator action: report it.")
    return replace(checkpoint, network=whole)


def train_trees(dataset: Dataset, path: Path, features: Sequence[str] = (), days: int = 0) -> None:
    """Grow trees on some features (all by default), and write LightGBM's model file to `path`.

    `days`: only so many days before the training range ends; 0: all of it, growth being stopped by the validation range.
    """
    import lightgbm

    names = list(features or dataset.feature_names)
    columns = [dataset.feature_names.index(name) for name in names]
    rows, held = dataset.known("fraud", "train"), dataset.known("fraud", "validation")
    if days:
        rows = rows[dataset.time_ms[rows] >= dataset.time_ms[rows].max() - days * 86_400_000]

    def table(of: NDArray[np.int64]) -> lightgbm.Dataset:
        return lightgbm.Dataset(dataset.inputs["dense"][of][:, columns], dataset.labels["fraud"][of], feature_name=names)

    parameters = {**LIGHTGBM, "objective": "binary", "feature_fraction": 0.6, "min_child_samples": 50, "seed": 1}
    stop: list[Callable[..., Any]] = [lightgbm.early_stopping(50, verbose=False)]
    model = lightgbm.train(parameters, table(rows), 400, valid_sets=[table(held)], callbacks=stop)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_model(str(path), num_iteration=model.best_iteration)
