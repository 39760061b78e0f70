"""decayed: a sum in which a tile's weight halves with each half-life of its age. Weights are integers, so sums stay exact."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import AggregationCode, Spec
from stream_app.features.aggregations.windows.sum import needs
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined

_ONE: Final = 4096


def _formula(f: Feature) -> str:
    return f"sum {f.measure} over {f.window}, halved every {f.half_life_ms / 3_600_000:g} h"


DECAYED: Final = Spec(AggregationCode.DECAYED, needs, _formula)


def weights(half_life_ms: int, tile_ms: int, tiles: int) -> list[int]:
    """Return the weight of a tile that is 0, 1, ... `tiles` tiles old.

    >>> weights(half_life_ms=2, tile_ms=1, tiles=4)
    [4096, 2896, 2048, 1448, 1024]
    """
    return [round(_ONE * 2.0 ** (-age * tile_ms / half_life_ms)) for age in range(tiles + 1)]


@inlined
def read_decayed(weighted: Int, scale: Real) -> Real:
    """Return the weighted sum in the measure's unit."""
    return weighted * scale / _ONE
