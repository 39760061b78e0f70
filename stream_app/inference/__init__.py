"""Score with a model: load an artefact, run it on an engine, find candidate items, swap models. No torch.

A batch passes `degrade.DegradingRanker` -> `registry.swap.SwappableRanker` -> `ranker.ModelRanker` -> an engine's scorer.
"""

from __future__ import annotations

import os

# ONNX Runtime writes a telemetry queue below the home folder, and MLflow sends usage data to its makers, unless these variables
# are set before they are loaded. Millrace sends no telemetry and writes nothing outside its folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - a switch of the library, not our setting
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # noqa: TID251 - likewise
