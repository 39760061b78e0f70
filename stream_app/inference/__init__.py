"""Models at work: load an artefact, score a batch, find candidates. No torch."""

from __future__ import annotations

import os

# ONNX Runtime's wheel keeps a telemetry queue below the home folder, and MLflow sends what is done with it to its makers, unless
# this stands in the environment before they are loaded. Millrace sends nothing to anybody and writes nothing outside its folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - a library's switch, not a setting of ours
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # noqa: TID251 - likewise
