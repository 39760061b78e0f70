"""Checkpoints: a network's weights with all that is needed to build it again. Torch only; the worker never reads one.

A checkpoint is a dictionary of plain values and tensors, read with `weights_only=True`, so that opening a file from
somebody else runs no code of theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model.network import MultiTaskNetwork
from model.presets import NetworkShape

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what belongs to it.

    Attributes:
        network: in evaluation mode after `load_checkpoint`.
        preset: name of the preset its shape came from.
        feature_names: names of the F dense features, in the order of the tensor.
        catalogue_hash: hash of the feature catalogue it was trained with.
        fraud_shift: see `model.network.ServingNetwork`.
    """

    network: MultiTaskNetwork
    preset: str
    feature_names: list[str]
    catalogue_hash: str
    fraud_shift: float


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write it to `path`, replacing what is there."""
    network = checkpoint.network
    torch.save(
        {
            "shape": asdict(network.shape),
            "state": network.state_dict(),
            "preset": checkpoint.preset,
            "feature_names": checkpoint.feature_names,
            "catalogue_hash": checkpoint.catalogue_hash,
            "fraud_shift": checkpoint.fraud_shift,
        },
        path,
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read it from `path`; the network is in evaluation mode, on the CPU."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    network = MultiTaskNetwork(NetworkShape(**saved["shape"]), len(saved["feature_names"]))
    network.load_state_dict(saved["state"])
    network.eval()
    return Checkpoint(
        network=network,
        preset=saved["preset"],
        feature_names=saved["feature_names"],
        catalogue_hash=saved["catalogue_hash"],
        fraud_shift=saved["fraud_shift"],
    )
