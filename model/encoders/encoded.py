"""The result of every encoder: the interface between encoders and the rest of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """An encoder's result for B rows; None for parts that its inputs do not have."""

    trunk: Tensor  # (B, H) float32: shared by the tasks
    wide: Tensor | None = None  # (B, W) float32: read by a task's linear layer too
    seen: Tensor | None = None  # (B, Z) float32: seen items, for retrieval
    scene: Tensor | None = None  # (B, S) float32: embedding of the scene (and platform), for the scene gate
    scene_code: Tensor | None = None  # (B,) int, 0..scenes-1: for sharing with weights for each scene


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths of an encoder's result; 0 for a part that it does not have.

    Attributes:
        trunk: H.
        wide: W.
        wide_kinds: kinds of tasks that read `wide`.
        seen: Z.
        scene: S.
        scenes: number of scenes.
    """

    trunk: int
    wide: int = 0
    wide_kinds: tuple[str, ...] = ()
    seen: int = 0
    scene: int = 0
    scenes: int = 0
