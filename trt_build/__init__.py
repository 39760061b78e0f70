"""From a checkpoint to the model files of a worker, each step verified against its source."""

from __future__ import annotations

import os

# ONNX Runtime's wheel keeps a telemetry queue below the home folder unless this variable is set before its import.
# Millrace sends no telemetry and writes nothing outside its folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # noqa: TID251 - a library's switch, not a setting of ours
