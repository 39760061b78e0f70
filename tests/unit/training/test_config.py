"""Configurations: every mistake is told at once, and what ships is what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.presets import PRESETS
from model.tasks import Task
from stream_app.errors import ConfigError
from training.config import SearchRange, TrainingOptions, config_from_tree, config_names, load_config
from training.data.simulated_shops import shops_from

TASKS = (Task(name="a", kind="binary", label="a"), Task(name="b", kind="binary", label="b", given="a"))


@pytest.mark.parametrize("name", config_names())
def test_every_configuration_that_ships_is_read_and_survives_json(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config_from_tree(json.loads(json.dumps(config.tree())), name) == config


def test_the_shops_of_the_demo_are_as_they_were() -> None:
    shops = shops_from(load_config("demo").source)
    assert [shop.options.seed for shop in shops] == list(range(101, 115))
    assert sum(shop.options.events or 0 for shop in shops) == 3_800_000
    assert [shop.unseen for shop in shops] == [False] * 12 + [True] * 2
    assert {shop.options.shop_seed for shop in shops} == {7}
    rush = shops[3].options
    assert (rush.users, rush.rhythm, rush.warm_up_ms, rush.label_delay_ms) == (40_000, False, 180_000, 5_000)
    assert shops[11].tills == 500
    assert shops[11].text() == "seed 112: 1,200,000 at 0.3/s, without session, ip, only orders, 500 tills"


def test_shops_that_are_described_wrongly_are_refused_together() -> None:
    source = {"shops": [{"seed": 1, "evnts": 3}, {"like": "rash", "seed": 2}], "like": {"rush": {}}}
    with pytest.raises(ConfigError) as refused:
        shops_from(source)
    assert "shop 1: evnts: no such key" in str(refused.value)
    assert "shop 2: like = 'rash'" in str(refused.value)
    with pytest.raises(ConfigError, match="describes no shop"):
        shops_from({})


def test_every_mistake_is_told_at_once_with_key_value_and_fix() -> None:
    changes = {
        "network.preset": "tny",
        "network.dropout": "much",
        "training.epochs": 0,
        "training.bach": 3,
        "training.balance": "best",
        "training.tasks": "fraud",
        "training.learning_rate": float("nan"),
        "tasks.fraud.kind": "classes",
        "tasks.fraud.calibration": "warm",
        "search.ranges": {"learning_rate": {"low": 1.0}, "training.epochs": {"low": -1, "high": 3, "log": True}},
        "evaluation": 3,
        "traning.epochs": 1,
    }
    with pytest.raises(ConfigError) as refused:
        load_config("tiny", changes)
    said = str(refused.value)
    for line in (
        "network.preset = 'tny': no such preset; did you mean tiny?",
        "network.dropout = 'much': must be a number",
        "training.epochs = 0: must be between 1 and 10000",
        "training.bach: no such key; did you mean batch?",
        "training.balance = 'best': no such balance",
        "training.tasks = 'fraud': must be a list",
        "training.learning_rate = nan: must be a finite number",
        "tasks.fraud.kind: no such key",
        "tasks.fraud.calibration = 'warm': must be one of none, temperature, isotonic",
        "search.ranges.learning_rate: low = 1.0, high = 0: give low below high, or choices",
        "search.ranges.learning_rate: what can be searched begins with",
        "search.ranges.training.epochs: low = -1: a range in the log begins above 0",
        "evaluation = 3: is a section",
        "[traning]: no such section; did you mean training?",
    ):
        assert line in said


def test_changes_are_read_as_toml_or_taken_as_text() -> None:
    changes = {
        "training.balance": "torchjd:upgrad",
        "training.epochs": "7",
        "training.tasks": '["fraud", "click"]',
        "network.dropout": "0",
        "tasks.fraud.positive_weight": "3",
        "search.ranges": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    }
    config = load_config("tiny", changes)
    assert (config.training.balance, config.training.epochs) == ("torchjd:upgrad", 7)
    assert config.training.tasks == ("fraud", "click")
    assert config.network.shape.dropout == 0.0
    assert config.network.shape.expert_out == PRESETS["tiny"].expert_out
    assert config.tasks == {"fraud": {"positive_weight": 3.0}}
    assert config.search.ranges == {"training.learning_rate": SearchRange(low=1e-4, high=1e-2, log=True)}
    assert config.changed({"training.epochs": 9}).training.epochs == 9
    assert config.training.epochs == 7


def test_a_file_anywhere_is_read_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 2\n[source]\nkind = 'log'\n")
    config = load_config(path)
    assert (config.name, config.training, config.source) == ("mine", TrainingOptions(epochs=2), {"kind": "log"})
    path.write_text("[training\n")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"no such configuration; give a TOML file, or one of .*demo"):
        load_config("dmo")


def test_tasks_are_chosen_and_changed_by_name() -> None:
    assert load_config("tiny").chosen_tasks(TASKS) == TASKS
    chosen = load_config("tiny", {"training.tasks": ["a"], "tasks.a.weight": 3}).chosen_tasks(TASKS)
    assert [(task.name, task.weight) for task in chosen] == [("a", 3.0)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.tasks": ["c"]}, "training.tasks: c: the data set has no such task; there are a, b"),
        ({"tasks.c.weight": 1}, "tasks: c: the data set has no such task"),
        ({"training.tasks": ["b"]}, "b: is given a, which is not trained; name a too"),
    ],
)
def test_tasks_that_there_are_not_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("tiny", changes).chosen_tasks(TASKS)
    assert said in str(refused.value)


def test_reading_a_configuration_does_not_import_torch() -> None:
    code = "import sys; from training.config import load_config; load_config('demo'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
