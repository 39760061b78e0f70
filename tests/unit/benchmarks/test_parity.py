"""The comparison of ONNX with torch reaches every preset, takes rows as they are in use, and fails where one is off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers.models.bert.modeling_bert  # noqa: F401  # once, here: loading it changes the environment, a test may not
from click.testing import CliRunner

from benchmarks import parity, parity_cases
from benchmarks.features.feature_logs import write_jsonl
from benchmarks.parity import compared, main
from benchmarks.parity_cases import CASES, ParityCase, few, material_of, rows_of_replay
from model.contract import INPUTS
from model.presets import PRESETS
from stream_app.events import Click, Order, Search
from stream_app.logs.log_source import open_log
from stream_app.simulator.options import SimulatorOptions
from stream_app.simulator.shop import simulated_events
from training.config import config_names
from training.data.sources.events import EventFeaturizer
from trt_build.parity.compare import OutputDifference
from trt_build.parity.parity_report import ParityVerdict
from trt_build.parity.tolerances import TOLERANCES

TOPIC_OF = {Search: "searches", Click: "clicks", Order: "orders"}
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

_SHOP = """
[network]
preset = "tiny"
[training]
tasks = ["next_action", "user_vector"]
[source]
kind = "simulation"
[[source.shops]]
seed = 5
events = 2_500
events_per_s = 2.0
label_delay_ms = 60_000
users = 100
items = 60
"""


def nothing(_sentence: str) -> None:
    return


def test_every_configuration_and_every_preset_of_the_network_is_compared() -> None:
    assert {case.config for case in CASES.values()} == set(config_names())
    assert {case.training_config().network.preset for case in CASES.values()} == set(PRESETS)


def test_rows_of_a_replay_are_those_of_the_trainings_fold_and_are_spread_over_the_whole_log(tmp_path: Path) -> None:
    options = SimulatorOptions(
        events=1_500, users=60, items=40, malformed_share=0.0, duplicate_share=0.0, late_share=0.0, out_of_order_share=0.0
    )
    path = tmp_path / "log.jsonl"
    write_jsonl(path, (simulated.event for simulated in simulated_events(options)))
    events = [simulated.event for simulated in simulated_events(options)]
    events.sort(key=lambda event: (event.event_time_ms, TOPIC_OF[type(event)]))  # the canonical order
    folder = EventFeaturizer()
    expected, scored = folder.fold(events, np.ones(len(events), np.bool_))
    assert scored.all()
    estimated = np.array(["distinct" in name for name in folder.feature_names])  # by sketches of keyed digests: another key
    whole, part = rows_of_replay(open_log([path]), len(events)), rows_of_replay(open_log([path]), 50)
    for spec in INPUTS:
        exact = ~estimated if spec.name == "dense" else ...
        np.testing.assert_array_equal(whole[spec.name][:, exact], expected[spec.name][:, exact])
        assert len(part[spec.name]) == 50
    place = {row.tobytes(): number for number, row in enumerate(whole["dense"])}
    places = [place[row.tobytes()] for row in part["dense"]]
    assert places == sorted(places)
    assert places[0] == 0
    assert max(np.diff([*places, len(events)])) < 64


def test_a_shops_preset_is_trained_briefly_and_compared_on_its_own_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    (tmp_path / "shop.toml").write_text(_SHOP)
    monkeypatch.setattr(parity_cases, "_SMALL_SHOP", str(tmp_path / "shop.toml"))
    material = material_of(ParityCase(str(tmp_path / "shop.toml")), tmp_path, 400, nothing)
    assert material.rows_of == "replay of a simulated shop"
    rows = few(material.dataset, 300)
    assert [len(rows.rows(split)) for split in ("train", "validation", "test")] == [300] * 3
    figures = compared(material, 300)
    assert (figures["network"], figures["rows"], figures["within"], figures["wrong"]) == ("tiny", 400, True, [])
    assert figures["largest_difference"].keys() == {"next_action", "user_vector"}
    assert all(0 < figures["largest_difference"][task] <= figures["allowed"][task] for task in figures["allowed"])
    assert figures["best_items_agree"] > 0.999


@pytest.mark.parametrize("name", ["text_tiny", "sequence_tiny"])
def test_without_the_real_data_rows_are_made_up_and_the_line_says_so(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--only", name, "--rows", "60", "--train-rows", "300"])
    assert done.exit_code == 0, done.output
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["within"]
    assert line["presets"].keys() == {name}
    assert line["presets"][name]["rows_of"] == "rows made up, since the real data is absent"
    assert line["presets"][name]["rows"] == 60
    assert {"commit", "machine", "date", "torch"} <= line.keys()


def test_a_task_that_is_off_is_named_with_its_worst_row_and_the_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = OutputDifference("yes", 0.25, 0.1, TOLERANCES["fp32"]["binary"])
    monkeypatch.setattr(parity, "verify_onnx", lambda *_: [ParityVerdict("torch against ONNX", "fp32", [off])])
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--only", "uci", "--rows", "5", "--train-rows", "100"])
    assert done.exit_code == 1
    assert "uci: NOT within what is allowed: yes: 0.25 at most" in done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert (line["within"], line["presets"]["uci"]["within"]) == (False, False)


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")
def test_rows_of_a_real_table_come_through_its_reader() -> None:
    material = material_of(CASES["uci"], DATA, 500, nothing)
    assert material.rows_of == "sessions/uci_online_shoppers_intention.csv.gz through its reader"
    assert {name: value.shape for name, value in material.rows.items()} == {"dense": (500, 10), "categories": (500, 7)}
    assert len(material.dataset) == 12_330
