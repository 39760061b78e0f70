"""`millrace warm`: pays the first start's price now (compiling, loading the model once)."""

from __future__ import annotations

from pathlib import Path

import click

from stream_app.cli.settings import cli_settings

__all__ = ["warm"]


@click.command("warm")
def warm() -> None:
    """Compile the feature engine into its cache and load the model once.

    \b
    Example:
      millrace warm && millrace worker
    """
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.engine import FeatureEngine
    from stream_app.inference.onnx_scorer import OnnxScorer

    settings = cli_settings(announce=False)
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=settings.features.allowed_lateness_ms)
    engine.warm()
    click.echo(f"features: {len(engine.feature_names)} compiled, catalogue {engine.catalogue_hash}")
    scorer = OnnxScorer(Path(settings.model.path))
    click.echo(f"model: {scorer.version} loads")
    scorer.close()
