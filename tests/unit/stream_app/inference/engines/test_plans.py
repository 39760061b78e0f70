"""Which plan of an artefact a machine takes, and which it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stream_app.errors import ContractError, EngineNotHereError
from stream_app.inference.artifact import load_manifest
from stream_app.inference.engines.plans import EnginePlan, Machine, find_plan
from tests.unit.stream_app.inference.engines.plan_files import CONTENT, add_plan

HOPPER = Machine("10.15.1.29", "9.0")


def find(folder: Path, machine: Machine = HOPPER, precision: str = "") -> EnginePlan:
    return find_plan(folder, load_manifest(folder), machine, precision)


def test_the_fastest_precision_that_fits_is_taken_unless_one_is_named(artifact: Path) -> None:
    for precision in ("int8", "fp32", "bf16", "fp16"):
        add_plan(artifact, f"a-{precision}", precision=precision)
    assert find(artifact).manifest.precision == "fp16"
    found = find(artifact, precision="bf16")
    assert found.manifest.precision == "bf16"
    assert found.path.name == "a-bf16.plan"
    assert found.content == CONTENT


def test_an_artefact_without_plans_says_where_they_would_be_and_how_to_build_one(artifact: Path) -> None:
    with pytest.raises(EngineNotHereError, match=r"there is none in .*plans\. Operator action: build one.*trt_build engine"):
        find(artifact)


@pytest.mark.parametrize(
    ("made", "machine", "fits"),
    [
        ({}, HOPPER, True),
        ({}, Machine("10.15.1.29", "8.9"), False),  # another GPU
        ({"hardware_compatible": True, "compute_capability": "8.0"}, HOPPER, True),
        ({"hardware_compatible": True, "compute_capability": "8.0"}, Machine("10.15.1.29", "12.0"), True),  # 12 is after 9
        ({"hardware_compatible": True}, Machine("10.15.1.29", "8.0"), False),  # an older one
        ({"hardware_compatible": True, "compute_capability": "7.5"}, HOPPER, False),  # before Ampere it means nothing
        ({}, Machine("10.15.2.0", "9.0"), False),  # another TensorRT
        ({"version_compatible": True}, Machine("10.16.0.1", "9.0"), True),
        ({"version_compatible": True}, Machine("10.9.0.34", "9.0"), False),  # too new for this one
        ({"version_compatible": True}, Machine("11.2.1.4", "9.0"), False),  # another major version
    ],
)
def test_a_plan_fits_the_gpu_and_the_tensorrt_that_it_was_built_for(
    made: dict[str, Any], machine: Machine, fits: bool, artifact: Path
) -> None:
    path = add_plan(artifact, "one", **made)
    if fits:
        assert find(artifact, machine).path == path
    else:
        with pytest.raises(EngineNotHereError, match=r"one\.plan: built (by|for) .* here is .*Operator action: build one"):
            find(artifact, machine)


def test_every_plan_that_does_not_fit_is_named_with_its_reason(artifact: Path) -> None:
    add_plan(artifact, "ada", compute_capability="8.9", gpu="NVIDIA L4")
    add_plan(artifact, "new", tensorrt="11.2.1.4")
    with pytest.raises(EngineNotHereError, match=r"ada\.plan: .*8\.9 \(NVIDIA L4\).*; new\.plan: built by TensorRT 11\.2\.1\.4"):
        find(artifact)
    with pytest.raises(EngineNotHereError, match=r"ada\.plan: it is fp32, model\.precision asks for int8"):
        find(artifact, precision="int8")


@pytest.mark.parametrize("damage", ["one byte", "truncated", "missing"])
def test_a_damaged_plan_is_refused_with_the_command_that_rebuilds_it(damage: str, artifact: Path) -> None:
    path = add_plan(artifact, "one")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(CONTENT[:-1] + (b"N" if damage == "one byte" else b""))
    with pytest.raises(ContractError, match=r"one\.plan.*Operator action: build it again: a command") as refused:
        find(artifact)
    assert not isinstance(refused.value, EngineNotHereError)  # `auto` must not pass it over


@pytest.mark.parametrize("change", [{"model_sha256": "f" * 64}, {"catalogue_hash": "feedfeedfeedfeed"}])
def test_a_plan_of_another_model_is_refused(change: dict[str, Any], artifact: Path) -> None:
    add_plan(artifact, "one", **change)
    with pytest.raises(ContractError, match=r"was built from the model .* it lies beside") as refused:
        find(artifact)
    assert not isinstance(refused.value, EngineNotHereError)


def test_a_plan_of_a_newer_format_and_a_broken_manifest_are_refused(artifact: Path) -> None:
    path = add_plan(artifact, "one")
    manifest = path.with_name("one.plan.json")
    manifest.write_bytes(b'{"format": 2}')
    with pytest.raises(ContractError, match=r"has format 2, this release reads up to 1: the plan is too new"):
        find(artifact)
    manifest.write_bytes(b'{"format": 1, "precision": "fp12"}')
    with pytest.raises(ContractError, match=r"no valid manifest of a plan"):
        find(artifact)


def test_a_plan_without_a_manifest_is_not_finished_and_not_a_plan(artifact: Path) -> None:
    add_plan(artifact, "one").with_name("one.plan.json").unlink()
    with pytest.raises(EngineNotHereError, match="there is none"):
        find(artifact)
