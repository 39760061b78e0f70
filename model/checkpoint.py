"""Checkpoints: a network's weights with its shape, inputs and tasks. The worker never reads a checkpoint.

A checkpoint is a dictionary of builtin values and tensors, read with `weights_only=True`, so that a foreign file cannot run code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from model.encoders.text import TextEncoder
from model.inputs import inputs_from_json, json_from_inputs
from model.network import MultiTaskNetwork
from model.presets import NetworkShape
from model.tasks import tasks_from_json


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with its metadata.

    Attributes:
        network: in evaluation mode after `load_checkpoint`. It knows its shape, inputs and tasks.
        preset: name of the preset its shape came from.
        feature_names: names of the F dense features, in the order of the tensor; empty without dense features.
        catalogue_hash: hash of the feature catalogue of its training; "" without a catalogue.
        temperatures: by task, see `model.probabilities`; part of the served graph.
    """

    network: MultiTaskNetwork
    preset: str
    feature_names: list[str] = field(default_factory=list)
    catalogue_hash: str = ""
    temperatures: dict[str, float] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint to `path`, replacing an old file."""
    network = checkpoint.network
    encoder = network.parts[0].encoder
    torch.save(
        {
            "shape": asdict(network.shape),
            "inputs": json_from_inputs(network.inputs),
            "tasks": [asdict(task) for task in network.tasks],
            "text_config": encoder.config() if isinstance(encoder, TextEncoder) else "",
            "state": network.state_dict(),
            "preset": checkpoint.preset,
            "feature_names": checkpoint.feature_names,
            "catalogue_hash": checkpoint.catalogue_hash,
            "temperatures": checkpoint.temperatures,
        },
        path,
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; the network is in evaluation mode, on the CPU. A text model's own folder is not needed."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    network = MultiTaskNetwork(
        NetworkShape(**saved["shape"]),
        inputs_from_json(saved["inputs"]),
        tasks_from_json(saved["tasks"]),
        saved["text_config"],
    )
    network.load_state_dict(saved["state"])
    network.eval()
    return Checkpoint(
        network=network,
        preset=saved["preset"],
        feature_names=saved["feature_names"],
        catalogue_hash=saved["catalogue_hash"],
        temperatures=saved["temperatures"],
    )
