"""Train one network, or several whose mean logits count, and evaluate the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.network import MultiTaskNetwork
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.evaluation.evaluate import Evaluation, choose_threshold, evaluate
from training.evaluation.protocol import EvaluationProtocol, protocol_named
from training.fit.loop import TrainedNetwork, train
from training.report.console import TrainingConsole

_MAX_MEMBERS: Final = 1_000


class Ensemble(nn.Module):
    """M networks of the same tasks and inputs, with the interface of one: the mean of logits, with less variance of the seed.

    Source: Hansen and Salamon, "Neural Network Ensembles", PAMI 1990; the mean of logits is the logarithmic opinion pool (Hinton,
    "Training Products of Experts by Minimizing Contrastive Divergence", 2002).

    Retrieval is refused: vectors of two networks lie in different spaces and have no meaningful mean.
    """

    def __init__(self, networks: Sequence[MultiTaskNetwork]) -> None:
        super().__init__()
        first = networks[0]
        retrieval = [task.name for task in first.tasks if task.kind == "retrieval"]
        if retrieval:
            raise ValueError(
                f"task {', '.join(retrieval)}: retrieval vectors cannot be averaged; leave it out, or take 1 network"
            )
        self.networks = nn.ModuleList(networks)
        self.tasks, self.inputs = first.tasks, first.inputs

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits by name of the task, as `MultiTaskNetwork` does."""
        logits = [network(inputs) for network in self.networks]
        return {name: torch.stack([each[name] for each in logits]).mean(dim=0) for name in logits[0]}


@dataclass(frozen=True)
class TrainingOutcome:
    """Trained networks, the evaluation of their mean logits on the test range, and the threshold of fraud alerts, if any."""

    trained: list[TrainedNetwork]
    evaluation: Evaluation
    threshold: float | None


def train_and_evaluate(
    dataset: Dataset,
    config: TrainingConfig,
    console: TrainingConsole,
    *,
    members: int = 1,
    folder: Path | None = None,
    resume: bool = False,
    title: str = "",
) -> TrainingOutcome:
    """Train with the configuration's seed, and evaluate the mean logits of `members` networks on the test range.

    Several networks of seed s have the seeds s * 1000, s * 1000 + 1, ... Their training states are saved in `folder`
    (`member_folder`), from which `resume` continues; None saves none. `title` is that of the progress bar; "" = the seed.
    """
    seed, trained = config.training.seed, []
    for member in range(members):
        member_seed = seed if members == 1 else seed * _MAX_MEMBERS + member
        own_folder = None if folder is None else member_folder(folder, member, members)
        with console.training(title or f"seed {member_seed}") as callbacks:
            trained.append(train(dataset, config.changed({"training.seed": member_seed}), own_folder, callbacks, resume=resume))
    networks = [each.network for each in trained]
    # Evaluation uses only tasks, parameters and the call, which an ensemble has too.
    network = cast("MultiTaskNetwork", Ensemble(networks)) if members > 1 else networks[0]
    evaluation, threshold = _evaluate(network, dataset, config)
    return TrainingOutcome(trained, evaluation, threshold)


def checkpoint_of(dataset: Dataset, config: TrainingConfig, outcome: TrainingOutcome, member: int = 0) -> Checkpoint:
    """Return the checkpoint of one network; without temperatures where several networks were calibrated together."""
    single = len(outcome.trained) == 1
    temperatures = {name: each.temperature for name, each in outcome.evaluation.calibrations.items()} if single else {}
    names, catalogue = list(dataset.feature_names), dataset.catalogue_hash
    return Checkpoint(outcome.trained[member].network, config.network.preset, names, catalogue, temperatures)


def member_folder(folder: Path, member: int, members: int) -> Path:
    """Return the folder of one of several networks; a single network uses `folder` itself."""
    return folder if members == 1 else folder / f"member-{member}"


def protocol_of(config: TrainingConfig) -> EvaluationProtocol:
    """Return the evaluation protocol of a configuration."""
    return protocol_named(config.evaluation.protocol, config.evaluation.neighbour_weight)


def _evaluate(network: MultiTaskNetwork, dataset: Dataset, config: TrainingConfig) -> tuple[Evaluation, float | None]:
    """Evaluate on the test range; calibration and the threshold of alerts (None without fraud) come from the validation range."""
    protocol = protocol_of(config)
    validation = evaluate(network, dataset, "validation", protocol)
    threshold = None
    if any(task.name == "fraud" for task in network.tasks):
        threshold = choose_threshold(network, dataset, config.evaluation.alert_precision, calibrations=validation.calibrations)
    thresholds = {} if threshold is None else {"fraud": threshold}
    return evaluate(network, dataset, "test", protocol, validation.calibrations, thresholds), threshold
