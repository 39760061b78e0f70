"""A whole backtest over a simulated shop, against recounts of what it wrote and against the replay's own answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score

from stream_app.backtest.config import DAY_MS, load_config
from stream_app.backtest.report.page import html_from_json
from stream_app.backtest.run import Backtest
from stream_app.cli.logs.backtest import backtest
from stream_app.config import ModelSettings, Settings
from stream_app.errors import ConfigError, InputFileError
from stream_app.events import Click, Event, IntentLabel, Label
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import chunks_of, open_log
from stream_app.privacy import Pseudonymizer
from stream_app.replay.canonical import CanonicalReplay
from tests.scoring import scoring_engine, topic_of
from tests.unit.stream_app.backtest.shop import BEGIN_MS, DEMO, write_log


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, Any]:
    """What the command printed last."""
    asked = [
        str(folder / "shop.toml"),
        "--data",
        str(folder / "log.jsonl"),
        "--out",
        str(folder / "out"),
        "--draws",
        "20",
        "--json",
    ]
    done = CliRunner().invoke(backtest, [*asked, "--engine", "onnxruntime"], catch_exceptions=False)
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


@pytest.fixture(scope="module")
def decisions(folder: Path, written: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    assert written
    table = pq.read_table(folder / "out" / "decisions.parquet")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_a_model_is_judged_by_the_probabilities_that_a_worker_would_have_answered(
    folder: Path, decisions: dict[str, np.ndarray[Any, Any]]
) -> None:
    answered: dict[str, float] = {}
    settings = Settings(model=ModelSettings(engine="onnxruntime", path=str(DEMO)))
    with CanonicalReplay(settings, scoring_engine()) as replay:
        for batch in replay.batches(chunks_of(open_log([folder / "log.jsonl"]), 512)):
            for line in batch.messages["intent-labels"].values:
                label = msgspec.json.decode(line, type=IntentLabel)
                answered[label.event_id] = label.fraud_probability
    events = decisions["event_id"].tolist()
    assert len(events) > 100
    assert decisions["model_score"] == pytest.approx([answered[event] for event in events], abs=1e-5)


def test_figures_are_recounts_of_the_decisions(written: dict[str, Any], decisions: dict[str, np.ndarray[Any, Any]]) -> None:
    fraud, amount = decisions["fraud"] == 1, decisions["amount"]
    assert fraud.sum() > 5
    for name, found in written["candidates"].items():
        score, alert = decisions[f"{name}_score"], decisions[f"{name}_alert"]
        said = ~np.isnan(score)
        ranked = np.where(said, score, np.nanmin(score) - 1)
        assert found["average_precision"]["value"] == pytest.approx(average_precision_score(fraud, ranked), abs=1e-6)
        assert np.array_equal(alert, said & (score.astype(np.float64) >= decisions[f"{name}_threshold"]))
        assert found["without_a_score"] == (~said).sum()
        assert found["recall"]["value"] == pytest.approx((alert & fraud).sum() / fraud.sum())
        assert found["value_caught"]["value"] == pytest.approx(amount[alert & fraud].sum() / amount[fraud].sum())
        days = len(np.unique(decisions["event_time_ms"] // DAY_MS))
        assert found["alerts_per_day"]["value"] == pytest.approx(alert.sum() / days)
        cost = 4.0 * alert.sum() + (10.0 + amount)[fraud & ~alert].sum()
        assert found["cost_per_day"]["value"] == pytest.approx(cost / days)


def test_rules_rank_by_points_and_alert_when_one_fires(decisions: dict[str, np.ndarray[Any, Any]]) -> None:
    costly, quiet = decisions["amount"] >= 100, decisions["rules_score"] % 2 < 0.25
    assert set(np.unique(decisions["rules_score"])) <= {0.0, 0.5, 2.0, 2.5}
    assert np.array_equal(decisions["rules_score"] >= 2, costly)
    assert np.array_equal(decisions["rules_alert"], costly | ~quiet)


def test_every_changed_decision_is_listed_with_its_reasons(folder: Path, decisions: dict[str, np.ndarray[Any, Any]]) -> None:
    lines = [json.loads(line) for line in (folder / "out" / "changes-model-rules.jsonl").read_text().splitlines()]
    differ = decisions["model_alert"] != decisions["rules_alert"]
    assert [line["event_id"] for line in lines] == decisions["event_id"][differ].tolist()
    assert len(lines) > 3
    for line in lines:
        assert line["before"]["alert"] != line["after"]["alert"]
        assert bool(line["after"]["rules"]) == line["after"]["alert"]
        assert {"feature", "value", "usual"} == set(line["before"]["reasons"][0])


def test_what_changed_since_an_earlier_run_is_listed(
    folder: Path, decisions: dict[str, np.ndarray[Any, Any]], written: dict[str, Any]
) -> None:
    assert written
    (folder / "later.toml").write_text(
        (folder / "shop.toml").read_text() + "\n[candidates.newcomer]\nkind = 'feature'\nfeature = 'price'\n"
    )
    rules = (folder / "own.toml").read_text()
    (folder / "own.toml").write_text(rules.replace("at_least = 100", "at_least = 1e9"))
    asked = ["--data", str(folder / "log.jsonl"), "--out", str(folder / "later"), "--before", str(folder / "out"), "--draws", "5"]
    CliRunner().invoke(backtest, [str(folder / "later.toml"), *asked, "--engine", "onnxruntime"], catch_exceptions=False)
    (folder / "own.toml").write_text(rules)
    lines = [json.loads(line) for line in (folder / "later" / "changes-rules-before-rules.jsonl").read_text().splitlines()]
    only_costly = decisions["rules_score"] == 2
    assert only_costly.any()
    assert [line["event_id"] for line in lines] == decisions["event_id"][only_costly].tolist()
    assert (folder / "later" / "changes-model-before-model.jsonl").read_text() == ""
    assert not (folder / "later" / "changes-newcomer-before-newcomer.jsonl").exists()
    with pytest.raises(InputFileError, match="no decisions of an earlier backtest"):
        CliRunner().invoke(backtest, [str(folder / "shop.toml"), *asked[:4], "--before", str(folder)], catch_exceptions=False)


def test_who_was_known_when_the_day_began_is_not_judged(
    shop: list[Event | Label], decisions: dict[str, np.ndarray[Any, Any]]
) -> None:
    frauds = {label.event_id: label for label in shop if isinstance(label, Label) and label.task == "fraud"}

    def kind_of(event: Event) -> str:
        return event.action if isinstance(event, Click) else topic_of(event)

    events = {event.event_id: event for event in shop if isinstance(event, Event)}
    kinds = {kind_of(events[name]) for name in frauds}
    known: dict[str, int] = {}
    for name, label in frauds.items():
        if events[name].event_time_ms >= BEGIN_MS:
            known[label.user] = min(label.label_time_ms, known.get(label.user, label.label_time_ms))
    longest_ms = max(label.label_time_ms - events[name].event_time_ms for name, label in frauds.items())
    newest_ms = max(message.label_time_ms if isinstance(message, Label) else message.event_time_ms for message in shop)
    wanted = set()
    for event in events.values():
        day_ms = event.event_time_ms // DAY_MS * DAY_MS
        in_time = BEGIN_MS + 2 * DAY_MS <= event.event_time_ms < BEGIN_MS + 4 * DAY_MS
        old_enough = event.event_time_ms + longest_ms <= newest_ms
        if in_time and old_enough and kind_of(event) in kinds and known.get(event.user, day_ms + 1) > day_ms:
            wanted.add(event.event_id)
    assert len(wanted) < sum(
        kind_of(event) in kinds and event.event_time_ms >= BEGIN_MS + 2 * DAY_MS for event in events.values()
    )
    assert set(decisions["event_id"].tolist()) == wanted


def test_labels_that_come_later_change_figures_and_no_threshold(folder: Path, shop: list[Event | Label], tmp_path: Path) -> None:
    moment_ms = BEGIN_MS + 3 * DAY_MS  # the second judged day begins

    def without_truth(event: Event | Label) -> Event | Label:
        later = isinstance(event, Label) and event.task == "fraud" and event.label_time_ms > moment_ms
        return msgspec.structs.replace(event, event_id=f"{event.event_id}-nobody") if later else event

    found = []
    for path in (folder / "log.jsonl", write_log(tmp_path / "log.jsonl", list(map(without_truth, shop)))):
        judge = msgspec.structs.replace(load_config(str(folder / "shop.toml")).judge, maturity_days=0.5)
        config = msgspec.structs.replace(load_config(str(folder / "shop.toml")), judge=judge)
        with Backtest(config, scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as backtested:
            outcome = backtested.run(open_log([path]))
            columns = outcome.decisions()
        thresholds = dict(zip((columns["event_time_ms"] // DAY_MS).tolist(), columns["amount_threshold"].tolist(), strict=True))
        found.append((thresholds, outcome.report["candidates"]["amount"]["frauds"]))
    assert found[0][0] == found[1][0]
    assert all(np.isfinite(threshold) for threshold in found[0][0].values())
    assert found[0][1] > found[1][1]


def test_intent_and_lists_are_judged(written: dict[str, Any], folder: Path) -> None:
    report = json.loads((folder / "out" / "report.json").read_text())
    of_model = report["candidates"]["model"]
    confusion = np.array(of_model["intent"]["confusion"])
    assert confusion.sum() == of_model["intent"]["events"] > 500
    assert of_model["intent"]["accuracy"]["value"] == pytest.approx(np.trace(confusion) / confusion.sum())
    for code, part in enumerate(of_model["intent"]["classes"].values()):
        assert part["rows"] == confusion[code].sum()
        assert part["recall"]["value"] is None or part["recall"]["value"] == pytest.approx(
            confusion[code, code] / confusion[code].sum()
        )
    shown = written["candidates"]["model"]["candidates"]
    assert shown["events"] > 100
    assert 0 <= shown["recall_at_1"]["value"] <= shown["recall_at_10"]["value"] <= shown["recall_at_20"]["value"] <= 1
    assert shown["ndcg_at_20"]["value"] <= shown["recall_at_20"]["value"]
    assert 0 < shown["coverage"] <= 1


def test_the_page_asks_nobody_for_anything(folder: Path, written: dict[str, Any]) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert written["report"] == str(folder / "out" / "report.html")
    assert page.count("<svg") > 8
    assert "<script" not in page
    assert "url(http" not in page
    assert 'src="' not in page
    for name in written["candidates"]:
        assert f"<h3>{name}</h3>" in page


def test_names_from_a_configuration_are_escaped(folder: Path, written: dict[str, Any]) -> None:
    assert written
    hostile = (folder / "out" / "report.json").read_text().replace("model", "<b>model")
    page = html_from_json(json.loads(hostile))
    assert "<b>model" not in page
    assert page.count("&lt;b&gt;model") > 10


def report_of(config: str, path: Path, problems: LogIssues, *tasks: str) -> dict[str, Any]:
    judge = msgspec.structs.replace(load_config(config).judge, tasks=tasks)
    asked = msgspec.structs.replace(load_config(config), judge=judge, draws=2)
    with Backtest(asked, scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as backtested:
        return backtested.run(open_log([path], problems=problems)).report


def test_an_event_that_came_twice_is_one_step_of_its_session(folder: Path, shop: list[Event | Label], tmp_path: Path) -> None:
    once = {event.event_id: event for event in shop if isinstance(event, Event)}
    logs = (list(once.values()), [event for event in once.values() for _ in range(2)])
    found = []
    for number, events in enumerate(logs):
        path = write_log(tmp_path / f"{number}.jsonl", list(events))
        for to in ("2026-01-04", "2026-01-05"):  # what comes after the end is read for what came before it
            (tmp_path / "shop.toml").write_text((folder / "shop.toml").read_text().replace("to = 2026-01-05", f"to = {to}"))
            report = report_of(str(tmp_path / "shop.toml"), path, LogIssues(), "intent", "next_action", "candidates")
            of_model = report["candidates"]["model"]
            found.append(
                [of_model["intent"]["confusion"], of_model["next_action"]["confusion"], of_model["candidates"]["events"]]
            )
    assert found[:2] == found[2:]
    assert found[0] != found[1]


@pytest.mark.parametrize(("task", "value"), [("intent", 9.0), ("intent", 0.5), ("intent", 1e300), ("click", -1.0)])
def test_a_label_whose_value_is_none_is_counted_and_shown_with_file_and_line(
    folder: Path, shop: list[Event | Label], tmp_path: Path, task: Literal["intent", "click"], value: float
) -> None:
    event = next(event for event in shop if isinstance(event, Event) and event.event_time_ms > BEGIN_MS + 2 * DAY_MS)
    odd = Label(event_id=event.event_id, user=event.user, label_time_ms=BEGIN_MS + 3 * DAY_MS, task=task, value=value)
    problems = LogIssues()
    report = report_of(str(folder / "shop.toml"), write_log(tmp_path / "log.jsonl", [odd, *shop]), problems, "intent")
    [found] = report["problems"]
    assert found["first"] == ["line 1"]
    assert found["reason"].startswith(f"no label: a value of {task} is a whole number from 0 to")
    assert report["counts"]["labels"] == sum(isinstance(message, Label) for message in shop)


def test_a_package_that_is_missing_is_told_before_the_log_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else there(name, *rest))
    monkeypatch.setattr(Backtest, "run", lambda *_: pytest.fail("the log was read"))
    asked = [str(folder / "shop.toml"), "--data", str(folder / "log.jsonl"), "--out", str(folder / "never"), "--json"]
    with pytest.raises(ConfigError, match=r"needs matplotlib: pip install 'millrace\[backtest\]'"):
        CliRunner().invoke(backtest, asked, catch_exceptions=False)


@pytest.fixture
def strange(tmp_path: Path, shop: list[Event | Label]) -> Path:
    first = next(label for label in shop if isinstance(label, Label))
    return write_log(tmp_path / "strange.jsonl", [msgspec.structs.replace(first, event_id="nobody-knows-me"), *shop])


def test_a_label_of_an_unknown_event_is_counted_and_shown_with_file_and_line(strange: Path, folder: Path) -> None:
    problems = LogIssues()
    with Backtest(load_config(str(folder / "shop.toml")), scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as judge:
        report = judge.run(open_log([strange], problems=problems)).report
    assert report["counts"]["labels of unknown events"] == 1
    [found] = report["problems"]
    assert found["file"] == str(strange)
    assert found["first"] == ["line 1 (nobody-knows-me)"]


def test_strict_stops_at_it(strange: Path, folder: Path) -> None:
    with (
        Backtest(load_config(str(folder / "shop.toml")), scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as judge,
        pytest.raises(InputFileError, match=r"strange.jsonl, line 1 \(nobody-knows-me\)"),
    ):
        judge.run(open_log([strange], problems=LogIssues(strict=True)))


def test_a_log_without_an_event_in_time_is_told_so(folder: Path) -> None:
    config = msgspec.structs.replace(load_config(str(folder / "shop.toml")))
    judge = msgspec.structs.replace(config.judge, begin="2030-01-01", end="2030-01-02")
    with (
        Backtest(msgspec.structs.replace(config, judge=judge), scoring_engine(), Pseudonymizer(b"k"), "onnxruntime") as wrong,
        pytest.raises(ConfigError, match="none is from 2030-01-01 to 2030-01-02"),
    ):
        wrong.run(open_log([folder / "log.jsonl"]))
