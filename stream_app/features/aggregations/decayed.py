"""decayed: a sum in which a tile weighs half as much for each half-life it is old. Weights are integers, so sums stay exact."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec
from stream_app.features.declarations import Feature
from stream_app.features.jit import Int, Real, inlined
from stream_app.features.state.state_schema import Need

__all__ = ["DECAYED", "SPECS", "read_decayed", "weights"]

DECAYED: Final = 9
_ONE: Final = 4096


def _needs(f: Feature) -> tuple[Need, ...]:
    return (Need(f.window, "sum", f.measure),)


def _hours(ms: int) -> str:
    return f"{ms / 3_600_000:g} h"


SPECS: Final = {
    "decayed": Spec(DECAYED, _needs, lambda f: f"sum {f.measure} over {f.window}, halved every {_hours(f.half_life_ms)}")
}


def weights(half_life_ms: int, tile_ms: int, tiles: int) -> list[int]:
    """Return the weight of a tile that is 0, 1, ... `tiles` tiles old."""
    return [round(_ONE * 2.0 ** (-age * tile_ms / half_life_ms)) for age in range(tiles + 1)]


@inlined
def read_decayed(weighted: Int, scale: Real) -> Real:
    """Return the weighted sum in the measure's unit."""
    return weighted * scale / _ONE
