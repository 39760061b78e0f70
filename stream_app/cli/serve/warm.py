"""`millrace warm`: compiles the features and loads the model, so that the next start is fast."""

from __future__ import annotations

import click

from stream_app.cli.settings import cli_settings


@click.command("warm")
def warm() -> None:
    """Compile the feature engine into its cache and load the model once.

    \b
    Example:
      millrace warm && millrace worker
    """
    from stream_app.clock import SystemClock
    from stream_app.features.catalog import CATALOGUE
    from stream_app.features.engine import FeatureEngine
    from stream_app.inference.engines.selection import open_scorer
    from stream_app.inference.registry.registry_factory import model_folder

    settings = cli_settings(announce=False)
    engine = FeatureEngine(CATALOGUE, allowed_lateness_ms=settings.features.allowed_lateness_ms)
    engine.warm()
    click.echo(f"features: {len(engine.feature_names)} compiled, catalogue {engine.catalogue_hash}")
    if settings.model.engine == "none":
        return
    model = settings.model
    folder = model_folder(model.path, model.registry, SystemClock(), settings.worker.folder)
    scorer = open_scorer(folder, model.engine, precision=model.precision)
    click.echo(f"model: {scorer.version} loads and answers as recorded")
    scorer.close()
