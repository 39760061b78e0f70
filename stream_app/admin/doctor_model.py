"""Checks of this process: versions, the model artefact, and the cache of compiled code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from stream_app.admin.doctor import Check

# The chunked consumer overrides private methods of the first two; the third carries the embedded broker's C library.
PINNED: Final = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "confluent-kafka": "2.16.1"}
_PYTHONS: Final = ((3, 11), (3, 15))


def check_versions() -> Iterator[Check]:
    """Check that Python and the pinned packages have the versions that the worker is tested with."""
    low, high = _PYTHONS
    now = sys.version_info[:2]
    text = f"Python {sys.version.split()[0]}"
    if low <= now < high:
        yield Check("python", "OK", text)
    else:
        yield Check("python", "FAIL", text, f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1] - 1}")
    wrong = []
    for name, pinned in PINNED.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "not installed"
        if installed != pinned:
            wrong.append(f"{name} is {installed}, must be {pinned}")
    if wrong:
        yield Check("packages", "FAIL", "; ".join(wrong), "install with requirements/default.txt")
    else:
        yield Check("packages", "OK", ", ".join(f"{name} {pinned}" for name, pinned in PINNED.items()))


def check_model(path: Path, allowed_lateness_ms: int, engine: str = "auto", precision: str = "") -> Iterator[Check]:
    """Check that the artefact is complete, reproduces its recorded answers on this engine, and fits the worker's features.

    Raises:
        ContractError: It does not; the message has the fix.
    """
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.engine import FeatureEngine
    from stream_app.inference.artifact import check_catalogue, load_items
    from stream_app.inference.engines.selection import open_scorer

    scorer = open_scorer(path, engine, precision=precision)
    try:
        ids, _ = load_items(path, scorer.manifest)
    finally:
        scorer.close()
    yield Check("model", "OK", f"{scorer.version} at {path}, {len(ids)} items, answers as recorded")
    features = FeatureEngine(CATALOGUE, allowed_lateness_ms=allowed_lateness_ms)
    check_catalogue(scorer.manifest, features.catalogue_hash, features.feature_names)
    yield Check("features", "OK", f"catalogue {features.catalogue_hash}, {len(features.feature_names)} features, as the model's")


def check_cache() -> Iterator[Check]:
    """Check that the compiled loops are in numba's cache beside their source."""
    import stream_app.features

    folder = Path(stream_app.features.__path__[0])
    cached = any((folder / "__pycache__").glob("fold.*.nbi"))
    if cached:
        yield Check("compiled code", "OK", "in the cache")
    else:
        yield Check("compiled code", "WARN", "not in the cache: the first start takes seconds longer", "run `millrace warm`")
