"""The state of a training on disk, whole or not at all, so that a killed process can be gone on with as if nothing happened.

No generator's state is in it: what is drawn in a step follows from the seed, the step and the process (`seed_step`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from stream_app.errors import ContractError

__all__ = ["ALL_RANKS", "STATE_FILE", "WEIGHTS", "check_same", "load_state", "save_state", "seed_step"]

STATE_FILE: Final = "state.pt"
WEIGHTS: Final = (1 << 32) - 1  # stands for a step: initial weights
ALL_RANKS: Final = (1 << 32) - 1  # stands for a process: what is drawn is the same in all
_SHOWN: Final = 5  # differences in a message


def seed_step(seed: int, step: int, rank: int) -> None:
    """Begin torch's generators anew for one step (or `WEIGHTS`) of one process (or `ALL_RANKS`)."""
    drawn = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(drawn[0]))


def save_state(state: Mapping[str, Any], folder: Path) -> None:
    """Write the state, replacing the one before it; a crash at any moment leaves one of the two."""
    fresh, path = folder / f".{STATE_FILE}.new", folder / STATE_FILE
    with fresh.open("wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return the last state that was written, on the CPU; None if there is none."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with another configuration or other data than the training began with.

    Raises:
        ContractError: They differ; the message names what, with both values.
    """
    before, after = _leaves(begun), _leaves(now)
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if changed:
        shown = "; ".join(f"{key} was {before.get(key)!r}, is {after.get(key)!r}" for key in changed[:_SHOWN])
        raise ContractError(
            f"the training in {folder} was begun otherwise: {shown}{'; ...' if len(changed) > _SHOWN else ''}. Operator action: "
            "resume with the same data and configuration, or begin again in another folder."
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
