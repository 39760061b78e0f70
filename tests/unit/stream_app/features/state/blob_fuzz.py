"""Decodes damaged blobs for test_blob.py, with numba's bounds checks compiled in; the last line is the outcome as JSON.

The blobs come in a file (kind -> list of hex), so that of all the engine only the decoder has to be compiled again.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.features.jit import compiled
from tests.unit.stream_app.features.cases import ALL_ORDERS_MS, engine_of
from tests.unit.stream_app.features.catalogue_for_tests import EVERYTHING

ROUNDS = 500


@compiled
def beyond(data: NDArray[np.int64], at: int) -> bool:
    """Whether what lies behind an array is 0."""
    return bool(data[at] == 0)


def bounds_are_checked() -> bool:
    """Whether reading behind an array is noticed."""
    try:
        beyond(np.zeros(1, np.int64), 1)
    except IndexError:
        return True
    return False


def damages(blob: bytes, seeded: random.Random) -> Iterator[bytes]:
    """One blob cut, with bytes changed, and with its body made up or filled with what varints are made of."""
    at = seeded.randrange(4, len(blob))
    yield blob[:at]
    yield blob[:at] + bytes([seeded.randrange(256)]) + blob[at + 1 :]
    yield blob[:at] + seeded.randbytes(seeded.randrange(1, 40))
    yield blob[:8] + bytes(seeded.choice((0, 1, 2, 127, 128, 255)) for _ in range(seeded.randrange(1, 120)))
    yield blob[:at] + blob[seeded.randrange(4, len(blob)) :]


def main() -> int:
    """Decode; print; 0."""
    seeded, counts = random.Random(1), {"refused": 0, "same": 0, "accepted_wrongly": 0}
    engine = engine_of(EVERYTHING, ALL_ORDERS_MS)
    whole = {kind: [bytes.fromhex(blob) for blob in of] for kind, of in json.loads(Path(sys.argv[1]).read_text()).items()}
    for _ in range(ROUNDS):
        kind = seeded.choice(sorted(whole))
        blob = seeded.choice(whole[kind])
        for damaged in damages(blob, seeded):
            try:
                rows = engine.unpack(kind, [blob, damaged])
            except ContractError:
                counts["refused"] += 1
            else:
                again = engine.pack(kind, rows)[1]
                counts["same" if again == damaged else "accepted_wrongly"] += 1
    sys.stdout.write(json.dumps({**counts, "bounds_checked": bounds_are_checked()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
