"""The shop presets answer alike in torch and ONNX on rows of a simulated shop that went through the feature engine.

2,000 rows here; 10,000 of every preset, in fp32, are for `python -m benchmarks.parity` (docs/engines.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers.models.bert.modeling_bert  # noqa: F401  # once, here: loading it changes the environment, a test may not
from click.testing import CliRunner
from numpy.typing import NDArray
from pyarrow import parquet

from model.checkpoint import Checkpoint, save_checkpoint
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.tasks import SHOP_TASKS
from stream_app.simulator.options import SimulatorOptions
from training.data.simulated_shops import SimulatedShop
from training.data.sources.events import EventFeaturizer
from training.data.sources.simulated import simulate_visits
from trt_build.__main__ import main
from trt_build.parity.recorded import read_rows

ROWS = 2_000
Rows = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def replayed() -> tuple[EventFeaturizer, Rows]:
    """The last 2,000 of 3,000 events of a simulated shop, with all that came before them as their past."""
    options = replace(SimulatorOptions(), seed=7, events=3_600, users=200, items=100, malformed_share=0.0, duplicate_share=0.0)
    events = simulate_visits(SimulatedShop(options), {f"i{n}": n for n in range(options.items)}).events
    folder = EventFeaturizer()
    wanted = np.zeros(len(events), bool)
    wanted[-ROWS - 50 :] = True
    tensors, _ = folder.fold(events, wanted)
    return folder, {name: value[-ROWS:] for name, value in tensors.items()}


@pytest.fixture(scope="module")
def files(replayed: tuple[EventFeaturizer, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `rows.npz`, and for each shop preset its checkpoint: seeded, scaled by these rows."""
    folder, rows = replayed
    target = tmp_path_factory.mktemp("replayed")
    arrays: dict[str, Any] = {f"in_{name}": value for name, value in rows.items()}
    np.savez(target / "rows.npz", **arrays)
    for preset in ("demo", "tiny"):
        torch.manual_seed(4)
        network = MultiTaskNetwork(PRESETS[preset], folder.spec, SHOP_TASKS).eval()
        network.fit_scaling(rows["dense"])
        checkpoint = Checkpoint(network, preset, list(folder.feature_names), folder.catalogue_hash)
        save_checkpoint(checkpoint, target / f"{preset}.pt")
    return target


@pytest.mark.parametrize("preset", ["demo", "tiny"])
def test_a_shop_preset_exports_and_answers_as_torch_does_in_each_precision(preset: str, files: Path) -> None:
    found = CliRunner().invoke(main, ["onnx", str(files / f"{preset}.pt"), str(files / f"{preset}.onnx")])
    assert found.exit_code == 0, found.output
    ranges = str(files / f"{preset}.json")
    arguments = [str(files / f"{preset}.onnx"), ranges, "--rows", str(files / "rows.npz"), "--count", "1000"]
    found = CliRunner().invoke(main, ["calibrate", *arguments])
    assert found.exit_code == 0, found.output
    arguments = ["--rows", str(files / "rows.npz"), "--precisions", "all", "--calibration", ranges, "--count", str(ROWS)]
    checkpoint = ["--checkpoint", str(files / f"{preset}.pt")]
    found = CliRunner().invoke(main, ["verify", str(files / f"{preset}.onnx"), *checkpoint, *arguments])
    assert found.exit_code == 0, found.output
    said = json.loads(found.output.splitlines()[-1])
    assert said["fine"]
    assert [one["precision"] for one in said["comparisons"]] == ["fp32", "fp16", "bf16", "int8"]
    exact = said["comparisons"][0]["tasks"]
    assert exact["fraud"]["largest"] < 1e-5
    assert exact["user_vector"]["overlap"] > 0.999


def test_a_model_that_is_off_is_told_by_task_and_row_and_status(files: Path) -> None:
    from model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(files / "tiny.pt")
    state = checkpoint.network.state_dict()
    with torch.no_grad():
        for name, weight in state.items():
            if name.startswith("branches.0.heads.3.") and name.endswith("bias"):  # click's
                weight.add_(0.05)
    save_checkpoint(checkpoint, files / "off.pt")
    CliRunner().invoke(main, ["onnx", str(files / "tiny.pt"), str(files / "tiny.onnx")])
    manifest = files / "tiny.onnx.json"
    about = json.loads(manifest.read_text())
    arguments = ["verify", str(files / "tiny.onnx"), "--checkpoint", str(files / "off.pt"), "--rows", str(files / "rows.npz")]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 1
    assert "was made of the weights" in found.output  # of another training: said at once
    manifest.write_text(json.dumps(about | {"weights_sha256": ""}))
    found = CliRunner().invoke(main, arguments)
    said = json.loads(found.output.splitlines()[-1])
    assert (found.exit_code, said["fine"]) == (1, False)
    assert [sentence.partition(": click")[1] for sentence in said["wrong"]] == [": click"]
    worst = said["comparisons"][0]["tasks"]["click"]["worst_rows"]
    assert len(worst) == 3
    assert f"row {worst[0]}: " in said["wrong"][0]


def test_rows_of_a_replays_folder_of_features_are_those_of_the_arrays(
    replayed: tuple[EventFeaturizer, Rows], files: Path, tmp_path: Path
) -> None:
    folder, rows = replayed
    columns: dict[str, Any] = {name: rows["dense"][:, place] for place, name in enumerate(folder.feature_names)}
    for name, value in rows.items():
        if name != "dense":  # flat lists, as stream_app/replay/features_file.py writes them
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), value[0].size)
    table = pa.table(columns)
    for number, at in enumerate(range(0, ROWS, 700)):
        parquet.write_table(table.slice(at, 700), tmp_path / f"part-{number:05d}.parquet")
    found = read_rows(tmp_path, folder.spec.tensors(), 500, folder.feature_names)
    wanted = read_rows(files / "rows.npz", folder.spec.tensors(), 500)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
