"""own: what the event itself says, whatever the past."""

from __future__ import annotations

from typing import Final

from stream_app.features.aggregations.spec import Spec

__all__ = ["OWN", "SPECS"]

OWN: Final = 25

SPECS: Final = {"own": Spec(OWN, lambda _: (), lambda f: f"own {f.measure}")}
