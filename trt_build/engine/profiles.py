"""Optimisation profiles: the batch sizes of a plan, and the sizes that it is tuned for.

TensorRT chooses kernels for a profile's `opt` and supports every batch from `min` to `max`. A single profile would be tuned for
one size and use the memory of the largest; so a worker's small batches and its backlog get a profile each. Profiles leave no
hole: a batch outside all of them could not be scored.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from model.plan import PlanProfile
from trt_build.errors import BuildError

# Batches of a worker: single events and small batches at low rates, 256 under load, 4,096 when it catches up or backtests.
DEFAULT_PROFILES: Final = (PlanProfile(1, 16, 64), PlanProfile(65, 256, 512), PlanProfile(513, 4_096, 8_192))


def profiles_from_text(text: str) -> tuple[PlanProfile, ...]:
    """Read `min:opt:max[,min:opt:max ...]`, as `1:16:64,65:256:512`.

    Raises:
        BuildError: The text has another form, or the profiles leave a hole or do not begin at 1.
    """
    profiles: list[PlanProfile] = []
    for part in text.split(","):
        numbers = part.strip().split(":")
        if len(numbers) != 3 or not all(n.isdigit() for n in numbers):
            raise BuildError(f"profile {part!r}: give min:opt:max, as 1:16:64, with commas between profiles")
        profiles.append(PlanProfile(*map(int, numbers)))
    if profiles[0].min != 1:
        first = profiles[0].min
        raise BuildError(f"the first profile begins at {first}; it must begin at 1, since a worker may hold a single event")
    for profile in profiles:
        if not profile.min <= profile.opt <= profile.max:
            raise BuildError(f"profile {profile.min}:{profile.opt}:{profile.max} is not in order; give min <= opt <= max")
    for lower, upper in pairwise(profiles):
        if upper.min > lower.max + 1 or upper.max <= lower.max:
            raise BuildError(
                f"profiles {lower.min}:{lower.opt}:{lower.max} and {upper.min}:{upper.opt}:{upper.max} do not follow each other: "
                f"begin the second at {lower.max + 1} or below and end it above {lower.max}"
            )
    return tuple(profiles)
