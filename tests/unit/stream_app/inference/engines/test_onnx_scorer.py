"""The ONNX scorer: loads what is whole and ours, refuses the rest with what to do, answers each row alike in any batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from model.contract import INPUTS, ITEMS_FILE, MANIFEST_FILE, MODEL_FILE, OUTPUTS, SAMPLES_FILE, Manifest
from model.digest import file_sha256
from stream_app.errors import ContractError, EngineLostError, ModelFailedError
from stream_app.inference.artifact import check_catalogue, load_items, load_manifest, load_samples
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.port import Scorer
from stream_app.inference.engines.self_test import self_test

Arrays = dict[str, NDArray[Any]]


def samples(folder: Path) -> Arrays:
    return load_samples(folder, load_manifest(folder))[0]


def rewrite(folder: Path, **changes: object) -> None:
    manifest = msgspec.structs.replace(load_manifest(folder), **changes)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))


def resign(folder: Path, name: str) -> None:
    manifest = load_manifest(folder)
    rewrite(folder, sha256={**manifest.sha256, name: file_sha256(folder / name)})


def test_it_answers_as_recorded(built_artifact: Path) -> None:
    scorer: Scorer = OnnxScorer(built_artifact)
    assert isinstance(scorer, OnnxScorer)
    assert self_test(scorer, built_artifact) < 1e-5
    assert scorer.version == f"tiny-{file_sha256(built_artifact / MODEL_FILE)[:12]}"
    assert scorer.manifest.catalogue_hash == "0123456789abcdef"
    scorer.close()
    scorer.close()


def test_a_row_is_answered_to_the_last_bit_alike_in_any_batch(built_artifact: Path) -> None:
    scorer, inputs = OnnxScorer(built_artifact), samples(built_artifact)
    whole = scorer.score(inputs)
    for size in (1, 2, 3, 7, 16):
        parts = [scorer.score({k: v[at : at + size] for k, v in inputs.items()}) for at in range(0, 64, size)]
        for spec in OUTPUTS:
            assert np.array_equal(np.concatenate([part[spec.name] for part in parts]), whole[spec.name]), (size, spec.name)


def test_an_empty_batch_gives_empty_answers(built_artifact: Path) -> None:
    answers = OnnxScorer(built_artifact).score({k: v[:0] for k, v in samples(built_artifact).items()})
    assert {name: answer.shape for name, answer in answers.items()} == {s.name: (0, *s.shape) for s in OUTPUTS}


@pytest.mark.parametrize("name", [spec.name for spec in INPUTS])
def test_a_tensor_of_another_type_or_width_is_refused_by_name(built_artifact: Path, name: str) -> None:
    scorer, inputs = OnnxScorer(built_artifact), samples(built_artifact)
    for wrong in (inputs[name].astype(np.float64), inputs[name][:, 1:], inputs[name][:-1]):
        with pytest.raises(ContractError, match=name):
            scorer.score({**inputs, name: wrong})
    with pytest.raises(ContractError, match=f"input {name}: got nothing"):
        scorer.score({k: v for k, v in inputs.items() if k != name})


def test_a_closed_scorer_says_so(built_artifact: Path) -> None:
    scorer = OnnxScorer(built_artifact)
    scorer.close()
    with pytest.raises(ContractError, match="closed"):
        scorer.score(samples(built_artifact))


def test_a_missing_artefact_names_the_folder_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"no model artefact at .*nowhere.*MILLRACE_MODEL_PATH"):
        OnnxScorer(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [MODEL_FILE, ITEMS_FILE, SAMPLES_FILE])
@pytest.mark.parametrize("damage", ["one byte", "truncated", "missing"])
def test_a_damaged_file_is_refused_with_the_command_that_rebuilds_it(artifact: Path, name: str, damage: str) -> None:
    path = artifact / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "one byte" else content[: len(content) // 2])
    with pytest.raises(ContractError, match=rf"{name}.*python -m training --preset tiny"):
        load_all(artifact)


def load_all(folder: Path) -> None:
    scorer = OnnxScorer(folder)
    self_test(scorer, folder)
    load_items(folder)


def test_a_file_that_is_no_model_is_refused_even_with_the_right_checksum(artifact: Path) -> None:
    (artifact / MODEL_FILE).write_bytes(b"not a model")
    resign(artifact, MODEL_FILE)
    with pytest.raises(ContractError, match="cannot be loaded by onnxruntime"):
        OnnxScorer(artifact)


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": "x"}', b"[]"])
def test_a_broken_manifest_is_refused(artifact: Path, content: bytes) -> None:
    (artifact / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ContractError, match="no valid manifest"):
        OnnxScorer(artifact)


def test_a_manifest_that_contradicts_itself_is_refused(artifact: Path) -> None:
    rewrite(artifact, feature_medians=[1.0])
    with pytest.raises(ContractError, match="12 feature names, 1 medians"):
        OnnxScorer(artifact)


def test_a_file_without_a_checksum_is_refused(artifact: Path) -> None:
    rewrite(artifact, sha256={})
    with pytest.raises(ContractError, match=f"no sha256 of {MODEL_FILE}"):
        OnnxScorer(artifact)


def test_a_model_with_other_tensors_than_its_manifest_is_refused(artifact: Path) -> None:
    manifest = load_manifest(artifact)
    rewrite(
        artifact,
        feature_names=manifest.feature_names[1:],
        feature_medians=manifest.feature_medians[1:],
        feature_scales=manifest.feature_scales[1:],
    )
    with pytest.raises(ContractError, match=r"has the inputs .*the contract says"):
        OnnxScorer(artifact)


def test_a_self_test_that_is_off_says_by_how_much(artifact: Path) -> None:
    with np.load(artifact / SAMPLES_FILE) as saved:
        arrays: dict[str, Any] = dict(saved)
    arrays["out_fraud"] = arrays["out_fraud"] + np.float32(0.01)
    np.savez(artifact / SAMPLES_FILE, **arrays)
    resign(artifact, SAMPLES_FILE)
    with pytest.raises(ContractError, match=r"fraud differs .* by 0\.01"):
        self_test(OnnxScorer(artifact), artifact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ir_version": 99}, r"the model has IR version 99, this onnxruntime reads up to \d+\."),
        ({"opset": 99}, r"the model has operators of opset 99, this onnxruntime knows up to \d+\."),
        ({"operator": "Frobnicate"}, r"No Op registered for Frobnicate"),
    ],
)
def test_a_model_of_a_newer_format_is_refused_with_both_versions_and_what_to_install(
    artifact: Path, changes: dict[str, Any], reason: str
) -> None:
    import onnx

    model = onnx.load(artifact / MODEL_FILE)
    model.ir_version = changes.get("ir_version", model.ir_version)
    model.opset_import[0].version = changes.get("opset", model.opset_import[0].version)
    model.graph.node[0].op_type = changes.get("operator", model.graph.node[0].op_type)
    onnx.save(model, artifact / MODEL_FILE)
    resign(artifact, MODEL_FILE)
    with pytest.raises(ContractError, match=rf"cannot be loaded by onnxruntime .*{reason}.*Operator action: install the version"):
        OnnxScorer(artifact)


@pytest.mark.parametrize("recorded", [None, np.zeros((3, 1), np.float32), np.zeros((64, 1), "S4")])
def test_recorded_outputs_of_another_shape_are_refused(artifact: Path, recorded: NDArray[Any] | None) -> None:
    with np.load(artifact / SAMPLES_FILE) as saved:
        arrays: dict[str, Any] = {name: values for name, values in saved.items() if name != "out_fraud"}
    if recorded is not None:
        arrays["out_fraud"] = recorded
    np.savez(artifact / SAMPLES_FILE, **arrays)
    resign(artifact, SAMPLES_FILE)
    with pytest.raises(ContractError, match=r"does not fit the contract: recorded outputs fraud: .*build the artefact again"):
        self_test(OnnxScorer(artifact), artifact)


def test_a_manifest_of_a_newer_format_is_refused_whatever_else_it_says(artifact: Path) -> None:
    (artifact / MANIFEST_FILE).write_bytes(b'{"format": 2, "name": 7}')
    with pytest.raises(ContractError, match=r"has format 2, this release reads up to 1.*too new.*Operator action"):
        OnnxScorer(artifact)


def test_an_artefact_without_recorded_rows_is_refused(artifact: Path) -> None:
    rewrite(artifact, samples="")
    with pytest.raises(ContractError, match=r"names no recorded samples.*python -m training"):
        self_test(OnnxScorer(artifact), artifact)


def test_what_the_engine_raises_is_a_failure_of_the_model_not_of_the_caller(
    built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = OnnxScorer(built_artifact)

    class Failing:
        def run(self, *_: object) -> None:
            raise ort_errors.RuntimeException("CUDA failure 2: out of memory")

    monkeypatch.setattr(scorer, "_session", Failing())
    with pytest.raises(ModelFailedError, match=r"failed on cpu for a batch of 64: .*out of memory") as failed:
        scorer.score(samples(built_artifact))
    assert not isinstance(failed.value, EngineLostError)
    monkeypatch.setattr(scorer, "_device", "cuda")
    with pytest.raises(EngineLostError) as lost:
        scorer.score(samples(built_artifact))
    assert lost.value.reason == "out_of_memory"


def test_items_come_with_their_vectors(built_artifact: Path) -> None:
    ids, vectors = load_items(built_artifact)
    assert ids[:2] == ["i0", "i1"]
    assert vectors.shape == (len(ids), 32)
    assert vectors.dtype == "float32"


def catalogue(built_artifact: Path) -> Manifest:
    return load_manifest(built_artifact)


def test_the_same_catalogue_is_taken(built_artifact: Path) -> None:
    manifest = catalogue(built_artifact)
    check_catalogue(manifest, manifest.catalogue_hash, manifest.feature_names)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda names: names[:-1], r"the model wants \['feature_11'\], the worker has nothing more"),
        (lambda names: [*names, "fresh"], r"the model wants nothing more, the worker has \['fresh'\]"),
        (lambda names: [names[1], names[0], *names[2:]], r"0: feature_0 / feature_1"),
        (lambda names: names, r"a window, an aggregation or the layout changed"),
    ],
)
def test_another_catalogue_is_refused_with_what_differs(built_artifact: Path, change: Any, said: str) -> None:
    manifest = catalogue(built_artifact)
    with pytest.raises(ContractError, match=rf"0123456789ab.*fedcba987654.*{said}.*Operator action"):
        check_catalogue(manifest, "fedcba9876543210", change(manifest.feature_names))
