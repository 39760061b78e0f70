"""An ensemble of networks: the mean of their logits, which reduces the variance of the seed.

Source: Hansen and Salamon, "Neural Network Ensembles", PAMI 1990; the mean of logits is the logarithmic opinion pool (Hinton,
"Training Products of Experts by Minimizing Contrastive Divergence", 2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from model.network import MultiTaskNetwork


class Ensemble(nn.Module):
    """M networks of the same tasks and inputs, with the interface of one.

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


def combine_networks(networks: Sequence[MultiTaskNetwork]) -> MultiTaskNetwork:
    """Return the only network, or an ensemble of several."""
    # Evaluation uses only tasks, parameters and the call, which an ensemble has too.
    return cast("MultiTaskNetwork", Ensemble(networks)) if len(networks) > 1 else networks[0]
