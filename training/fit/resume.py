"""Atomic training state on disk, from which a killed training resumes with the same result.

The state holds no random generator: the random numbers of a step follow from the seed, the step and the process (`seed_step`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from model.atomic_file import atomic_write
from stream_app.errors import ContractError

STATE_FILE: Final = "state.pt"
WEIGHTS: Final = (1 << 32) - 1  # in place of a step: initial weights
ALL_RANKS: Final = (1 << 32) - 1  # in place of a process: the same random numbers in all
_MAX_DIFFERENCES: Final = 5  # differences in a message


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step (or `WEIGHTS`) of one process (or `ALL_RANKS`)."""
    seeds = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(seeds[0]))


def save_state(state: Mapping[str, Any], folder: Path) -> None:
    """Replace the state on disk atomically: after a crash either the old or the new one is there."""
    with atomic_write(folder / STATE_FILE) as file:
        torch.save(dict(state), file)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the state on disk, on the CPU; None if there is none."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def check_same(stored: Mapping[str, Any], current: Mapping[str, Any], folder: Path) -> None:
    """Refuse to resume with another configuration or other data.

    Raises:
        ContractError: They differ; the message names the keys with both values.
    """
    before, after = _leaves(stored), _leaves(current)
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if changed:
        dots = "; ..." if len(changed) > _MAX_DIFFERENCES else ""
        differences = "; ".join(f"{key} was {before.get(key)!r}, is {after.get(key)!r}" for key in changed[:_MAX_DIFFERENCES])
        raise ContractError(
            f"the training in {folder} began with other settings or data: {differences}{dots}. Operator action: "
            "resume with the same data and configuration, or begin again in another folder."
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return leaves
