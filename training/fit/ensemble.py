"""Several networks as one: the mean of their logits, which evens out what each owes to its seed.

Source: Hansen and Salamon, "Neural Network Ensembles", PAMI 1990; the mean of logits is the logarithmic opinion pool (Hinton,
"Training Products of Experts by Minimizing Contrastive Divergence", 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from model.network import MultiTaskNetwork

__all__ = ["Ensemble", "together"]


class Ensemble(nn.Module):
    """M networks of the same tasks and inputs; it is asked and judged as one of them.

    Retrieval is left out: vectors of two networks live in two spaces, and their mean means nothing.
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
        """Answer logits by task's name, each as `MultiTaskNetwork` does."""
        answers = [network(inputs) for network in self.networks]
        return {name: torch.stack([answer[name] for answer in answers]).mean(dim=0) for name in answers[0]}


def together(networks: Sequence[MultiTaskNetwork]) -> MultiTaskNetwork:
    """Return the only network, or several as one."""
    # What judges asks for no more of a network than an ensemble has: tasks, parameters, an answer.
    return cast("MultiTaskNetwork", Ensemble(networks)) if len(networks) > 1 else networks[0]
