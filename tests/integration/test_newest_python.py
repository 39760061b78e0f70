"""`make demo`, as the README has it, with the newest supported Python of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

CHECKOUT = Path(__file__).resolve().parents[2]
SUPPORTED = [(3, minor) for minor in range(14, 10, -1)]
COPIED = (
    "Makefile",
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "requirements",
    "stream_app",
    "model",
    "devservices",
    "training",
    "trt_build",
)


def newest_python() -> str:
    """The newest one on PATH or of pyenv, or the one that runs this test."""
    for major, minor in SUPPORTED:
        name = f"python{major}.{minor}"
        of_pyenv = map(str, Path("~/.pyenv/versions").expanduser().glob(f"{major}.{minor}.*/bin/{name}"))
        for program in filter(None, (shutil.which(name), *of_pyenv)):
            if subprocess.run([program, "-c", "import venv, ssl"], capture_output=True, check=False).returncode == 0:
                return program
    return sys.executable


def test_the_demo_answers_on_the_newest_python_of_this_machine(tmp_path: Path) -> None:
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    command = ["make", "--no-print-directory", "demo", "SECONDS=8", f"PYTHON={newest_python()}"]
    environ = {**os.environ, "PIP_NO_COMPILE": "1"}  # half a minute less
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    answered = figures["answers"]["intent-labels"]
    assert answered > 0
    assert answered + figures["dead_letters"] + figures["late_events"] == figures["events"]


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_another_python_is_refused_before_anything_is_installed(tmp_path: Path, version: tuple[int, int]) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    python = tmp_path / "python"
    python.write_text(f'#!{sys.executable}\nimport sys\nsys.version_info = (*{version}, 0, "final", 0)\nexec(sys.argv[2])\n')
    python.chmod(0o755)
    done = subprocess.run(["make", "demo", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"Millrace needs Python 3.11 to 3.14, this is 3.{version[1]}; name another one" in done.stderr
    assert not (tmp_path / ".venv").exists()
