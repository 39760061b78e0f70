"""Choose the users that a challenger answers: a percentage, by a keyed hash, so that a user stays with one model.

A user's digest is keyed by the deployment's secret (`stream_app.privacy`). The challenger's version is mixed in, so another
challenger gets other users and no user is part of every experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WORDS: Final = 2  # of 8 bytes in a digest
# The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of the digest moves every bit of the draw.
_STEPS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT: Final = 31
_WHOLE: Final = 100.0  # percent
_MOST: Final = 2**64 - 1


def share_of_users(users: Sequence[bytes], version: str, percent: float) -> NDArray[np.bool_]:
    """Decide for each of B users whether the challenger answers them.

    Args:
        users: B digests of 16 bytes.
        version: The challenger's version.
        percent: Share of all users, in [0, 100].

    Returns:
        (B,) bool; equal for the same user, version and percentage. A smaller percentage selects a subset of these users.
    """
    salt = np.frombuffer(blake2b(version.encode(), digest_size=8).digest(), "<u8")
    draw = np.frombuffer(b"".join(users), "<u8").reshape(-1, _WORDS)[:, 0] ^ salt
    for shift, factor in _STEPS:
        draw = (draw ^ (draw >> np.uint64(shift))) * np.uint64(factor)
    draw ^= draw >> np.uint64(_LAST_SHIFT)
    drawn: NDArray[np.bool_] = draw < np.uint64(min(int(percent / _WHOLE * 2**64), _MOST))
    return drawn
