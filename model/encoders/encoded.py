"""What every encoder answers, whatever its input: the seam between encoders and the rest of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Encoded", "Sizes"]


class Encoded(NamedTuple):
    """An encoder's answer for B rows; None where its inputs have no such thing."""

    trunk: Tensor  # (B, H) float32: all there is to know, what tasks share
    wide: Tensor | None = None  # (B, W) float32: what one linear layer of a task reads as well
    seen: Tensor | None = None  # (B, Z) float32: what was seen, for retrieval
    scene: Tensor | None = None  # (B, S) float32: embedding of the scene (and platform), for the scene gate
    scene_code: Tensor | None = None  # (B,) int, 0..scenes-1: for sharing that has weights of each scene


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths of an encoder's answer; 0 where it has none.

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
