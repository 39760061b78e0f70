"""docs/life-of-a-feature.md: its files and functions exist, and one run enters them in the page's order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "life-of-a-feature.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^(\d+)\. `([^`]+)` - `([^`]+)`: ", PAGE, flags=re.MULTILINE)
PROGRAM = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]

# Runs the page's program without the compiler, and prints the functions that were entered, in order of their first call.
TRACER = """
import json, sys, warnings

warnings.simplefilter("ignore", RuntimeWarning)  # integers wrap around in hashes, as they do compiled
program, root = sys.argv[1:]
entered = {}

def note(frame, event, _):
    if event == "call" and frame.f_code.co_filename.startswith(root):
        entered.setdefault((frame.f_code.co_filename[len(root) + 1 :], frame.f_code.co_qualname))

sys.setprofile(note)
exec(program, {})
sys.setprofile(None)
print(json.dumps(list(entered)))
"""


def test_the_way_is_at_most_eight_files() -> None:
    assert [number for number, _, _ in STEPS] == [str(n + 1) for n in range(len(STEPS))]
    assert len({file for _, file, _ in STEPS}) == len(STEPS) <= 8


def test_one_run_enters_the_functions_in_the_order_of_the_page() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRACER, PROGRAM, str(ROOT)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    printed, entered = done.stdout.splitlines()
    assert f"It prints `{printed}`" in PAGE
    order = [tuple(call) for call in json.loads(entered)]
    # A constant is entered with its module.
    places = [order.index((file, "<module>" if name.isupper() else name)) for _, file, name in STEPS]
    assert places == sorted(places)
