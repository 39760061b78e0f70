"""Tasks: one declaration, refused as a whole with everything that is wrong; and what they and inputs become in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from model.contract import INPUTS, OUTPUTS
from model.inputs import EventInputs, SequenceInputs, TableInputs, TextInputs, inputs_from_json, json_from_inputs
from model.tasks import SHOP_TASKS, Task, check_tasks, tasks_from_json
from stream_app.events import INTENTS, NEXT_ACTIONS


def test_the_shops_tasks_hold_all_that_is_served_with_the_vocabularies_of_events() -> None:
    check_tasks(SHOP_TASKS)
    by_name = {task.name: task for task in SHOP_TASKS}
    assert {spec.name for spec in OUTPUTS} <= set(by_name)
    assert by_name["intent"].classes == INTENTS
    assert by_name["next_action"].classes == NEXT_ACTIONS
    assert by_name["conversion"].given == "click"


def test_a_tasks_metric_is_its_kinds_unless_it_names_one() -> None:
    assert [task.metric for task in SHOP_TASKS] == ["average_precision", "accuracy", "accuracy", "auc", "auc", "recall_at_20"]


GOOD = Task(name="a", kind="binary", label="a")
CHAIN = replace(GOOD, name="b", given="c"), replace(GOOD, name="c", given="a")


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ((), "no task"),
        ((GOOD, GOOD), "declared 2 times"),
        ((replace(GOOD, name="two words"),), "no identifier"),
        ((replace(GOOD, kind="ordinal"),), "'ordinal' is none of binary, classes, retrieval"),  # type: ignore[arg-type]
        ((replace(GOOD, calibration="platt"),), "'platt' is none of none"),  # type: ignore[arg-type]
        ((replace(GOOD, weight=-1.0),), "below zero"),
        ((replace(GOOD, positive_weight=0.0),), "positive_weight is 0"),
        ((GOOD, replace(GOOD, name="b", given="a", positive_weight=2.0)), "for binary tasks without `given`"),
        ((Task(name="k", kind="classes", label="k", classes=("x",)),), "1 class names; give two"),
        ((Task(name="k", kind="classes", label="k", classes=("x", "y"), class_weights=(1.0,)),), "1 class_weights for 2 classes"),
        ((replace(GOOD, given="z"),), "given 'z' must be a declared binary task"),
        ((GOOD, *CHAIN), "given 'c' must be"),
        ((Task(name="r", kind="retrieval", label="r"), Task(name="s", kind="retrieval", label="r")), "2 of kind retrieval"),
    ],
)
def test_tasks_that_cannot_be_are_refused_with_the_fix(tasks: tuple[Task, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_tasks(tasks)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"task a: .*task b: .*"):
        check_tasks((replace(GOOD, weight=-1.0), replace(GOOD, name="b", given="nothing")))


def test_tasks_come_back_from_a_file() -> None:
    tasks = (*SHOP_TASKS, Task(name="k", kind="classes", label="k", classes=("x", "y"), class_weights=(1.0, 2.0)))
    assert tasks_from_json(json.loads(json.dumps([asdict(task) for task in tasks]))) == tasks


@pytest.mark.parametrize(
    "inputs",
    [EventInputs(7), TableInputs(3, (4, 5), 2), TextInputs(100, 12, 30, 16, "some/where", 512), SequenceInputs(40, 20)],
)
def test_inputs_come_back_from_a_file(inputs: EventInputs | TableInputs | TextInputs | SequenceInputs) -> None:
    assert inputs_from_json(json.loads(json.dumps(json_from_inputs(inputs)))) == inputs


def test_inputs_of_a_kind_nobody_knows_are_refused() -> None:
    with pytest.raises(ValueError, match="'video', known are event, table, text, sequence"):
        inputs_from_json({"kind": "video"})


def test_events_have_the_tensors_of_the_contract_and_others_only_what_they_need() -> None:
    assert [spec.name for spec in EventInputs(7).tensors()] == [spec.name for spec in INPUTS]
    assert EventInputs(7).tensors()[0].shape == (7,)
    assert [spec.name for spec in TableInputs(0, (4,)).tensors()] == ["categories"]
    assert [spec.name for spec in TableInputs(2, (), 3).tensors()] == ["dense", "scene"]
    assert [spec.name for spec in TextInputs(9, 4).tensors()] == ["tokens"]
    assert [spec.name for spec in TextInputs(9, 4, 5, 2).tensors()] == ["tokens", "grams", "gram_values", "scene"]
