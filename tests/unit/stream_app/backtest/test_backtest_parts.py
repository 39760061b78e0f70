"""The parts of a backtest: configurations, scores and trees from files, what waits on disk, what comes after an event."""

from __future__ import annotations

import csv
import json
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream_app.backtest.config import DAY_MS, EvaluationConfig, load_config, packaged_configs
from stream_app.backtest.contenders.contender import ModelContender, ScoringRequest, TreesContender
from stream_app.backtest.contenders.score_files import ScoreFile, id_hashes
from stream_app.backtest.decisions import blocked
from stream_app.backtest.session_labeller import SessionLabeller
from stream_app.backtest.spool import Spool
from stream_app.errors import ConfigError, InputFileError, MillraceError
from stream_app.evaluation.label_history import LabelHistory
from stream_app.evaluation.recommendation_metrics import ItemLog, RecommendationMetrics
from stream_app.evaluation.session_labels import SessionLabel, session_labels, step_of
from stream_app.events import Click, Event, Order
from tests.scoring import make_events, scoring_engine

DEMO = Path(__file__).resolve().parents[4] / "model" / "artifacts" / "demo"


def asked_about(dense: np.ndarray[Any, Any]) -> ScoringRequest:
    rows = len(dense)
    return ScoringRequest({"dense": dense}, np.full(rows, 5, np.int32), np.arange(rows, dtype=np.uint64))


# --- configurations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_are_right(name: str) -> None:
    assert load_config(name).name == name


def test_everything_that_is_wrong_with_a_backtest_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("""
against = "nobody"
[judge]
from = 2026-02-01
to = 2026-01-01
tasks = ["fraud", "weather"]
daily_budget = 0
[costs]
review = -1
[candidates.a]
kind = "model"
[candidates.b]
kind = "feature"
threshold = 1
adapt = "budget"
[candidates.c]
kind = "blend"
of = ["c"]
[segments.s]
feature = "amount"
edges = [3, 2]
field = "scene"
""")
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    for said in (
        "from 2026-02-01 is not before to 2026-01-01",
        "weather",
        "daily_budget",
        "against 'nobody'",
        "[costs] are not negative",
        "candidate 'a': kind model has a path",
        "candidate 'b': kind feature names a feature",
        "candidate 'b': threshold and adapt exclude each other",
        "candidate 'c': kind blend is of two or more",
        "give either feature and edges, or field",
        "edges rise",
    ):
        assert said in str(error.value)


def test_an_unknown_key_and_an_unknown_name_are_told(tmp_path: Path) -> None:
    path = tmp_path / "key.toml"
    path.write_text("[judge]\nfrom = 2026-01-01\nto = 2026-01-02\nbudget = 3\n[candidates]\n")
    with pytest.raises(ConfigError, match="budget"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="card-handbook"):
        load_config("nobody-knows")


# --- scores and trees from files --------------------------------------------------------------------------------------------


def test_scores_are_the_same_from_parquet_csv_and_json_lines(tmp_path: Path) -> None:
    scores = {f"e{number}": number / 10 for number in range(7)}
    pq.write_table(pa.table({"event_id": list(scores), "score": list(scores.values())}), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("score", "event_id"), *((score, event) for event, score in scores.items())])
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"event_id": e, "score": s}) for e, s in scores.items()) + "\n\n")
    asked = id_hashes(["e3", "nobody", "e0"])
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        found = ScoreFile.read(tmp_path / name)
        assert found.are_probabilities
        assert found.of(asked).tolist() == pytest.approx([0.3, np.nan, 0.0], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("event_id,score\na,1\na,2\n", "gives 1 events a second score"),
        ("event_id,score\n", "has no score"),
        ("id,score\na,1\n", "event_id"),
        ("event_id,score\na,high\n", "high"),
        ('{"event_id": "a"}\n', "score"),
    ],
)
def test_scores_that_cannot_be_right_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "scores").write_text(text)
    with pytest.raises(InputFileError, match=said):
        ScoreFile.read(tmp_path / "scores")


def grown(path: Path, names: list[str]) -> lightgbm.Booster:
    rng = np.random.default_rng(1)
    table = lightgbm.Dataset(rng.random((200, len(names))), rng.integers(0, 2, 200), feature_name=names)
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, table, 5)
    model.save_model(str(path))
    return model


def test_trees_read_their_features_by_name_whatever_their_order(tmp_path: Path) -> None:
    engine = scoring_engine()
    names = [engine.feature_names[7], engine.feature_names[2], "amount"]
    model = grown(tmp_path / "trees.txt", names)
    dense = np.random.default_rng(2).random((20, len(engine.feature_names))).astype(np.float32)
    found = TreesContender(tmp_path / "trees.txt", engine).predict(asked_about(dense), ("fraud",)).fraud
    columns = [engine.feature_names.index(name) for name in names]
    assert found == pytest.approx(np.asarray(model.predict(dense[:, columns])))


def test_trees_of_unknown_features_and_files_that_hold_none_are_refused(tmp_path: Path) -> None:
    grown(tmp_path / "trees.txt", ["amount", "shoe_size"])
    with pytest.raises(ConfigError, match="shoe_size"):
        TreesContender(tmp_path / "trees.txt", scoring_engine())
    (tmp_path / "no.txt").write_text("nothing")
    with pytest.raises(MillraceError, match=r"no.txt is no model file"):
        TreesContender(tmp_path / "no.txt", scoring_engine())


def test_a_model_without_features_does_not_see_them() -> None:
    from model.contract import INPUTS

    engine = scoring_engine()
    features, rng = len(engine.feature_names), np.random.default_rng(3)
    inputs = {spec.name: np.zeros((4, *(features if n == -1 else n for n in spec.shape)), spec.dtype) for spec in INPUTS}
    inputs["dense"] = rng.random((4, features)).astype(np.float32)
    hidden = [place for place, name in enumerate(engine.feature_names) if name.startswith("device_")]
    changed = dict(inputs, dense=inputs["dense"].copy())
    changed["dense"][:, hidden] = 1e4
    kinds, nobody = np.zeros(4, np.int32), np.zeros(4, np.uint64)
    whole, blind = (ModelContender(DEMO, engine, without, "onnxruntime") for without in ((), ("device_*",)))
    told = [
        who.predict(ScoringRequest(given, kinds, nobody), ("fraud",)).fraud
        for who in (whole, blind)
        for given in (inputs, changed)
    ]
    assert not np.array_equal(told[0], told[1])
    assert np.array_equal(told[2], told[3])
    with pytest.raises(ConfigError, match="shoe"):
        ModelContender(DEMO, engine, ("shoe_*",), "onnxruntime")


# --- what waits on disk -----------------------------------------------------------------------------------------------------


def test_what_was_spooled_comes_back_by_row() -> None:
    rng = np.random.default_rng(4)
    dense = rng.random((25, 3)).astype(np.float32)
    events, users = [f"e{n}" for n in range(25)], [f"ü{n % 4}" for n in range(25)]
    with closing(Spool()) as spool:
        for first, end in ((0, 10), (10, 10), (10, 11), (11, 25)):
            spool.add(events[first:end], users[first:end], {"": dense[first:end], "other": -dense[first:end, :2]})
        for rows in (np.arange(25), np.array([3, 9, 10, 11, 24]), np.zeros(0, np.int64)):
            assert spool.names(rows) == ([events[row] for row in rows], [users[row] for row in rows])
            assert np.array_equal(spool.features("", rows), dense[rows])
            assert np.array_equal(spool.features("other", rows), -dense[rows, :2])
        assert len(spool) == 25


# --- what comes after an event ----------------------------------------------------------------------------------------------


def sessions_by_hand(events: list[Event], gap_ms: int) -> list[list[int]]:
    found: dict[tuple[str, str], list[list[int]]] = {}
    for place, event in enumerate(events):
        own = found.setdefault((event.user, event.session), [[]])
        if own[-1] and event.event_time_ms - events[own[-1][-1]].event_time_ms > gap_ms:
            own.append([])
        own[-1].append(place)
    return [session for own in found.values() for session in own]


def things_of(event: Event) -> list[str]:
    return [line.item for line in event.lines] if isinstance(event, Order) else [event.item] if isinstance(event, Click) else []


def test_what_came_after_is_what_the_whole_log_tells_of_sessions_that_are_over() -> None:
    gap_ms = 60_000
    events = sorted(
        make_events(600, users=["a", "b", "c", "d", "e"], devices=["x"], span_ms=6_000_000), key=lambda e: e.event_time_ms
    )
    items = ItemLog()
    after = SessionLabeller(items, gap_ms)
    told: dict[int, SessionLabel] = {}
    for row, event in enumerate(events):
        told.update(after.add(event, row))
    wanted: dict[int, SessionLabel] = {}
    for session in sessions_by_hand(events, gap_ms):
        if events[session[-1]].event_time_ms + gap_ms < events[-1].event_time_ms:
            steps = [step_of(events[place], items.numbers) for place in session]
            wanted.update(zip(session, session_labels(steps, bot=False), strict=True))
    assert told == wanted
    assert len({label.next_item for label in told.values()}) > 3


def test_lists_are_judged_against_the_log_counted_by_hand() -> None:
    day_ms = 1_000
    rng = np.random.default_rng(6)
    shop = [f"i{n}" for n in range(12)]
    log = ItemLog()
    shown = RecommendationMetrics(log, shop, new_item_ms=day_ms)
    seen: list[tuple[str, int]] = []
    wanted_novelty, wanted_new, wanted_place = [], [], []
    for row in range(60):
        now_ms = 100 * row
        item = shop[int(rng.integers(0, 1 + row // 6))]
        list_of = rng.permutation(12)[:5].astype(np.int32)
        shown.add([row], list_of[None, :], np.array([now_ms]))
        names = [shop[place] for place in list_of]
        first = {name: min((t for n, t in seen if n == name), default=None) for name in names}
        wanted_new.append(np.mean([when is not None and when > now_ms - day_ms for when in first.values()]))
        counts = [sum(n == name for n, _ in seen) for name in names]
        wanted_novelty.append(np.mean([-np.log2((count + 1) / (len(seen) + 12)) for count in counts]))
        log.add(item, now_ms)
        seen.append((item, now_ms))
        shown.resolve(row, log.numbers[item])
        wanted_place.append(names.index(item) if item in names else np.iinfo(np.int32).max)
    found = shown.figures(shown.evaluated_rows())
    assert found.novelty == pytest.approx(wanted_novelty)
    assert found.new == pytest.approx(wanted_new)
    assert found.place.tolist() == wanted_place
    assert shown.coverage == 1.0


def test_the_busiest_items_are_those_of_the_log_so_far() -> None:
    rng = np.random.default_rng(2)
    log, seen = ItemLog(), Counter[str]()
    assert log.busiest(3).tolist() == []
    log.numbered(["never seen"])
    for now_ms in range(200):
        item = f"i{int(rng.integers(0, 9) ** 2 // 8)}"
        log.add(item, now_ms)
        seen[item] += 1
        names = {number: name for name, number in log.numbers.items()}
        counts = [seen[names[number]] for number in log.busiest(4).tolist()]
        assert counts == sorted(seen.values(), reverse=True)[:4]


def test_an_event_after_which_nothing_was_taken_is_not_judged() -> None:
    log = ItemLog()
    shown = RecommendationMetrics(log, ["a", "b"], 10)
    shown.add([0, 1], np.array([[0, 1], [1, -1]], np.int32), np.array([5, 6]))
    shown.resolve(0, -1)
    shown.resolve(1, log.numbered(["a"])[0])
    assert shown.evaluated_rows().tolist() == [1]
    assert shown.figures(shown.evaluated_rows()).place[0] == np.iinfo(np.int32).max


def test_the_configuration_travels_into_the_report_as_plain_values() -> None:
    json.dumps(msgspec.to_builtins(load_config("card-handbook")))


def test_who_is_blocked_is_known_of_the_days_that_thresholds_look_back_at_too() -> None:
    rng, begin = np.random.default_rng(8), 30
    time_ms = np.sort(rng.integers(0, 40 * DAY_MS, 600))
    user, fraud = rng.integers(0, 25, 600), np.flatnonzero(rng.random(600) < 0.05)
    said_ms = time_ms[fraud] + rng.integers(0, 9 * DAY_MS, len(fraud))
    said = (fraud, said_ms, np.ones(len(fraud), np.int64))
    truth = LabelHistory.of(time_ms, np.zeros(600, np.int32), said, end_ms=99 * DAY_MS)
    judge = msgspec.convert({"from": "1970-01-31", "to": "1970-02-09", "known_days": 6}, EvaluationConfig)
    wanted = []
    for when, who in zip(time_ms.tolist(), user.tolist(), strict=True):
        day = when // DAY_MS
        since_ms, began_ms = (min(day, begin) - 6) * DAY_MS, day * DAY_MS
        known = (time_ms[fraud] >= since_ms) & (said_ms <= began_ms)
        wanted.append(who in user[fraud[known]].tolist())
    found = blocked(judge, time_ms, user, truth)
    assert found.tolist() == wanted
    assert found[time_ms < 10 * DAY_MS].any()
    assert found[time_ms >= begin * DAY_MS].any()
