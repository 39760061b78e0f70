"""The shipped catalogue: every feature of the vector, in the order of the tensor.

This package is the single source of names, order, windows, state layout, tensors and docs/features.md. A feature is declared
once: in `user.py` (of the user, its sessions and its categories), in `shared.py` (of shared entities) or in `own.py` (of the
event itself); entity kinds, windows and measures stand in `windows.py`. Changing any of them changes the catalogue's hash, so the
model must be trained again. Definitions: stream_app/features/declarations.py. Sources: `sources.py`.
"""

from __future__ import annotations

from typing import Final

from stream_app.features.catalog.own import OWN_FEATURES
from stream_app.features.catalog.shared import SHARED_FEATURES
from stream_app.features.catalog.sources import SOURCES
from stream_app.features.catalog.user import SESSION_FEATURES, USER_CATEGORY_FEATURES, USER_FEATURES
from stream_app.features.catalog.windows import KINDS, MEASURES, WINDOWS
from stream_app.features.declarations import Catalogue

__all__ = ["CATALOGUE", "SOURCES"]

CATALOGUE: Final = Catalogue(
    kinds=KINDS,
    windows=WINDOWS,
    measures=MEASURES,
    features=(*USER_FEATURES, *SESSION_FEATURES, *SHARED_FEATURES, *USER_CATEGORY_FEATURES, *OWN_FEATURES),
)
