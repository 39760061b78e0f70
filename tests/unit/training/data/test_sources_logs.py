"""Training sets from logs: what `millrace import` would send, in its canonical order, with labels that were known in time."""

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
from training.data.task_choice import choose_tasks, lacking

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
    found = read([first, second], everything(mapping))
    assert found.time_ms.tolist() == [100_000, 100_000, 200_000, 300_000]
    kinds = [KINDS[code] for code in found.inputs["context"][:, 0]]
    assert kinds == ["view", "click", "cart", "order"]  # of the same second: the first file first
    assert found.key.tolist() == [0] * 4
    assert found.table is not None
    assert found.table.ids == ["x1", "x9"]


def test_features_are_of_everything_before_and_of_nothing_after(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 60 * n, "see", f"x{n}") for n in range(12)]
    days = {"train": ["1970-01-01T00:05:00", "1970-01-01T00:09:00"], "test": ["1970-01-01T00:10:00", "1970-01-02"]}
    found = read([written(tmp_path / "log.csv", lines)], source(mapping, split=days, leave=False, session_gap_minutes=1))
    views = found.inputs["dense"][:, found.feature_names.index("user_views_1h")]
    assert views.tolist() == [5, 6, 7, 8, 10, 11][: len(found)]  # rows before the range count as past, and are no rows
    assert found.split.tolist() == [0, 0, 0, 0, 2, 2][: len(found)]


def test_what_comes_twice_or_too_late_is_no_row_and_refused_rows_are_counted(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 60, "see", "x1"), line("a", 120, "jump", "x1"), line("a", 180, "pay", "x1")]
    log = written(tmp_path / "log.csv", [*lines, line("z", DAY_S // 2, "see", "x1")])
    once, twice = read([log], everything(mapping)), read([log, log], everything(mapping))
    assert once.notes["rows refused"] == 1
    assert twice.notes["rows refused"] == 2
    assert len(twice) == len(once)
    assert twice.notes["late or repeated events"] == len(once)
    for name, value in once.inputs.items():
        assert np.array_equal(value, twice.inputs[name]), name


def test_what_the_test_range_told_was_not_known_when_the_training_began(tmp_path: Path, mapping: Path) -> None:
    begin = DAY_S  # of the test range
    lines = [
        line("a", begin - 7_200, "see", "x1"),  # over before
        line("b", begin - 60, "see", "x1"),  # what came next, came before; whether it was a sale did not
        line("b", begin - 30, "like", "x1"),
        line("b", begin + 30, "pay", "x1"),
        line("z", 2 * DAY_S - 1, "see", "x1"),
    ]
    found = read([written(tmp_path / "log.csv", lines)], everything(mapping))
    actions = [NEXT_ACTIONS[code] if code != UNKNOWN else "?" for code in found.labels["next_action"]]
    assert actions == ["leave", "click", "?", "leave"]
    assert found.labels["conversion"].tolist() == [0, UNKNOWN, UNKNOWN, UNKNOWN]
    assert found.split.tolist() == [0, 0, 0, 2]


def test_the_protocol_of_sessions_keeps_each_session_whole_not_each_user(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for visit in range(10):
        at = visit * 7_200
        lines += [line("a", at, "see", "x1"), line("a", at + 5, "like", "x1"), line("a", at + 9, "see", "x2")]
    found = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "see", "x1")])], source(mapping), "sessions")
    of_session = found.split.reshape(-1, 3)
    assert (of_session == of_session[:, :1]).all()
    assert set(found.split.tolist()) == {0, 1, 2}


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
    found = read([written(tmp_path / "log.csv", lines)], everything(mapping))
    actions = [NEXT_ACTIONS[code] if code != UNKNOWN else "?" for code in found.labels["next_action"]]
    # b's first event had half an hour to be followed by something, so what followed it counts; its second had not.
    assert actions == ["cart", "leave", "leave", "click"]
    intents = [INTENTS[code] if code != UNKNOWN else "?" for code in found.labels["intent"]]
    assert intents == ["look", "look", "other", "?"]
    assert found.labels["click"].tolist() == [1, UNKNOWN, 0, UNKNOWN]
    assert found.labels["conversion"].tolist() == [0, UNKNOWN, 0, UNKNOWN]


def test_the_next_item_can_be_that_of_the_next_event_or_its_category(tmp_path: Path, mapping: Path) -> None:
    steps = [("x1", "see"), ("y1", "see"), ("y2", "like"), ("x1", "see")]
    lines = [line("a", 10 * n, what, thing) for n, (thing, what) in enumerate(steps)]
    log = written(tmp_path / "log.csv", [*lines, line("z", DAY_S // 2, "see", "q1")])

    def wanted(recommend: str) -> list[str]:
        found = read([log], everything(mapping, recommend=recommend))
        assert found.table is not None
        return [found.table.ids[row] if row != UNKNOWN else "" for row in found.labels["next_item"][:4]]

    assert wanted("engaged item") == ["y2", "y2", "", ""]
    assert wanted("next item") == ["y1", "y2", "x1", ""]
    assert wanted("next category") == ["y", "y", "x", ""]


def test_a_row_can_be_the_sequence_of_what_the_user_touched_up_to_the_event(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 10 * n, "see", thing) for n, thing in enumerate(("x1", "y1", "y2", "x2"))]
    log = written(
        tmp_path / "log.csv",
        [*lines, line("b", 15, "see", "z1"), line("b", DAY_S + 5, "see", "q1"), line("b", DAY_S + 9, "see", "x1")],
    )
    settings = everything(mapping, rows="sequence", length=3, recommend="next category", leave=False, session_gap_minutes=9_000)
    found = read([log], settings, tasks=("user_vector",))
    assert found.table is not None
    assert found.table.ids == ["x", "y", "z"]
    assert [task.name for task in found.tasks] == ["user_vector"]
    assert found.inputs["sequence"].tolist() == [[0, 0, 1], [0, 1, 2], [0, 0, 3], [1, 2, 2], [0, 0, 3]]
    # What follows in the test range was not known when the training began; what the training range lacks is no item.
    assert found.labels["next_item"].tolist() == [1, 1, UNKNOWN, 0, 0]
    assert found.split.tolist() == [0, 0, 0, 0, 2]


def test_an_item_that_nobody_had_touched_in_the_training_range_is_counted_and_not_asked(tmp_path: Path, mapping: Path) -> None:
    old = [line("a", 10, "see", "x1"), line("a", 20, "like", "x2")]
    new = [line("a", DAY_S + 10, "see", "x1"), line("a", DAY_S + 20, "like", "n1"), line("z", 3 * DAY_S, "see", "q1")]
    found = read([written(tmp_path / "log.csv", [*old, *new])], everything(mapping))
    assert found.table is not None
    assert found.table.ids == ["x1", "x2"]
    assert found.labels["next_item"].tolist() == [1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert found.notes["next items unknown to the training range"] == 1


def test_silence_is_honest_once_it_has_lasted_for_the_delay_of_complaints(tmp_path: Path, mapping: Path) -> None:
    hours = (1, 12, 25, 30, 49, 50)
    lines = [line("a", hour * 3_600, "pay", "x1", bad=hour in {12, 30, 50}) for hour in hours]
    days = {"train": ["1970-01-01", "1970-01-03"], "test": ["1970-01-03", "1970-01-04"]}
    found = read([written(tmp_path / "log.csv", lines)], source(mapping, split=days), tasks=("fraud",))
    # Trained at 48 h with complaints that take 24 h: what happened after 24 h may still be complained of.
    assert found.labels["fraud"].tolist() == [0, 1, UNKNOWN, UNKNOWN, 0, 1]
    looks = [line("b", 3_600, "see", "x1")]
    both = read([written(tmp_path / "log.csv", [*lines, *looks])], source(mapping, split=days))
    assert both.labels["fraud"][both.inputs["context"][:, 0] == KINDS.index("view")].tolist() == [UNKNOWN]  # no view ever was one


def test_verdicts_say_themselves_from_when_on_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.toml"
    path.write_text(
        MAPPING.replace('where = { bad = ["yes"] }', "").replace(
            "value = 1", 'value = { column = "bad", map = { yes = 1, no = 0 } }'
        )
    )
    lines = [line("a", hour * 3_600, "pay", "x1", bad=hour == 12) for hour in (1, 12, 25, 49)]
    days = {"train": ["1970-01-01", "1970-01-03"], "test": ["1970-01-03", "1970-01-04"]}
    found = read([written(tmp_path / "log.csv", lines)], source(path, split=days), tasks=("fraud",))
    assert found.labels["fraud"].tolist() == [0, 1, UNKNOWN, 0]


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
    plain = read([log], source(mapping, split=days), tasks=("fraud",))
    told = read([log], source(mapping, split=days, complaints={}), tasks=("fraud",))
    carts = told.feature_names.index("item_cart_rate_7d")
    quiet, heard = plain.inputs["dense"][:, carts], told.inputs["dense"][:, carts]
    assert len(plain) == len(told) == 4  # a complaint is no row
    assert np.array_equal(quiet, np.full(4, np.float32(1 / 20)))
    assert heard.tolist() == pytest.approx([1 / 20, 1 / 20, 1 / 20, 2 / 20])  # (carts + 1) / (browses + 20)


def test_a_reminder_brings_a_complaint_up_again_for_its_category_alone(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", 0, "pay", "x1", bad=True), *(line("b", day * DAY_S, "pay", "x1") for day in (2, 9, 12))]
    days = {"train": ["1970-01-01", "1970-01-05"], "test": ["1970-01-05", "1970-01-20"]}
    log = written(tmp_path / "log.csv", lines)
    told = read([log], source(mapping, split=days, complaints={"reminders_days": [10]}), tasks=("fraud",))
    of_item, of_category = (
        told.inputs["dense"][:, told.feature_names.index(f"{kind}_cart_rate_7d")] for kind in ("item", "category")
    )
    # Known on day 1, brought up on day 11; on day 9 a week has passed, and on day 12 only the category hears of it.
    assert of_item.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 1 / 20])
    assert of_category.tolist() == pytest.approx([1 / 20, 2 / 20, 1 / 20, 2 / 20])
    assert told.key.tolist() == [0, 1, 1, 1]


def test_with_the_protocol_of_cards_the_weeks_between_stay_with_their_truth(tmp_path: Path, mapping: Path) -> None:
    lines = [line("a", day * DAY_S + 60, "pay", "x1", bad=day in {0, 2}) for day in range(6)]
    days = {"train": ["1970-01-01", "1970-01-02"], "test": ["1970-01-05", "1970-01-06"]}
    log = written(tmp_path / "log.csv", lines)
    found = read([log], source(mapping, split=days), "cards", ("fraud",))
    assert found.split.tolist() == [0, LEFT_OUT, LEFT_OUT, LEFT_OUT, 2]
    assert found.labels["fraud"].tolist() == [1, 0, 1, 0, 0]
    assert read([log], source(mapping, split=days), "time", ("fraud",)).split.tolist() == [0, 2]


def test_tasks_without_labels_are_left_out_and_refused_when_they_are_asked_for(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for user in range(12):
        at = user * 1_800 * 2
        lines += [line(f"u{user}", at, "see", "x1"), line(f"u{user}", at + 9, "see" if user % 2 else "basket", "x2")]
    found = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "see", "x1")])], source(mapping))
    names, skipped = choose_tasks(found, ())
    assert "next_action" in names
    assert set(names) | set(skipped) == {task.name for task in SHOP_TASKS}
    assert 'topic = "labels"' in skipped["fraud"]
    with pytest.raises(ContractError) as said:
        choose_tasks(found, ("fraud", "next_action"))
    assert "task fraud: none of the" in str(said.value)
    assert "--tasks" in str(said.value)
    assert "next_action" not in str(said.value).split("Operator")[0].replace("'next_action'", "")
    with pytest.raises(ConfigError, match="--tasks names taste; this data set has the tasks fraud, intent"):
        choose_tasks(found, ("taste",))


def test_a_task_with_one_answer_alone_cannot_be_learnt(tmp_path: Path, mapping: Path) -> None:
    lines = [line(f"u{n}", n * 3_600, "pay", "x1") for n in range(40)]
    found = read([written(tmp_path / "log.csv", [*lines, line("z", 2 * DAY_S, "pay", "x1")])], source(mapping))
    by_name = {task.name: task for task in SHOP_TASKS}
    assert "are buy, there is nothing to tell apart" in lacking(found, by_name["intent"])
    with pytest.raises(ContractError, match="No task can be learnt"):
        choose_tasks(found, ())


def test_conversion_is_not_learnt_without_click(tmp_path: Path, mapping: Path) -> None:
    lines = []
    for user in range(20):
        lines += [line(f"u{user}", user * 3_600, "see", "x1")]
        lines += [line(f"u{user}", user * 3_600 + 5, "pay", "x1")] if user % 2 else []
    found = read([written(tmp_path / "log.csv", [*lines, line("z", DAY_S, "pay", "x1")])], source(mapping))
    assert choose_tasks(found, ("click", "conversion"))[0] == ("click", "conversion")
    with pytest.raises(ContractError, match="conversion: it is learnt over click"):
        choose_tasks(found, ("conversion",))


def test_a_log_without_mapping_file_or_events_says_what_to_give(tmp_path: Path, mapping: Path) -> None:
    log = written(tmp_path / "log.csv", [line("a", 60, "jump", "x1")])
    with pytest.raises(ConfigError, match=r"--mapping NAME or FILE.toml. Packaged are card_complaints, cards"):
        read([log], {"kind": "log"})
    with pytest.raises(ConfigError, match="--data FILE"):
        read([], source(mapping))
    with pytest.raises(ConfigError, match=r"\[source\].*gap.*session_gap_minutes"):
        read([log], source(mapping, gap=3))
    with pytest.raises(InputFileError, match=r"none of 1 rows is an event.*no record of the mapping takes this row"):
        read([log], source(mapping))


def test_kinds_of_sources_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind = 'graph': there is none; it is one of simulation, log"):
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
    found = read([log], {"kind": "log", "mapping": "taobao", "leave": False}, tasks=("next_action",))
    assert found.notes["rows refused"] == 0
    names, _ = choose_tasks(found, ("next_action",))
    assert names == ("next_action",)
    actions = found.labels["next_action"]
    assert 0.85 < (actions[actions != UNKNOWN] == NEXT_ACTIONS.index("view")).mean() < 0.95
    assert (found.labels["next_action"] != NEXT_ACTIONS.index("leave")).all()
