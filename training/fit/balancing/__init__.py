"""How the tasks' gradients become one step, swappable by name.

    fixed         the sum of the losses, each times its task's weight
    uncertainty   each loss over its own learned variance: Kendall et al., CVPR 2018
    dwa           dynamic weight average, by how fast each loss fell: Liu et al., CVPR 2019
    gradnorm      weights that even out the norms of the gradients: Chen et al., ICML 2018
    pcgrad        conflicting parts of the gradients are projected away: Yu et al., NeurIPS 2020
    torchjd:<n>   the aggregators of `torchjd`: upgrad, mgda, cagrad, nashmtl, ... (`torchjd_names()`)

The first four weigh losses, the others combine gradients of losses in their fixed weights. A bound on each task's gradient
(`max_norm_bound`) goes with any of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.tasks import Task
from training.config import TrainingOptions
from training.fit.balancing.balance import Balance, Combining
from training.fit.balancing.dwa import DynamicWeightAverage
from training.fit.balancing.gradnorm import GradNorm
from training.fit.balancing.pcgrad import projected
from training.fit.balancing.torchjd_aggregator import TorchJdAggregator, torchjd_names
from training.fit.balancing.uncertainty import UncertaintyWeights
from training.fit.balancing.weighing import FixedWeights, Weighing

__all__ = ["Balance", "balance_from", "torchjd_names"]


def balance_from(options: TrainingOptions, tasks: Sequence[Task]) -> Balance:
    """Return the balance that `options.balance` names.

    Raises:
        ConfigError: `torchjd` has no such aggregator, or is not installed.
    """
    names = [task.name for task in tasks]
    weighing: Weighing = FixedWeights({task.name: task.weight for task in tasks})
    combining: Combining | None = None
    match options.balance:
        case "uncertainty":
            weighing = UncertaintyWeights(names)
        case "dwa":
            weighing = DynamicWeightAverage(names, options.dwa_temperature)
        case "gradnorm":
            weighing = GradNorm(names, options.gradnorm_alpha, options.gradnorm_rate)
        case "pcgrad":
            combining = projected
        case name if name.startswith("torchjd:"):
            combining = TorchJdAggregator(name.removeprefix("torchjd:"), len(names))
    return Balance(weighing, combining, options.max_norm_bound)
