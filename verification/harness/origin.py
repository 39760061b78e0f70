"""The folder of the checkout, and the provenance of a figure."""

from __future__ import annotations

from pathlib import Path

from stream_app.reporting.provenance import origin

__all__ = ["ROOT", "origin"]

ROOT = Path(__file__).resolve().parents[2]  # the checkout: services, logs and the model are found from here
