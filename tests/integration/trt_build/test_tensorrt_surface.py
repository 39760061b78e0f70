"""What we use of TensorRT is there in its real bindings: every class, method, parameter and flag, in releases 10 and 11."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import model.tensorrt.protocols
from tests.tensorrt_libraries import Library
from tests.tensorrt_surface import described, differences, in_process
from trt_build.engine.runtime import require_gpu
from trt_build.errors import NoDeviceError

pytestmark = pytest.mark.timeout(1_800)  # the first run of a checkout fetches 540 MB

CHECKOUT = Path(__file__).resolve().parents[3]
RELEASES = ("10.15", "11.4")

_DERIVED = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r})
from rich.progress import Progress
from model.tensorrt.library import collect_messages
from trt_build.engine.runtime import require_tensorrt
from trt_build.engine.progress import progress_monitor
trt = require_tensorrt()
messages = collect_messages(trt)
messages.logger.log(trt.ILogger.Severity.ERROR, "what went wrong")
messages.logger.log(trt.ILogger.Severity.VERBOSE, "nobody asked")
with Progress(disable=True) as progress:
    monitor = progress_monitor(trt, progress)
    assert isinstance(monitor, trt.IProgressMonitor)
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Tactics", "Building", 1)
    assert monitor.step_complete("Tactics", 0) is True
    monitor.phase_finish("Tactics")
    assert [task.description for task in progress.tasks] == ["Building"]
print(messages.errors)
"""
_BUILD = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r})
from trt_build.__main__ import main
main(["engine", {str(CHECKOUT / "model/artifacts/demo")!r}, "/nonexistent/x.plan"])
"""


@pytest.mark.parametrize("release", RELEASES)
def test_every_class_method_parameter_and_flag_that_we_use_is_there(release: str, tensorrt_libraries: dict[str, Library]) -> None:
    version, wrong = differences(tensorrt_libraries[release], model.tensorrt.protocols)
    assert version.startswith(release)
    assert wrong == []


def test_a_flag_that_release_11_removed_and_a_parameter_that_never_was_are_found(
    tensorrt_libraries: dict[str, Library], tmp_path: Path
) -> None:
    source = Path(model.tensorrt.protocols.__file__).read_text()
    changed = source.replace("    REFIT: Any\n", "    REFIT: Any\n    FP16: Any\n").replace(
        "def parse(self, model: bytes)", "def parse(self, proto: bytes)"
    )
    module = ModuleType("changed_api")
    exec(compile(changed, "changed_api", "exec"), module.__dict__)
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == "builtins":
            value.__module__ = "changed_api"
    found = {release: differences(tensorrt_libraries[release], module)[1] for release in RELEASES}
    named = {release: {text.partition(":")[0] for text in wrong} for release, wrong in found.items()}
    assert named == {"10.15": {"OnnxParser.parse"}, "11.4": {"OnnxParser.parse", "BuilderFlag.FP16"}}


def test_nothing_but_the_protocols_touches_tensorrt() -> None:
    """mypy holds annotated code to the protocols; so no module may import TensorRT itself, or look members up by name."""
    for path in (*(CHECKOUT / "trt_build").rglob("*.py"), *(CHECKOUT / "stream_app/inference").rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports = {
            name.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for name in node.names
        } | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [name for name in imports if re.fullmatch(r"tensorrt(_bindings)?(\..*)?", name)], path
        by_name = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "getattr"]
        assert not [call for call in by_name if "trt" in call], path
    assert len(described(model.tensorrt.protocols)) > 20


@pytest.mark.parametrize("release", RELEASES)
def test_our_logger_and_progress_monitor_derive_from_the_real_classes(
    release: str, tensorrt_libraries: dict[str, Library]
) -> None:
    done = in_process(tensorrt_libraries[release], _DERIVED)
    assert done.stdout.strip() == "['what went wrong']", done.stderr


def test_without_a_driver_a_build_says_so_and_the_process_lives(tensorrt_libraries: dict[str, Library]) -> None:
    try:
        pytest.skip(f"this machine has a GPU: {require_gpu().name}")
    except NoDeviceError:
        pass
    done = in_process(tensorrt_libraries["10.15"], _BUILD)
    assert done.returncode == 4
    assert "no NVIDIA driver here" in done.stderr
    assert "everything up to ONNX" in done.stderr
