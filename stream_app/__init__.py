"""Millrace: streaming real-time scoring for e-commerce. One event, one pass, three answers."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
