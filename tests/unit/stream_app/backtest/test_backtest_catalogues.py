"""Candidates that read catalogues of their own, all in one pass, against each of them judged alone by a worker that has it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_app.backtest.changes import ChangedDecision
from stream_app.backtest.config import BacktestConfig, load_config
from stream_app.backtest.contenders.feature_sets import load_catalogue
from stream_app.backtest.run import Backtest, BacktestOutcome
from stream_app.errors import ConfigError, ContractError
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.features.state.layout import catalogue_hash
from stream_app.logs.log_source import open_log
from stream_app.privacy import Pseudonymizer
from stream_app.reporting.json_values import json_tree
from tests.scoring import scoring_engine
from tests.unit.stream_app.backtest.shop import DEMO, simulated, write_log

MODULE = """
from dataclasses import replace

from stream_app.features.catalog import CATALOGUE
from stream_app.features.catalog.feature_builders import count
from stream_app.features.declarations import Window

own = tuple(feature for feature in CATALOGUE.features if not feature.name.startswith("device_"))
# No devices, and one feature in a window that the worker does not have.
OTHER = replace(
    CATALOGUE,
    windows=(*CATALOGUE.windows, Window("6h", 6 * 3_600_000, 1_800_000)),
    features=(*own, count("user", "events", window="6h", reason="a longer visit")),
)
TURNED = replace(CATALOGUE, features=CATALOGUE.features[::-1])
user = replace(CATALOGUE.kinds[0], sequence=False)
without = tuple(feature for feature in CATALOGUE.features if feature.aggregation not in ("gap_std", "gap_min"))
BY_SESSION = replace(CATALOGUE, kinds=(CATALOGUE.kinds[1], user, *CATALOGUE.kinds[2:]), features=without)
WITHOUT_PAST = replace(CATALOGUE, kinds=(user, *CATALOGUE.kinds[1:]), features=without)
"""
CONFIG = """
[judge]
from = 2026-01-03
to = 2026-01-05
tasks = ["fraud", "intent", "next_action", "candidates"]

[candidates.model]
kind = "model"
path = "{demo}"

[candidates.turned]
kind = "model"
path = "{folder}/turned"
catalogue = "features_of_a_test:TURNED"

[candidates.visits]
kind = "rules"
path = "{folder}/visits.toml"
catalogue = "features_of_a_test:OTHER"

[candidates.long]
kind = "feature"
feature = "user_events_6h"
catalogue = "features_of_a_test:OTHER"
threshold = 5.0
"""
RULES = """
[[rule]]
name = "a long visit"
when = [{ feature = "user_events_6h", at_least = 4 }, { feature = "amount", at_least = 20 }]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalogues")
    write_log(folder / "log.jsonl", simulated())
    (folder / "features_of_a_test.py").write_text(MODULE)
    (folder / "visits.toml").write_text(RULES)
    (folder / "shop.toml").write_text(CONFIG.format(demo=DEMO, folder=folder))
    # The demo's network, said to have been trained on the same features from the last to the first.
    shutil.copytree(DEMO, folder / "turned")
    manifest = json.loads((DEMO / "manifest.json").read_text())
    for part in ("feature_names", "feature_medians", "feature_scales"):
        manifest[part] = manifest[part][::-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        manifest["catalogue_hash"] = catalogue_hash(load_catalogue("features_of_a_test:TURNED"))
    (folder / "turned" / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run_backtest(
    folder: Path, config: BacktestConfig, engine: FeatureEngine
) -> tuple[BacktestOutcome, dict[str, Any], list[ChangedDecision]]:
    with Backtest(msgspec.structs.replace(config, draws=5), engine, Pseudonymizer(b"k"), "onnxruntime") as judge:
        outcome = judge.run(open_log([folder / "log.jsonl"]))
        changed = [change for found in outcome.changes.values() for change in found()]
        return outcome, outcome.decisions(), changed


@pytest.fixture(scope="module")
def together(folder: Path) -> tuple[BacktestOutcome, dict[str, Any], list[ChangedDecision]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run_backtest(folder, load_config("shop.toml"), scoring_engine())


def without_others(figures: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in figures.items() if key not in ("against", "difference")}
    return {key: without_others(value) if isinstance(value, dict) else value for key, value in found.items()}


@pytest.mark.parametrize("name", ["turned", "visits", "long"])
def test_a_candidate_has_the_figures_that_it_has_alone_on_a_worker_with_its_catalogue(
    folder: Path, together: tuple[BacktestOutcome, dict[str, Any], list[ChangedDecision]], name: str
) -> None:
    config = load_config("shop.toml")
    engine = FeatureEngine(
        load_catalogue(config.candidates[name].catalogue), allowed_lateness_ms=scoring_engine().allowed_lateness_ms
    )
    alone = msgspec.structs.replace(
        config, candidates={name: msgspec.structs.replace(config.candidates[name], catalogue="")}, against=name
    )
    outcome, decisions, _ = run_backtest(folder, alone, engine)
    of_all = without_others(together[0].report["candidates"][name])
    assert json_tree(of_all) == json_tree(outcome.report["candidates"][name])
    assert of_all["frauds"] > 5
    for column, values in decisions.items():
        assert np.array_equal(np.asarray(values), np.asarray(together[1][column])), column
    assert len(np.unique(decisions[f"{name}_score"])) > 1


def test_reasons_are_told_in_the_features_that_the_candidate_reads(
    together: tuple[BacktestOutcome, dict[str, Any], list[ChangedDecision]],
) -> None:
    assert {change.after.alert for change in together[2]} == {True, False}
    compared = 0
    for change in together[2]:
        before = {str(reason["feature"]): reason for reason in change.before.reasons}
        after = {str(reason["feature"]): reason for reason in change.after.reasons}  # turned, or of a catalogue nobody knows
        compared += len(before.keys() & after.keys())
        assert all(before[feature] == after[feature] for feature in before.keys() & after.keys())
        if change.after.rules:
            assert not after
    assert compared > 10


def test_the_report_says_which_catalogue_each_candidate_read(
    together: tuple[BacktestOutcome, dict[str, Any], list[ChangedDecision]],
) -> None:
    other = load_catalogue("features_of_a_test:OTHER")
    said = f"features_of_a_test:OTHER ({catalogue_hash(other)}, {len(other.features)} features)"
    found = together[0].report["catalogues"]
    assert found.keys() == {"turned", "visits", "long"}
    assert found["visits"] == found["long"] == said


def test_a_model_that_was_trained_with_another_catalogue_is_refused(folder: Path) -> None:
    config = load_config("shop.toml")
    turned = catalogue_hash(load_catalogue("features_of_a_test:TURNED"))
    for path, catalogue in ((folder / "turned", ""), (DEMO, "features_of_a_test:TURNED")):
        candidate = msgspec.structs.replace(config.candidates["model"], path=str(path), catalogue=catalogue)
        hashes = [catalogue_hash(CATALOGUE)[:12], turned[:12]]
        wrong = msgspec.structs.replace(config, candidates={"wrong": candidate})
        with pytest.raises(ConfigError, match=r"catalogue = \"module:NAME\"") as caught:
            Backtest(wrong, scoring_engine(), Pseudonymizer(b"k"), "onnxruntime")
        assert all(each in str(caught.value) for each in hashes)
    rules = msgspec.structs.replace(config.candidates["visits"], catalogue="")
    with pytest.raises(ContractError, match="user_events_6h"):
        Backtest(msgspec.structs.replace(config, candidates={"rules": rules}), scoring_engine(), Pseudonymizer(b"k"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("features_of_a_test", "is named wrongly"),
        ("features_of_a_test:", "is named wrongly"),
        ("no_such_module:CATALOGUE", "no catalogue no_such_module:CATALOGUE, in .*No module named"),
        ("features_of_a_test:NOTHING", "no catalogue features_of_a_test:NOTHING, in .*has no attribute"),
        ("features_of_a_test:own", "is of type tuple, no catalogue"),
        ("features_of_a_test:BY_SESSION", "is session without its last interactions, the worker's is user with"),
        ("features_of_a_test:WITHOUT_PAST", "is user without its last interactions, the worker's is user with"),
        ("contradicting:CATALOGUE", "the catalogue contradicting:CATALOGUE is wrong: .*unknown window '6h'"),
    ],
)
def test_what_is_no_catalogue_to_judge_by_is_told(folder: Path, name: str, said: str) -> None:
    (folder / "contradicting.py").write_text(MODULE.replace('Window("6h"', 'Window("5h"').replace("OTHER", "CATALOGUE"))
    config = load_config("shop.toml")
    candidate = msgspec.structs.replace(config.candidates["long"], catalogue=name)
    with pytest.raises(ConfigError, match=said):
        Backtest(msgspec.structs.replace(config, candidates={"wrong": candidate}), scoring_engine(), Pseudonymizer(b"k"))


def test_scores_and_blends_have_no_catalogue(tmp_path: Path) -> None:
    text = Path("shop.toml").read_text() + '\n[candidates.vendor]\nkind = "scores"\npath = "x.csv"\ncatalogue = "a:B"\n'
    (tmp_path / "shop.toml").write_text(text)
    with pytest.raises(ConfigError, match="kind scores reads no features, so it has no catalogue"):
        load_config(str(tmp_path / "shop.toml"))


def test_the_example_of_the_documentation_is_a_catalogue(folder: Path) -> None:
    page = (DEMO.parents[2] / "docs" / "backtest.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "documented.py").write_text(example)
    found = {feature.name for feature in load_catalogue("documented:NEXT").features}
    assert found - {feature.name for feature in CATALOGUE.features} == {"user_orders_6h"}
    assert not any(name.startswith("ip_") for name in found)
