"""What a worker calls of TensorRT is there in its real bindings, releases 10 and 11, and its logger derives from the real one."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from stream_app.inference.engines import tensorrt_engine, tensorrt_scorer
from tests.tensorrt_libraries import Library
from tests.tensorrt_surface import in_process

pytestmark = pytest.mark.timeout(1_800)  # the first run of a checkout fetches 540 MB

RELEASES = ("10.15", "11.4")
CHECKOUT = Path(__file__).resolve().parents[3]

_LOGGER = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r})
from model.tensorrt.library import collect_messages
from stream_app.inference.engines.tensorrt_engine import load_tensorrt
trt, errors = load_tensorrt(), []
logger = collect_messages(trt, errors.append).logger
assert isinstance(logger, trt.ILogger)
logger.log(trt.ILogger.Severity.ERROR, "what went wrong")
logger.log(trt.ILogger.Severity.WARNING, "no news")
print(errors)
"""
_NO_GPU = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r})
from stream_app.errors import EngineNotHereError
from stream_app.inference.engines.selection import open_scorer
try:
    open_scorer({str(CHECKOUT / "model" / "artifacts" / "demo")!r}, "tensorrt")
except EngineNotHereError as error:
    print("refused:", error)
print(open_scorer({str(CHECKOUT / "model" / "artifacts" / "demo")!r}, "auto").version)
"""


@pytest.mark.parametrize("release", RELEASES)
def test_the_logger_is_one_that_the_real_tensorrt_takes(release: str, tensorrt_libraries: dict[str, Library]) -> None:
    done = in_process(tensorrt_libraries[release], _LOGGER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['what went wrong']"


def test_with_the_real_library_but_without_a_gpu_or_a_plan_auto_goes_on_and_the_process_lives(
    tensorrt_libraries: dict[str, Library],
) -> None:
    # Without a driver the library ends a process that uses it (seen with 10.15): so nothing of it may be touched first.
    done = in_process(tensorrt_libraries["10.15"], _NO_GPU)
    assert done.returncode == 0, done.stderr
    refused, version = done.stdout.strip().splitlines()
    assert refused.startswith("refused: ")
    assert "Operator action" in refused
    assert version.startswith("demo-")


def test_tensorrt_is_touched_by_nothing_but_what_mypy_holds_to_the_protocols() -> None:
    for module in (tensorrt_engine, tensorrt_scorer):
        tree = ast.parse(inspect.getsource(module))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in imported if name.startswith("tensorrt")}
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert "getattr" not in called
