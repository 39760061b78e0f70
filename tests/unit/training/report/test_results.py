"""The results file: rows replaced by their key, whole under many writers, and the page that is generated from it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from stream_app.errors import ContractError
from training.cli import main
from training.report.references import REFERENCES
from training.report.results import (
    RECORD,
    add_rows,
    default_name,
    page_of,
    read_rows,
    rows_from_metrics,
    with_references,
    with_step_time,
)
from training.report.results_page import ResultRow, results_markdown

ROOT = Path(__file__).resolve().parents[4]
COMMAND = "python -m training ..."
ASKED = {"name", "dataset", "metric", "value", "spread", "seeds", "floor", "published", "higher_is_better", "command", "commit"}


def row(name: str = "mmoe", metric: str = "income.auc", value: float = 0.95, **given: object) -> ResultRow:
    base = ResultRow(
        name=name, dataset="census", metric=metric, value=value, command=COMMAND, commit="abc", machine="m", date="d"
    )
    return replace(base, **given)  # type: ignore[arg-type]  # any field


def test_a_row_replaces_the_one_of_its_name_data_set_and_metric_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "results.json"
    add_rows(path, [row(), row("ple"), row(metric="married.auc")])
    add_rows(path, [row(value=0.96)])
    found = {each.key: each.value for each in read_rows(path)}
    assert found == {
        ("mmoe", "census", "income.auc"): 0.96,
        ("ple", "census", "income.auc"): 0.95,
        ("mmoe", "census", "married.auc"): 0.95,
    }
    assert path.with_suffix(".md").read_text() == results_markdown(read_rows(path))
    assert sorted(file.name for file in path.parent.iterdir()) == ["results.json", "results.md"]


def test_a_row_holds_what_was_asked_for_and_comes_back_as_it_was(tmp_path: Path) -> None:
    given = row(metric="income.f1", spread=0.01, seeds=2, floors={"logistic": 0.9}, published=0.94, values=(0.94, 0.96))
    path = tmp_path / "results.json"
    add_rows(path, [given])
    assert read_rows(path) == [replace(given, floor=0.9, floor_from="logistic")]
    plain = json.loads(path.read_text())["rows"][0]
    assert ASKED | {"machine"} <= set(plain)


def test_a_figure_beside_a_row_is_kept_when_a_new_run_does_not_know_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    add_rows(path, [row(metric="income.f1", floor=0.9, published=0.94)])
    add_rows(path, [row(metric="income.f1", value=0.97)])
    [found] = read_rows(path)
    assert (found.value, found.floor, found.published) == (0.97, 0.9, 0.94)
    assert found.floor_from == "on the same rows"


def test_many_writers_lose_no_row(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    program = (
        "import sys; from pathlib import Path; from training.report.results import add_rows; "
        "from training.report.results_page import ResultRow\n"
        "for n in range(5): add_rows(Path(sys.argv[1]), [ResultRow(name=sys.argv[2], dataset='d', metric=f'm{n}', value=1.0)])"
    )
    started = [subprocess.Popen([sys.executable, "-c", program, str(path), f"w{n}"], cwd=ROOT) for n in range(3)]
    assert [each.wait() for each in started] == [0, 0, 0]
    assert len(read_rows(path)) == 15


def test_a_file_that_holds_no_results_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("[]", "no json", '{"rows": [{"name": "a"}]}'):
        path.write_text(text)
        with pytest.raises(ContractError, match="is no file of results"):
            add_rows(path, [row()])
        assert path.read_text() == text


def test_rows_are_means_over_seeds_with_the_best_floor_beside() -> None:
    seeds = [{"fraud": {"auc": value, "log_loss": 0.2, "rows": 100.0, "brier": math.nan}} for value in (0.8, 0.9)]
    floors = {"fraud": {"logistic_auc": 0.7, "single_feature_auc": 0.75, "logistic_log_loss": 0.3, "prevalence_log_loss": 0.25}}
    found = {each.metric: each for each in rows_from_metrics("mmoe", "shop", seeds, floors, "python -m training train")}
    assert set(found) == {"fraud.auc", "fraud.log_loss"}
    auc, loss = found["fraud.auc"], found["fraud.log_loss"]
    assert auc.value == pytest.approx(0.85)
    assert auc.spread == pytest.approx(math.sqrt(0.005))
    assert (auc.seeds, auc.values, auc.floor, auc.higher_is_better) == (2, (0.8, 0.9), 0.75, True)
    assert (loss.floor, loss.higher_is_better) == (0.25, False)
    assert auc.machine.endswith("cores")
    for only, kept in ((["auc"], ["fraud.auc"]), (["fraud.log_loss"], ["fraud.log_loss"]), (["other.auc"], [])):
        assert [each.metric for each in rows_from_metrics("mmoe", "shop", seeds, floors, "c", only)] == kept
    assert auc.date.endswith("+00:00")


def test_a_benchmark_has_its_reference_beside_and_one_seed_has_no_spread() -> None:
    reference = REFERENCES["census"]["income.auc"]
    for here, beside, way in ((0.9, reference.floor, "LightGBM, other split"), (0.99, 0.99, "logistic")):  # the harder one
        [found] = rows_from_metrics("mmoe", "census", [{"income": {"auc": 0.96}}], {"income": {"logistic_auc": here}}, "c")
        assert (found.floor, found.published) == (beside, reference.published)
        assert (found.floor_from, found.note) == (way, "published: other split")
    assert (found.spread, found.seeds, found.values) == (None, 1, ())


def test_boosted_trees_on_the_same_rows_are_the_floor_and_those_of_another_split_none() -> None:
    trees = row("lightgbm (control)", value=0.9538)
    ours, control = with_references([row(value=0.9516, floors={"logistic": 0.9435}), trees])
    assert (ours.floor, ours.floor_from) == (0.9538, "lightgbm (control)")
    assert control.floor_from == "LightGBM, other split"  # no floor of itself
    [line] = [line for line in results_markdown([ours, control]).splitlines() if line.startswith("| income.auc | mmoe")]
    assert "| 0.9538 | worse | lightgbm (control) |" in line
    weak = with_references([row(floors={"logistic": 0.9435}), replace(trees, value=0.94)])[0]
    assert (weak.floor, weak.floor_from) == (0.9435, "logistic")  # and not 0.9509 of another split
    [other, *_] = with_references([row(floors={"logistic": 0.9435}), replace(trees, dataset="uci")])
    assert other.floor_from == "LightGBM, other split"
    page = results_markdown([ours, other])
    assert "Of 1 figures with a floor beside them" in page
    assert "Of 1 figures with a floor of another split beside them" in page


def test_a_floor_is_one_of_exactly_this_metric() -> None:
    floors = {"intent": {"svm_in_scope_accuracy": 0.93, "svm_accuracy": 0.9, "majority_accuracy": 0.1}}
    seeds = [{"intent": {"accuracy": 0.91, "in_scope_accuracy": 0.92}}]
    found = {each.metric: each.floors for each in rows_from_metrics("text", "shop", seeds, floors, "c")}
    assert found == {"intent.accuracy": {"svm": 0.9, "majority": 0.1}, "intent.in_scope_accuracy": {"svm": 0.93}}


def test_a_hybrid_says_that_it_is_one_and_what_its_network_reaches_alone_has_the_same_floors() -> None:
    seeds = [{"next": {"recall_at_10": 0.098, "alone_recall_at_10": 0.085, "mrr_at_10": 0.045}}]
    floors = {"next": {"neighbours_recall_at_10": 0.0855, "popularity_recall_at_10": 0.01}}
    name = default_name("shared_bottom", 0.5)
    both, alone = rows_from_metrics(name, "beauty", seeds, floors, "c", only=["recall_at_10"])
    assert name == "hybrid (network + neighbours)" != default_name("shared_bottom", 0.0) == "shared_bottom"
    assert (both.metric, both.note) == ("next.recall_at_10", "hybrid: network + neighbours")
    assert (alone.metric, alone.note) == ("next.alone_recall_at_10", "the network alone, of a hybrid")
    assert (both.floor, both.published) == (alone.floor, alone.published) == (0.0855, 0.0928)
    old = [replace(both, floors={}, floor_from=""), replace(alone, floors={}, floor_from="", floor=None)]  # no floor was written
    assert [each.floor for each in with_references(old)] == [0.0855, 0.0855]


def test_cards_stand_beside_the_best_floor_and_say_that_the_published_had_other_training_data() -> None:
    found = rows_from_metrics("ple", "cards", [{"fraud": {"auc": 0.88, "average_precision": 0.7, "rows": 9.0}}], {}, "c")
    assert [(each.floor, each.floor_from) for each in found] == [(0.8776, "LightGBM on 7 days"), (0.69, "LightGBM on 60 days")]
    assert all("published: trained on 7 days; ours: on 53" in each.note for each in found)


def test_the_time_of_a_step_is_a_row_where_the_epochs_know_it() -> None:
    metrics = {"fraud": {"auc": 0.8}}
    timed = [with_step_time(metrics, [{"ms_per_step": slow * each} for each in (2.0, 3.0, 90.0)]) for slow in (1.0, 1.2)]
    found = {each.metric: each for each in rows_from_metrics("pcgrad", "tiny", timed, {}, "c", only=["auc"])}
    step = found["training.ms_per_step"]
    assert step.value == pytest.approx(3.3)
    assert (step.seeds, step.higher_is_better, step.floor) == (2, False, None)
    assert with_step_time(metrics, [{"epoch": 1}]) == metrics


def test_rows_of_other_files_are_merged_and_what_stands_beside_them_is_with_references(tmp_path: Path) -> None:
    main_file, others = tmp_path / "results.json", [tmp_path / "a" / "one.json", tmp_path / "b" / "two.json"]
    add_rows(main_file, [row(value=0.94)])
    add_rows(others[0], [row(value=0.9516), row("ple")])
    add_rows(others[1], [row("lightgbm (control)", value=0.9538)])
    arguments = ["results", "--results", str(main_file), *(part for file in others for part in ("--add", str(file)))]
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 3)
    found = {each.name: each for each in read_rows(main_file)}
    assert found["mmoe"].value == 0.9516
    assert found["mmoe"].floor == found["ple"].floor == 0.9538
    again = main_file.read_text()
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert main_file.read_text() == again
    missing = CliRunner().invoke(main, ["results", "--results", str(tmp_path / "typo.json")])
    assert (missing.exit_code, "typo.json: no such file" in missing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("value", "spread", "higher", "said"),
    [
        (0.95, None, True, "better"),
        (0.85, None, True, "worse"),
        (0.95, 0.06, True, "level"),
        (0.85, 0.04, False, "better"),
        (0.95, 0.04, False, "worse"),
    ],
)
def test_the_page_says_honestly_whether_a_floor_is_beaten(value: float, spread: float | None, higher: bool, said: str) -> None:
    page = results_markdown([row(value=value, spread=spread, floor=0.9, higher_is_better=higher, seeds=3)])
    [line] = [line for line in page.splitlines() if line.startswith("| income.auc")]
    assert f"| 0.9000 | {said} |" in line
    assert f"1 {said}" in page or f"1 are {said}" in page


def test_the_page_groups_by_data_set_and_names_command_commit_machine_and_date_once() -> None:
    rows = [row(), row("ple"), replace(row(), dataset="beauty", metric="next.recall_at_10")]
    page = results_markdown(rows)
    assert page.index("## beauty") < page.index("## census")
    assert page.count("mmoe, ple: `python -m training ...` at abc, d, on m") == 1
    assert page == results_markdown(rows[::-1])
    assert "published auc: MMoE" not in page  # the row says nothing of it
    assert "No results yet" in results_markdown([])


def test_ways_with_several_seeds_are_compared_in_pairs() -> None:
    ours = row("ple", values=(0.95, 0.96, 0.97, 0.955, 0.965), seeds=5)
    theirs = row("mmoe", values=(0.94, 0.948, 0.962, 0.943, 0.957), seeds=5)
    page = results_markdown([ours, theirs, row("single", values=(0.9, 0.91), seeds=2)])
    [line] = [line for line in page.splitlines() if "ple - mmoe" in line]
    assert "| +0.0100 |" in line
    assert line.endswith("| 5 |")
    assert "single - " not in page  # other seeds


def test_the_page_in_the_repository_is_what_its_rows_generate(tmp_path: Path) -> None:
    rows = read_rows(ROOT / RECORD)
    assert (ROOT / "docs" / "results.md").read_text() == results_markdown(rows, "../results/results.json")
    copy = tmp_path / "results.json"
    copy.write_text((ROOT / RECORD).read_text())
    add_rows(copy, [])
    assert copy.with_suffix(".md").read_text() == results_markdown(rows)
    assert copy.read_text() == (ROOT / RECORD).read_text()
    assert page_of(RECORD) == Path("docs/results.md")
