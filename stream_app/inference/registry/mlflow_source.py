"""Fetch an artefact from MLflow, for `millrace models add mlflow:...`. MLflow is a source of artefacts, not a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from model.contract import MANIFEST_FILE
from stream_app.errors import ConfigError, InputFileError
from stream_app.reporting.validation_errors import masked

MLFLOW_PREFIX: Final = "mlflow:"


def fetch_mlflow_artefact(source: str, folder: Path) -> Path:
    """Download one version of a registered model of MLflow 3.

    Args:
        source: `mlflow:<tracking URI>#<model name>@<alias>`, or `/<version number>` in place of the alias; the tracking URI is a
            server's address or `sqlite:///...`.
        folder: An existing folder to download into.

    Returns:
        The downloaded folder that holds the artefact's manifest.

    Raises:
        ConfigError: `source` is not of that form, or MLflow is not installed.
        InputFileError: MLflow has no such version, cannot be reached, or the version holds no manifest.
    """
    shown = masked(source)
    uri, _, model = source.removeprefix(MLFLOW_PREFIX).rpartition("#")
    name, separator, version = model.rpartition("@" if "@" in model else "/")
    if not (uri and name and separator and version):
        raise ConfigError(f"{shown!r} names no model; write mlflow:<tracking URI>#<model name>@<alias>, or /<version>")
    try:
        from mlflow import MlflowClient
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ConfigError(f"{shown}: {error}; install `millrace[mlflow]`") from error
    client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        by_alias = separator == "@"
        entry = client.get_model_version_by_alias(name, version) if by_alias else client.get_model_version(name, version)
        fetched = Path(download_artifacts(artifact_uri=entry.source, dst_path=str(folder), tracking_uri=uri))
    except MlflowException as error:
        raise InputFileError(f"{shown}: {masked(str(error))}") from error
    manifests = sorted(fetched.rglob(MANIFEST_FILE))
    if len(manifests) != 1:
        raise InputFileError(f"{shown}: {len(manifests)} files {MANIFEST_FILE} in {entry.source}, one is needed")
    return manifests[0].parent
