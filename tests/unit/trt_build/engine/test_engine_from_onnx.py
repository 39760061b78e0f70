"""A plan is asked for as ordered, whatever the release; what goes wrong names the layer and what to do."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from rich.progress import Progress

import model.tensorrt.protocols
from model.plan import PlanProfile
from tests.unit.trt_build import double
from tests.unit.trt_build.double import DEVICE, Double
from trt_build.artifact_source import ArtifactSource, open_source
from trt_build.cli_engine import timing_cache_folder
from trt_build.engine.engine_from_onnx import EngineOptions, engine_from_onnx, timing_cache_path
from trt_build.engine.plan_from_refit import check_refit, plan_from_refit
from trt_build.engine.plans import build_plan, default_path, plans_of, read_plan, write_plan
from trt_build.engine.profiles import DEFAULT_PROFILES, profiles_from_text
from trt_build.errors import BuildError, RefusedError


@pytest.fixture(scope="module")
def source(built_artifact: Path) -> ArtifactSource:
    return open_source(built_artifact)


def built(trt: Double, source: ArtifactSource, **order: Any) -> dict[str, Any]:
    whole = EngineOptions(**{"precision": "fp32", **order})
    content = source.in_precision(whole.precision).content
    plan = engine_from_onnx(trt.api(), DEVICE, content, source.tensors, whole, Progress(disable=True)).plan
    found: dict[str, Any] = json.loads(plan)
    return found


@pytest.mark.parametrize("version", ["10.15.1.29", "11.4.0.106"])
def test_a_build_is_strongly_typed_with_a_profile_for_small_usual_and_large_batches(version: str, source: ArtifactSource) -> None:
    found = built(Double(version), source)
    assert found["strongly_typed"]
    assert [profile["dense"][1][0] for profile in found["profiles"]] == [p.opt for p in DEFAULT_PROFILES]
    features = source.tensors[0].shape[0]
    assert found["profiles"][0]["dense"] == [[1, features], [16, features], [64, features]]
    assert all(set(profile) == {spec.name for spec in source.tensors} for profile in found["profiles"])


@pytest.mark.parametrize(
    ("order", "flags"),
    [
        ({}, []),
        ({"precision": "tf32"}, ["TF32"]),
        ({"precision": "fp16"}, []),
        ({"refittable": True}, ["REFIT"]),
        ({"version_compatible": True, "refittable": True}, ["REFIT", "VERSION_COMPATIBLE"]),
    ],
)
def test_tf32_is_allowed_only_where_it_is_asked_for_and_options_become_flags(
    order: dict[str, Any], flags: list[str], source: ArtifactSource
) -> None:
    found = built(Double(), source, **order)
    assert found["flags"] == flags
    assert found["hardware"] == ""
    assert built(Double(), source, hardware_compatible=True, **order)["hardware"] == "ampere_plus"


def test_measured_kernels_are_kept_for_one_release_and_gpu_and_a_stale_cache_is_thrown_away(
    source: ArtifactSource, tmp_path: Path
) -> None:
    trt = Double()
    for _ in range(2):
        built(trt, source, timing_cache=tmp_path)
    assert trt.caches == [b"", b"measured "]
    path = timing_cache_path(tmp_path, trt.api(), DEVICE)
    assert [p.name for p in tmp_path.iterdir()] == [path.name] == ["trt10.15.1.29-nvidia-double-9000-sm90.cache"]
    trt.stale_caches = True
    built(trt, source, timing_cache=tmp_path)
    assert trt.caches[-1] == b""
    assert path.read_bytes() == b"measured "
    assert timing_cache_path(tmp_path, Double("11.4.0.106").api(), DEVICE) != path


def test_a_layer_that_the_parser_does_not_take_is_named_with_a_fix(source: ArtifactSource) -> None:
    trt = Double()
    trt.parse_errors = [("NonZero", "node_nonzero_3", "no importer registered for op")]
    with pytest.raises(BuildError, match=r"NonZero node_nonzero_3: no importer .* Fix: express the layer with operators"):
        built(trt, source)


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Could not find any implementation for node {node_linear_8}", "--precision fp32"),
        ("[memory] out of memory while timing node_linear_8", "--workspace-gib"),
        ("something that nobody has seen yet", "release notes"),
    ],
)
def test_a_build_that_comes_to_nothing_says_what_tensorrt_said_and_a_fix(said: str, fix: str, source: ArtifactSource) -> None:
    trt = Double()
    trt.build_errors = [said]
    with pytest.raises(BuildError) as err:
        built(trt, source)
    assert said in str(err.value)
    assert fix in str(err.value).partition("Fix: ")[2]


def test_a_network_with_other_inputs_than_the_source_is_refused(source: ArtifactSource) -> None:
    order = EngineOptions("fp32")
    with pytest.raises(BuildError, match="expected are"):
        engine_from_onnx(Double().api(), DEVICE, source.content, source.tensors[1:], order, Progress(disable=True))


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("2:8:16", "begin at 1"),
        ("1:8:16,18:32:64", "begin the second at 17"),
        ("1:8:16,9:12:16", "end it above 16"),
        ("1:32:16", "min <= opt <= max"),
        ("1:8", "give min:opt:max"),
        ("1:x:8", "give min:opt:max"),
    ],
)
def test_profiles_that_leave_a_batch_unscored_are_refused(text: str, fix: str) -> None:
    with pytest.raises(BuildError, match=fix):
        profiles_from_text(text)


def test_profiles_are_read_from_text_and_may_overlap() -> None:
    assert profiles_from_text("1:8:64, 32:256:512") == (PlanProfile(1, 8, 64), PlanProfile(32, 256, 512))


@pytest.mark.parametrize("version", ["10.15.1.29", "11.4.0.106"])
def test_a_plan_is_written_with_its_manifest_and_a_report_of_one_form(version: str, artifact: Path) -> None:
    trt, source = Double(version), open_source(artifact)
    order = EngineOptions("fp16", refittable=True)
    typed = source.in_precision("fp16")
    plan, manifest, report = build_plan(trt.api(), DEVICE, source, typed, order, "the command", Progress(disable=True))
    path = default_path(artifact, "fp16", trt.api(), DEVICE)
    written = write_plan(path, plan, manifest, report)
    assert path == artifact / "plans" / f"fp16-sm90-trt{version}.plan"
    assert plans_of(artifact) == [path]
    assert read_plan(path, source) == (plan, written)
    assert (written.precision, written.gpu, written.compute_capability) == ("fp16", DEVICE.name, "9.0")
    assert (written.model_sha256, written.onnx_sha256) == (source.manifest.sha256, typed.manifest.sha256)
    assert written.onnx_sha256 != written.model_sha256
    assert written.command == "the command"
    assert [layer["LayerType"] for layer in report["layers"]] == ["Reformat", "gemm", "gemm"]
    assert report["bindings"] == [one["name"] for one in report["tensors"]]
    assert report["profiles"][1]["item"] == [[65, 2], [256, 2], [512, 2]]


def test_new_weights_go_into_a_refittable_plan_and_into_no_other(source: ArtifactSource) -> None:
    trt, order = Double(), EngineOptions("fp32", refittable=True)
    typed = source.in_precision("fp32")
    plan, manifest, _ = build_plan(trt.api(), DEVICE, source, typed, order, "", Progress(disable=True))
    check_refit(manifest, typed.manifest)
    assert json.loads(plan_from_refit(trt.api(), plan, manifest, typed.content).plan)["refitted"] == len(typed.content)
    trt.missing_weights = [f"network.layer{n}.weight" for n in range(7)]
    with pytest.raises(BuildError, match=r"network\.layer4\.weight and 2 more"):
        plan_from_refit(trt.api(), plan, manifest, typed.content)
    trt.parse_errors = [("Gemm", "node_linear_2", "count mismatch")]
    with pytest.raises(BuildError, match="Gemm node_linear_2: count mismatch"):
        plan_from_refit(trt.api(), plan, manifest, typed.content)


def test_a_plan_of_another_release_is_refused_when_it_is_read(source: ArtifactSource) -> None:
    from trt_build.engine.plan_runner import engine_of

    order = EngineOptions("fp32", version_compatible=True)
    plan = build_plan(Double().api(), DEVICE, source, source.in_precision("fp32"), order, "", Progress(disable=True))[0]
    with pytest.raises(RefusedError, match="does not take the plan: the plan is of another version"):
        engine_of(Double("11.4.0.106").api(), plan, version_compatible=True)


def test_the_double_has_nothing_that_is_not_in_the_checked_interface() -> None:
    known = {
        name
        for protocol in vars(model.tensorrt.protocols).values()
        if inspect.isclass(protocol)
        for name in {*vars(protocol), *getattr(protocol, "__annotations__", {})}
    }
    own = {
        name
        for cls in vars(double).values()
        if inspect.isclass(cls) and cls.__module__ == double.__name__
        for name, value in vars(cls).items()
        if (inspect.isfunction(value) or isinstance(value, property)) and not name.startswith("_")
    }
    assert own - known == {"api"}


def test_a_timing_cache_that_cannot_be_written_is_left_out_or_refused_before_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert timing_cache_folder(tmp_path / "new" / "cache", required=False) == tmp_path / "new" / "cache"
    assert timing_cache_folder(tmp_path / "file" / "cache", required=False) is None
    assert "every kernel is measured" in capsys.readouterr().err
    with pytest.raises(BuildError, match=r"--timing-cache .* cannot be written: .*Fix: name a folder"):
        timing_cache_folder(tmp_path / "file" / "cache", required=True)
