"""Nothing of ours writes outside the folder it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HAS_TORCH

_CHECKOUT = Path(__file__).resolve().parents[2]
_LOAD = "from stream_app.inference.engines.selection import open_scorer; open_scorer('model/artifacts/demo')"


@pytest.mark.parametrize("code", [_LOAD, *(["import trt_build.parity.verify"] if HAS_TORCH else [])])
def test_loading_a_model_leaves_no_telemetry_below_the_home_folder(code: str, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=_CHECKOUT,
        env={**environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
