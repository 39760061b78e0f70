"""Training sets from logs: the events of `millrace import` in canonical order, with the labels known in time."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.tasks import SHOP_TASKS
from stream_app.errors import ConfigError, ContractError, InputFileError
from stream_app.events import INTENTS, KINDS, NEXT_ACTIONS
from tests.unit.training.data.visits import HEADER, MAPPING, line
from training.data.dataset import LEFT_OUT, UNKNOWN, Dataset
from training.data.sources import dataset_from
from training.data.sources.logs import dataset_from_log
from training.data.task_choice import choose_tasks, why_not_learnable

MINUTE_S = 60
DAY_S = 86_400
REAL = Path(__file__).resolve().parents[5] / "shared" / "data"


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "visits.toml"
    path.write_text(MAPPING)
    return path


def source(mapping: Path, **settings: Any) -> dict[str, Any]:
    return {"kind": "log", "mapping": str(mapping), **settings}


def written(path: Path, lines: list[str]) -> Path:
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.write(HEADER + "".join(lines))
    return path


def read(paths: list[Path], settings: dict[str, Any], protocol: str = "time", tasks: tuple[str, ...] = ()) -> Dataset:
    return dataset_from_log(paths, settings, lambda _: None, protocol, tasks)


def everything(mapping: Path, **settings: Any) -> dict[str, Any]:
    """Settings by which all rows of a day in 1970 are for training, and the next day is for the test."""
    days = {"train": ["1970-01-01", "1970-01-02"], "test": ["1970-01-02", "1970-01-03"]}
    return source(mapping, split=days, **settings)


def test_files_are_read_as_one_log_in_order_of_event_time(tmp_path: Path, mapping: Path) -> None:
    late = [line("a", 100, "see", "x1"), line("a", 300, "pay", "x1"), line("b", 4 * DAY_S, "see", "x2")]
    first = written(tmp_path / "one.csv.gz", late)
    second = written(tmp_path / "two.csv", [line("a", 200, "basket", "x1"), line("a", 100, "like", "x9")])
    dataset = read([first, second], everything(mapping))
    assert dataset.time_ms.tolist() == [100_000, 100_000, 200_000, 300_000]
    kinds = [KINDS[code] for code in dataset.inputs["context"][:, 0]]
    assert kinds == ["view", "click", "cart", "order"]  # of the same second: the first file first
    assert dataset.key.tolist() == [0] * 4
    assert dataset.table is not None
    assert dataset.table.ids == ["x1", "x9"]


def test_features_include_all_earlier_events_and_no_later_one(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 60 * n, "see", f"x{n}") for n in range(12)]
    days = {"train": ["1970-01-01T00:05:00", "1970-01-01T00:09:00"], "test": ["1970-01-01T00:10:00", "1970-01-02"]}
    dataset = read([written(tmp_path / "log.csv", lines)], source(mapping, split=days, leave=False, session_gap_minutes=1))
    views = dataset.inputs["dense"][:, dataset.feature_names.index("user_views_1h")]
    assert views.tolist() == [5, 6, 7, 8, 10, 11][: len(dataset)]  # rows before the range count as past, and are no rows
    assert dataset.split.tolist() == [0, 0, 0, 0, 2, 2][: len(dataset)]


def test_duplicates_and_late_events_are_no_rows_and_refused_rows_are_counted(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 60, "see", "x1"), line("a", 120, "jump", "x1"), line("a", 180, "pay", "x1")]
    log = written(tmp_path / "log.csv", [*lines, line("z", DAY_S // 2, "see", "x1")])
    once, twice = read([log], everything(mapping)), read([log, log], everything(mapping))
    assert once.notes["rows refused"] == 1
    assert twice.notes["rows refused"] == 2
    assert len(twice) == len(once)
    assert twice.notes["late or repeated events"] == len(once)
    for name, value in once.inputs.items():
        assert np.array_equal(value, twice.inputs[name]), name


def test_labels_of_the_test_range_are_unknown_when_the_training_begins(tmp_path: Path, mapping: Path) -> None:
    begin = DAY_S  # of the test range
    lines = [
        line("a", begin - 7_200, "see", "x1"),  # over before
        line("b", begin - 60, "see", "x1"),  # what came next, came before; whether it was a sale did not
        line("b", begin - 30, "like", "x1"),
        line("b", begin + 30, "pay", "x1"),
        line("z", 2 * DAY_S - 1, "see", "x1"),
    ]
    dataset = read([written(tmp_path / "log.csv", lines)], everything(mapping))
    actions = [NEXT_ACTIONS[code] if code != UNKNOWN else "?" for code in dataset.labels["next_action"]]
    assert actions == ["leave", "click", "?", "leave"]
    assert dataset.labels["conversion"].tolist() == [0, UNKNOWN, UNKNOWN, UNKNOWN]
    assert dataset.split.tolist() == [0, 0, 0, 2]


def test_the_protocol_of_sessions_keeps_each_session_whole_not_each_user(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for visit in range(10):
        at = visit * 7_200
        lines += [line("a", at, "see", "x1"), line("a", at + 5, "like", "x1"), line("a", at + 9, "see", "x2")]
    dataset = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "see", "x1")])], source(mapping), "sessions")
    of_session = dataset.split.reshape(-1, 3)
    assert (of_session == of_session[:, :1]).all()
    assert set(dataset.split.tolist()) == {0, 1, 2}


def test_a_pause_ends_a_session_and_only_what_is_over_has_labels(tmp_path: Path, mapping: Path) -> None:
    gap = 30 * MINUTE_S
    lines = [
        line("a", 0, "see", "x1"),
        line("a", 60, "basket", "x1"),
        line("a", 60 + gap + 1, "see", "x2"),  # another session, and alone in it
        line("b", 3 * gap, "see", "x3"),
        line("b", 3 * gap + 10, "like", "x3"),
        line("b", 4 * gap - 1, "see", "x4"),  # the log ends at 4 gaps + 5: b may still go on
        line("c", 4 * gap + 5, "see", "x5"),
    ]
    dataset = read([written(tmp_path / "log.csv", lines)], everything(mapping))
    actions = [NEXT_ACTIONS[code] if code != UNKNOWN else "?" for code in dataset.labels["next_action"]]
    # b's first event had half an hour to be followed by something, so what followed it counts; its second had not.
    assert actions == ["cart", "leave", "leave", "click"]
    intents = [INTENTS[code] if code != UNKNOWN else "?" for code in dataset.labels["intent"]]
    assert intents == ["look", "look", "other", "?"]
    assert dataset.labels["click"].tolist() == [1, UNKNOWN, 0, UNKNOWN]
    assert dataset.labels["conversion"].tolist() == [0, UNKNOWN, 0, UNKNOWN]


def test_the_next_item_can_be_that_of_the_next_event_or_its_category(tmp_path: Path, mapping: Path) -> None:
    steps = [("x1", "see"), ("y1", "see"), ("y2", "like"), ("x1", "see")]
    lines = [line("a", 10 * n, what, thing) for n, (thing, what) in enumerate(steps)]
    log = written(tmp_path / "log.csv", [*lines, line("z", DAY_S // 2, "see", "q1")])

    def next_items(recommend: str) -> list[str]:
        dataset = read([log], everything(mapping, recommend=recommend))
        assert dataset.table is not None
        return [dataset.table.ids[row] if row != UNKNOWN else "" for row in dataset.labels["next_item"][:4]]

    assert next_items("engaged item") == ["y2", "y2", "", ""]
    assert next_items("next item") == ["y1", "y2", "x1", ""]
    assert next_items("next category") == ["y", "y", "x", ""]


def test_a_row_can_be_the_sequence_of_the_users_items_up_to_the_event(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 10 * n, "see", thing) for n, thing in enumerate(("x1", "y1", "y2", "x2"))]
    log = written(
        tmp_path / "log.csv",
        [*lines, line("b", 15, "see", "z1"), line("b", DAY_S + 5, "see", "q1"), line("b", DAY_S + 9, "see", "x1")],
    )
    settings = everything(mapping, rows="sequence", length=3, recommend="next category", leave=False, session_gap_minutes=9_000)
    dataset = read([log], settings, tasks=("user_vector",))
    assert dataset.table is not None
    assert dataset.table.ids == ["x", "y", "z"]
    assert [task.name for task in dataset.tasks] == ["user_vector"]
    assert dataset.inputs["sequence"].tolist() == [[0, 0, 1], [0, 1, 2], [0, 0, 3], [1, 2, 2], [0, 0, 3]]
    # What follows in the test range was not known when the training began; what the training range lacks is no item.
    assert dataset.labels["next_item"].tolist() == [1, 1, UNKNOWN, 0, 0]
    assert dataset.split.tolist() == [0, 0, 0, 0, 2]


def test_an_item_outside_of_the_training_range_is_counted_and_no_target(tmp_path: Path, mapping: Path) -> None:
    old = [line("a", 10, "see", "x1"), line("a", 20, "like", "x2")]
    new = [line("a", DAY_S + 10, "see", "x1"), line("a", DAY_S + 20, "like", "n1"), line("z", 3 * DAY_S, "see", "q1")]
    dataset = read([written(tmp_path / "log.csv", [*old, *new])], everything(mapping))
    assert dataset.table is not None
    assert dataset.table.ids == ["x1", "x2"]
    assert dataset.labels["next_item"].tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert dataset.notes["next items unknown to the training range"] == 1


def test_an_event_is_honest_once_it_is_older_than_the_delay_of_complaints(tmp_path: Path, mapping: Path) -> None:
    hours = (1, 12, 25, 30, 49, 50)
    lines = [line("a", hour * 3_600, "pay", "x1", bad=hour in {12, 30, 50}) for hour in hours]
    days = {"train": ["1970-01-01", "1970-01-03"], "test": ["1970-01-03", "1970-01-04"]}
    dataset = read([written(tmp_path / "log.csv", lines)], source(mapping, split=days), tasks=("fraud",))
    # Trained at 48 h with complaints that take 24 h: what happened after 24 h may still be complained of.
    assert dataset.labels["fraud"].tolist() == [0, 1, UNKNOWN, UNKNOWN, 0, 1]
    looks = [line("b", 3_600, "see", "x1")]
    both = read([written(tmp_path / "log.csv", [*lines, *looks])], source(mapping, split=days))
    assert both.labels["fraud"][both.inputs["context"][:, 0] == KINDS.index("view")].tolist() == [UNKNOWN]  # no view ever was one


def test_labels_of_honest_events_are_known_from_their_label_time(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.toml"
    path.write_text(
        MAPPING.replace('where = { bad = ["yes"] }', "").replace(
            "value = 1", 'value = { column = "bad", map = { yes = 1, no = 0 } }'
        )
    )
    lines = [line("a", hour * 3_600, "pay", "x1", bad=hour == 12) for hour in (1, 12, 25, 49)]
    days = {"train": ["1970-01-01", "1970-01-03"], "test": ["1970-01-03", "1970-01-04"]}
    dataset = read([written(tmp_path / "log.csv", lines)], source(path, split=days), tasks=("fraud",))
    assert dataset.labels["fraud"].tolist() == [0, 1, UNKNOWN, 0]


def test_labels_that_name_no_event_or_several_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    head, tail = MAPPING.rsplit('event_id = "{file}-{row}"', 1)
    path.write_text(f'{head}event_id = "{{row}}"{tail}')
    log = written(tmp_path / "log.csv", [line("a", 60, "pay", "x1", bad=True)])
    with pytest.raises(ContractError, match=r"1 fraud labels .* no event has one of those ids.*Operator action"):
        read([log], source(path))
    path.write_text(MAPPING.replace("{file}-{row}", "{row}"))
    other = written(tmp_path / "other.csv", [line("b", 90, "pay", "x1", bad=True)])
    with pytest.raises(ContractError, match=r"2 different events share 1 of them.*use \{file\}"):
        read([log, other], source(path))


def test_a_known_fraud_can_come_back_as_an_event_and_never_before_it_was_known(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 0, "pay", "x1", bad=True), *(line("b", hour * 3_600, "pay", "x1") for hour in (23, 24, 25))]
    days = {"train": ["1970-01-01", "1970-01-02"], "test": ["1970-01-02", "1970-01-03"]}
    log = written(tmp_path / "log.csv", lines)
    without = read([log], source(mapping, split=days), tasks=("fraud",))
    complained = read([log], source(mapping, split=days, complaints={}), tasks=("fraud",))
    carts = complained.feature_names.index("item_cart_rate_7d")
    quiet, later = without.inputs["dense"][:, carts], complained.inputs["dense"][:, carts]
    assert len(without) == len(complained) == 4  # a complaint is no row
    assert np.array_equal(quiet, np.full(4, np.float32(1 / 20)))
    assert later.tolist() == pytest.approx([1 / 20, 1 / 20, 1 / 20, 2 / 20])  # (carts + 1) / (browses + 20)


def test_a_reminder_repeats_a_complaint_for_its_category_alone(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 0, "pay", "x1", bad=True), *(line("b", day * DAY_S, "pay", "x1") for day in (2, 9, 12))]
    days = {"train": ["1970-01-01", "1970-01-05"], "test": ["1970-01-05", "1970-01-20"]}
    log = written(tmp_path / "log.csv", lines)
    complained = read([log], source(mapping, split=days, complaints={"reminders_days": [10]}), tasks=("fraud",))
    of_item, of_category = (
        complained.inputs["dense"][:, complained.feature_names.index(f"{kind}_cart_rate_7d")] for kind in ("item", "category")
    )
    # Known on day 1, brought up on day 11; on day 9 a week has passed, and on day 12 only the category hears of it.
    assert of_item.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 1 / 20])
    assert of_category.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 2 / 20])
    assert complained.key.tolist() == [0, 1, 1, 1]


def test_the_protocol_cards_keeps_rows_between_the_ranges_with_their_labels(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", day * DAY_S + 60, "pay", "x1", bad=day in {0, 2}) for day in range(6)]
    days = {"train": ["1970-01-01", "1970-01-02"], "test": ["1970-01-05", "1970-01-06"]}
    log = written(tmp_path / "log.csv", lines)
    dataset = read([log], source(mapping, split=days), "cards", ("fraud",))
    assert dataset.split.tolist() == [0, LEFT_OUT, LEFT_OUT, LEFT_OUT, 2]
    assert dataset.labels["fraud"].tolist() == [1, 0, 1, 0, 0]
    assert read([log], source(mapping, split=days), "time", ("fraud",)).split.tolist() == [0, 2]


def test_tasks_without_labels_are_left_out_and_refused_when_they_are_named(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for user in range(12):
        at = user * 1_800 * 2
        lines += [line(f"u{user}", at, "see", "x1"), line(f"u{user}", at + 9, "see" if user % 2 else "basket", "x2")]
    dataset = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "see", "x1")])], source(mapping))
    names, skipped = choose_tasks(dataset, ())
    assert "next_action" in names
    assert set(names) | set(skipped) == {task.name for task in SHOP_TASKS}
    assert 'topic = "labels"' in skipped["fraud"]
    with pytest.raises(ConfigError) as error:
        choose_tasks(dataset, ("fraud", "next_action"))
    assert "task fraud: none of the" in str(error.value)
    assert "--tasks" in str(error.value)
    assert "next_action" not in str(error.value).split("Operator")[0].replace("'next_action'", "")
    with pytest.raises(ConfigError, match="--tasks names taste; this data set has the tasks fraud, intent"):
        choose_tasks(dataset, ("taste",))


def test_a_task_with_one_label_value_cannot_be_learnt(tmp_path: Path, mapping: Path) -> None:
    lines = [line(f"u{n}", n * 3_600, "pay", "x1") for n in range(40)]
    dataset = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "pay", "x1")])], source(mapping))
    by_name = {task.name: task for task in SHOP_TASKS}
    assert "are buy, there is nothing to tell apart" in why_not_learnable(dataset, by_name["intent"])
    with pytest.raises(ConfigError, match="No task can be learnt"):
        choose_tasks(dataset, ())


def test_conversion_is_not_learnt_without_click(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for user in range(20):
        lines += [line(f"u{user}", user * 3_600, "see", "x1")]
        lines += [line(f"u{user}", user * 3_600 + 5, "pay", "x1")] if user % 2 else []
    dataset = read([written(tmp_path / "log.csv", [*lines, line("z", DAY_S, "pay", "x1")])], source(mapping))
    assert choose_tasks(dataset, ("click", "conversion"))[0] == ("click", "conversion")
    with pytest.raises(ConfigError, match="conversion: it is conditional on click"):
        choose_tasks(dataset, ("conversion",))


def test_a_log_without_mapping_file_or_events_is_refused_with_the_fix(tmp_path: Path, mapping: Path) -> None:
    log = written(tmp_path / "log.csv", [line("a", 60, "jump", "x1")])
    with pytest.raises(ConfigError, match=r"--mapping NAME or FILE.toml. Packaged are card_complaints, cards"):
        read([log], {"kind": "log"})
    with pytest.raises(ConfigError, match="--data FILE"):
        read([], source(mapping))
    with pytest.raises(ConfigError, match=r"\[source\].*gap.*session_gap_minutes"):
        read([log], source(mapping, gap=3))
    with pytest.raises(InputFileError, match=r"none of 1 rows is an event.*no record of the mapping takes this row"):
        read([log], source(mapping))


def test_an_unknown_kind_of_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind = 'graph': no such kind; it is one of simulation, log"):
        dataset_from({"kind": "graph"}, [], lambda _: None)
    with pytest.raises(ConfigError, match="reads one --data"):
        dataset_from({"kind": "table"}, [], lambda _: None)
    with pytest.raises(ConfigError, match="source is a simulation"):
        dataset_from({"kind": "simulation"}, [tmp_path], lambda _: None)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data")
def test_a_real_clickstream_gives_rows_with_labels_of_all_kinds_but_fraud(tmp_path: Path) -> None:
    log = tmp_path / "part.csv"
    with gzip.open(REAL / "clickstream" / "taobao_user_behavior.csv.gz", "rt") as whole:
        log.write_text("".join(line for _, line in zip(range(60_000), whole, strict=False)))
    dataset = read([log], {"kind": "log", "mapping": "taobao", "leave": False}, tasks=("next_action",))
    assert dataset.notes["rows refused"] == 0
    names, _ = choose_tasks(dataset, ("next_action",))
    assert names == ("next_action",)
    actions = dataset.labels["next_action"]
    assert 0.85 < (actions[actions != UNKNOWN] == NEXT_ACTIONS.index("view")).mean() < 0.95
    assert (dataset.labels["next_action"] != NEXT_ACTIONS.index("leave")).all()
