"""What one seed comes to: a network, or several whose mean answer counts, trained and judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.checkpoint import Checkpoint
from model.network import MultiTaskNetwork
from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.evaluation.evaluate import Evaluation, choose_threshold, evaluate
from training.evaluation.protocol import EvaluationProtocol, protocol_named
from training.fit.ensemble import together
from training.fit.loop import Trained, train
from training.report.console import TrainingConsole

__all__ = ["TrainingOutcome", "checkpoint_of", "outcome_of", "place_of", "rule_of"]

_MOST_MEMBERS: Final = 1_000


@dataclass(frozen=True)
class TrainingOutcome:
    """One trained network, or several as one.

    Attributes:
        trained: the networks.
        judgement: of their mean answer, on the test range.
        threshold: of fraud alerts; None where fraud is not asked.
    """

    trained: list[Trained]
    judgement: Evaluation
    threshold: float | None


def outcome_of(
    dataset: Dataset,
    config: TrainingConfig,
    screen: TrainingConsole,
    *,
    members: int = 1,
    folder: Path | None = None,
    resume: bool = False,
    title: str = "",
) -> TrainingOutcome:
    """Train with the configuration's seed, and judge.

    Args:
        dataset: with the tasks that are trained.
        config: how; of several networks, seed s has s * 1000, s * 1000 + 1, ...
        screen: to tell a person.
        members: networks, whose mean answer is judged.
        folder: where each keeps its state (`place_of`); None keeps nothing.
        resume: whether to go on from the states there.
        title: of the progress bar; "" = the seed.
    """
    seed, trained = config.training.seed, []
    for member in range(members):
        own = seed if members == 1 else seed * _MOST_MEMBERS + member
        place = None if folder is None else place_of(folder, member, members)
        with screen.training(title or f"seed {own}") as events:
            trained.append(train(dataset, config.changed({"training.seed": own}), place, events, resume=resume))
    judgement, threshold = _judged(together([each.network for each in trained]), dataset, config)
    return TrainingOutcome(trained, judgement, threshold)


def checkpoint_of(dataset: Dataset, config: TrainingConfig, outcome: TrainingOutcome, member: int = 0) -> Checkpoint:
    """Return a network with all that belongs to it; the temperatures of several as one are not those of each."""
    alone = len(outcome.trained) == 1
    temperatures = {name: each.temperature for name, each in outcome.judgement.calibrations.items()} if alone else {}
    names, catalogue = list(dataset.feature_names), dataset.catalogue_hash
    return Checkpoint(outcome.trained[member].network, config.network.preset, names, catalogue, temperatures)


def place_of(folder: Path, member: int, members: int) -> Path:
    """Return the folder of one of several networks; the only one has the folder itself."""
    return folder if members == 1 else folder / f"member-{member}"


def rule_of(config: TrainingConfig) -> EvaluationProtocol:
    """Return how a configuration judges."""
    return protocol_named(config.evaluation.protocol, config.evaluation.neighbour_weight)


def _judged(network: MultiTaskNetwork, dataset: Dataset, config: TrainingConfig) -> tuple[Evaluation, float | None]:
    """Return what the network is worth on the test range, and the threshold of alerts; both from the validation range."""
    protocol = rule_of(config)
    held = evaluate(network, dataset, "validation", protocol)
    threshold = None
    if any(task.name == "fraud" for task in network.tasks):
        threshold = choose_threshold(network, dataset, config.evaluation.alert_precision, calibrations=held.calibrations)
    thresholds = {} if threshold is None else {"fraud": threshold}
    return evaluate(network, dataset, "test", protocol, held.calibrations, thresholds), threshold
