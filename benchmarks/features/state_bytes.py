"""How many bytes state takes: of each kind of entity, and of all that belongs to one user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from stream_app.features.catalog import CATALOGUE
from stream_app.store.memory import MemoryStore

_USER_BYTES = 16  # every key of what belongs to one user begins with the user's


def sizes(store: MemoryStore) -> dict[str, dict[str, int]]:
    """Return bytes of the blobs by kind."""
    of_kind: dict[str, list[int]] = {}
    for (_, kind, _), blob in store.state().items():
        of_kind.setdefault(kind, []).append(len(blob))
    return {
        kind: {"count": len(sizes), "p50": _percentile(sizes, 50), "p99": _percentile(sizes, 99), "max": max(sizes)}
        for kind, sizes in sorted(of_kind.items())
    }


def user_bytes(store: MemoryStore) -> dict[str, int]:
    """Return percentiles of a user's blob, and of it with the blobs of the user's sessions and categories (`person_`)."""
    blobs: list[int] = []
    persons: Counter[bytes] = Counter()
    own = {kind.name for kind in CATALOGUE.kinds if not kind.shared}
    for (_, kind, key), blob in store.state().items():
        if kind == "user":
            blobs.append(len(blob))
        if kind in own:
            persons[key[:_USER_BYTES]] += len(blob)
    return {
        f"{name}_p{percent}": _percentile(sizes, percent)
        for name, sizes in (("bytes", blobs), ("person_bytes", list(persons.values())))
        for percent in (50, 99)
    }


def _percentile(sizes: Sequence[int], percent: int) -> int:
    return int(np.percentile(np.array(sizes), percent, method="higher"))
