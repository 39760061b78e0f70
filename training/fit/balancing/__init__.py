"""Combine the losses or gradients of several tasks into one step, by a method chosen by name.

    fixed         the sum of the losses, each times its task's weight
    uncertainty   each loss over its own learned variance: Kendall et al., CVPR 2018
    dwa           dynamic weight average, by how fast each loss fell: Liu et al., CVPR 2019
    gradnorm      weights that even out the norms of the gradients: Chen et al., ICML 2018
    pcgrad        conflicting gradients are projected: Yu et al., NeurIPS 2020
    torchjd:<n>   the aggregators of `torchjd`: upgrad, mgda, cagrad, nashmtl, ... (`torchjd_names()`)

The first four weight losses; the others combine the gradients of losses with fixed weights. All allow a bound on each task's
gradient (`max_norm_bound`).
"""

from __future__ import annotations

from collections.abc import Sequence

from model.tasks import Task
from training.config import TrainingOptions
from training.fit.balancing.balance import Balance, GradientCombiner
from training.fit.balancing.gradients import project_conflicts
from training.fit.balancing.loss_weighting import DynamicWeightAverage, FixedWeights, GradNorm, LossWeighting, UncertaintyWeights
from training.fit.balancing.torchjd_aggregator import TorchJdAggregator, torchjd_names

__all__ = ["Balance", "balance_from", "torchjd_names"]


def balance_from(options: TrainingOptions, tasks: Sequence[Task]) -> Balance:
    """Return the balance that `options.balance` names.

    Raises:
        ConfigError: `torchjd` has no such aggregator, or is not installed.
    """
    names = [task.name for task in tasks]
    weighting: LossWeighting = FixedWeights({task.name: task.weight for task in tasks})
    combiner: GradientCombiner | None = None
    match options.balance:
        case "uncertainty":
            weighting = UncertaintyWeights(names)
        case "dwa":
            weighting = DynamicWeightAverage(names, options.dwa_temperature)
        case "gradnorm":
            weighting = GradNorm(names, options.gradnorm_alpha, options.gradnorm_rate)
        case "pcgrad":
            combiner = project_conflicts
        case name if name.startswith("torchjd:"):
            combiner = TorchJdAggregator(name.removeprefix("torchjd:"), len(names))
    return Balance(weighting, combiner, options.max_norm_bound)
