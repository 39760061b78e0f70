"""`millrace models`: what an operator types, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

from benchmarks.live.perturbed_model import perturbed
from model.digest import file_sha256
from stream_app.__main__ import millrace
from stream_app.clock import SystemClock
from stream_app.inference.registry.document import WorkerStatus
from stream_app.inference.registry.registry_factory import open_registry
from tests.unit.stream_app.inference.engines.plan_files import add_plan

DEMO = Path(__file__).resolve().parents[4] / "model" / "artifacts" / "demo"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MILLRACE_MODEL_REGISTRY", str(tmp_path / "models"))
    monkeypatch.setenv("MILLRACE_MODEL_ENGINE", "onnxruntime")
    return str(tmp_path / "models")


def models(*arguments: str) -> Result:
    return CliRunner().invoke(millrace, ["models", *arguments])


def told(*arguments: str, status: int = 0) -> dict[str, Any]:
    result = models(*arguments, "--json")
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@pytest.fixture
def two(place: str, tmp_path: Path) -> tuple[str, str]:
    """The registry with two models, the first of which is the champion."""
    perturbed(DEMO, tmp_path / "other")
    versions = (told("add", str(DEMO))["added"], told("add", str(tmp_path / "other"))["added"])
    told("promote", versions[0], "--wait", "0", "--why", "first")
    return versions


def test_models_are_added_promoted_and_rolled_back_with_a_history(two: tuple[str, str]) -> None:
    first, second = two
    promoted = told("promote", second[:-2], "--wait", "0", "--by", "ada", "--why", "better")
    assert (promoted["what"], promoted["refused"], promoted["silent"]) == (f"promote {second}", [], [])
    told("rollback", "--wait", "0")
    listed = told("list")
    assert listed["line_up"] | {"percent": 0} == {
        "champion": first, "previous": second, "challenger": "", "shadow": "", "percent": 0,
    }  # fmt: skip
    assert (listed["history"][1]["by"], listed["history"][1]["why"]) == ("ada", "better")
    assert [change["what"] for change in listed["history"]] == [f"promote {first}", f"promote {second}", "rollback"]
    shown = models("list").output
    assert "champion" in shown
    assert "no worker follows this registry now" in shown


def test_what_a_worker_refuses_is_taken_back_unless_it_shall_stay(two: tuple[str, str], place: str) -> None:
    first, second = two
    registry = open_registry(place, SystemClock())

    def refuse(revision: int) -> None:
        seen_ms = SystemClock().now_ms()
        figures = {"fraud_mean": 0.3}
        status = WorkerStatus(
            worker="w", seen_ms=seen_ms, revision=revision, serving=first, outcome="refused", reason="too far", figures=figures
        )
        registry.report(status)

    refuse(2)
    result = models("promote", second)
    assert result.exit_code == 1
    for said in ("w: refused", "too far", "fraud_mean", "withdrawn by change 3"):
        assert said in result.output
    assert registry.stages().line_up.champion == first
    refuse(4)
    assert told("promote", second, "--keep", status=1)["refused"] == ["w"]
    assert registry.stages().line_up.champion == second


def test_a_worker_that_is_silent_is_named(two: tuple[str, str], place: str) -> None:
    status = WorkerStatus(worker="w", seen_ms=SystemClock().now_ms(), revision=1, serving=two[0], outcome="served")
    open_registry(place, SystemClock()).report(status)
    assert told("shadow", two[1], "--wait", "0", status=1)["silent"] == ["w"]
    assert told("shadow", "--none", "--wait", "0", status=1)["line_up"] == {"champion": two[0]}


def test_diff_tells_how_far_two_models_lie_apart(two: tuple[str, str], tmp_path: Path) -> None:
    same = told("diff", "champion", str(DEMO))
    assert (same["fraud_mean"], same["alert_flips"], same["candidate_overlap"]) == (0.0, 0.0, 1.0)
    other = told("diff", "champion", two[1], "--inputs", str(DEMO / "samples.npz"))
    assert other["rows"] == same["rows"]
    assert other["click_mean"] > 0
    assert "candidates in common" in models("diff", *two).output
    (tmp_path / "rows.npz").write_bytes(b"nothing")
    assert "no npz file of recorded inputs" in models("diff", *two, "--inputs", str(tmp_path / "rows.npz")).output


def test_a_damaged_artefact_is_not_promoted(two: tuple[str, str], place: str) -> None:
    registry = open_registry(place, SystemClock())
    (registry.folder(two[1]) / "model.onnx").write_bytes(b"")
    result = models("promote", two[1])
    assert result.exit_code == 1
    assert "corrupted" in result.output
    assert registry.stages().line_up.champion == two[0]


def newer_format(folder: Path) -> str:
    model = onnx.load(folder / "model.onnx")
    model.ir_version = 99
    onnx.save(model, folder / "model.onnx")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["sha256"]["model.onnx"] = file_sha256(folder / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return "IR version 99, this onnxruntime reads up to"


def other_features(folder: Path) -> str:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["catalogue_hash"] = "0123456789abcdef"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return "was trained with feature catalogue 0123456789ab"


def damaged_plan(folder: Path) -> str:
    add_plan(folder, "fp16").write_bytes(b"cut")
    return "fp16.plan is corrupted or was exchanged"


def no_plan(folder: Path) -> str:
    return "Operator action"


@pytest.mark.parametrize(
    ("spoil", "engine"), [(newer_format, "auto"), (other_features, "auto"), (damaged_plan, "auto"), (no_plan, "tensorrt")]
)
def test_what_no_worker_could_load_does_not_enter_the_registry(
    two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], str], engine: str
) -> None:
    told("remove", two[1])
    monkeypatch.setenv("MILLRACE_MODEL_ENGINE", engine)
    reason = spoil(tmp_path / "other")
    result = models("add", str(tmp_path / "other"))
    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert [model["version"] for model in told("list")["models"]] == [two[0]]


def test_without_a_gpu_it_names_what_it_did_not_test(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_MODEL_ENGINE", "tensorrt")
    perturbed(DEMO, tmp_path / "other")
    add_plan(tmp_path / "other", "fp16", precision="fp16")
    checked = told("add", str(tmp_path / "other"))["checked"]
    assert checked.startswith("answers as recorded on onnxruntime; not tested on tensorrt, which cannot run here (")
    assert "TensorRT plans fp16.plan: files and manifests only" in checked


def test_a_version_that_no_worker_could_load_is_put_on_no_stage(two: tuple[str, str], place: str) -> None:
    newer_format(open_registry(place, SystemClock()).folder(two[1]))
    for stage in (["shadow", two[1]], ["challenge", two[1], "--percent", "5"], ["promote", two[1]]):
        result = models(*stage)
        assert (result.exit_code, "IR version 99" in result.stderr) == (1, True), stage
    assert told("list")["line_up"] == {
        "champion": two[0], "previous": "", "challenger": "", "shadow": "", "percent": 0.0,
    }  # fmt: skip


def test_show_tells_what_the_artefact_says_and_remove_deletes_it(two: tuple[str, str]) -> None:
    assert told("show", two[1])["version"] == two[1]
    assert told("remove", two[1]) == {"removed": two[1]}
    assert [model["version"] for model in told("list")["models"]] == [two[0]]


def test_a_challenger_has_a_percentage(two: tuple[str, str]) -> None:
    line_up = told("challenge", two[1], "--percent", "7.5", "--wait", "0")["line_up"]
    assert (line_up["challenger"], line_up["percent"]) == (two[1], 7.5)
    assert models("challenge", two[1]).exit_code == 1, "no percentage"
    assert models("challenge").exit_code == 2, "neither a version nor --none"


def test_without_a_registry_it_says_how_to_set_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MILLRACE_MODEL_REGISTRY", raising=False)
    result = models("list")
    assert result.exit_code == 2
    assert "MILLRACE_MODEL_REGISTRY" in result.output
