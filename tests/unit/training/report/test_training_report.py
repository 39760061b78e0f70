"""The report: whole in one file that asks nobody for anything, made again from its JSON, with every figure in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.training.data.rows_of_tables import NEXT, sequences, table, told
from training.evaluation.baselines import fit_baselines
from training.evaluation.evaluate import evaluate
from training.report.training_report import TrainingReport, html_from_json, write_report

EPOCHS = [
    {
        "epoch": n,
        "train": {"fraud": 0.7 / n, "kind": 1.0 / n},
        "validation": {"fraud": 0.8 / n, "kind": 1.1 / n},
        "weights": {"fraud": 1.0, "kind": 1.0 + n},
        "gradient_cosine": {"fraud|kind": -0.25},
        "seconds": 2.5,
        "ms_per_step": 3.5 + n,
    }
    for n in (1, 2, 3)
]


class Reader(HTMLParser):
    """Collects ids, what is loaded, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.loads += [values[name] or "" for name in ("src", "href", "xlink:href") if name in values]
        self.texts.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    dataset = table(1_500, segments=2)
    rng = np.random.default_rng(1)
    logits = {"fraud": dataset.inputs["dense"][:, 0], "kind": rng.normal(size=(1_500, 3)) + np.eye(3)[dataset.labels["kind"]]}
    beside = fit_baselines(dataset)
    report = TrainingReport(
        name="census <mmoe>",
        tasks=dataset.tasks,
        evaluation=evaluate(told(dataset, logits), dataset),
        floors=beside,
        epochs=EPOCHS,
        controls={"LightGBM": {"fraud": {"auc": 0.8125, "log_loss": float("nan")}}},
        config={"training": {"epochs": 3, "seeds": (1, 2)}},
        data={"rows": len(dataset), "split": "by time"},
        command="python -m training train --config census --data 'a & b'",
        extra={"version": "demo-123"},
    )
    return write_report(report, folder)


def test_the_page_asks_nobody_for_anything(written: Path) -> None:
    page = written.read_text()
    reader = Reader()
    reader.feed(page)
    assert [target for target in reader.loads if not target.startswith(("#", "data:"))] == []
    assert "<script" not in page
    assert "<link" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page


def test_pictures_do_not_mix_up_their_names_and_take_the_colour_of_the_page(written: Path) -> None:
    reader = Reader()
    reader.feed(written.read_text())
    assert len(reader.ids) == len(set(reader.ids))
    assert written.read_text().count("<svg") == written.read_text().count("</svg>") == 10
    assert "currentColor" in written.read_text()
    assert "#010203" not in written.read_text()


def test_every_figure_stands_beside_its_floor(written: Path) -> None:
    plain = json.loads((written.parent / "report.json").read_text())
    page = written.read_text()
    for task, metrics in plain["metrics"].items():
        assert f"<h2>{task}</h2>" in page
        for metric, value in metrics.items():
            assert metric in page
            if value is not None and metric != "rows":
                assert f"{value:.4f}" in page
    assert f"{plain['floors']['fraud']['logistic_average_precision']:.4f}" in page
    assert "0.8125" in page  # the control
    assert plain["controls"]["LightGBM"]["fraud"]["log_loss"] is None  # what is no number is nothing
    assert plain["version"] == "demo-123"


def test_a_floor_of_another_metric_is_not_shown_beside(tmp_path: Path) -> None:
    dataset = replace(table(), tasks=table().tasks[1:])
    network = told(dataset, {"kind": np.zeros((len(dataset), 3))})
    floor = {"kind": {"svm_accuracy": 0.125, "svm_in_scope_accuracy": 0.9876}}
    report = TrainingReport(name="clinc150", tasks=dataset.tasks, evaluation=evaluate(network, dataset), floors=floor)
    page = write_report(report, tmp_path).read_text()
    assert "svm 0.1250" in page
    assert "0.9876" not in page


def test_text_of_others_is_shown_and_not_run(written: Path) -> None:
    page = written.read_text()
    assert "census &lt;mmoe&gt;" in page
    assert "&#39;a &amp; b&#39;" in page
    assert "<mmoe>" not in page


def test_the_page_is_made_again_from_the_json(written: Path) -> None:
    plain: dict[str, Any] = json.loads((written.parent / "report.json").read_text())
    assert html_from_json(plain) == written.read_text()


def test_the_page_tells_of_segments_learning_conflict_and_configuration(written: Path) -> None:
    page = written.read_text()
    for said in (
        "By segment",
        "shop 1",
        "3 epochs in 8 s, 5.5 ms a step.",
        "-0.25",
        "pull apart",
        "&#34;epochs&#34;: 3",
        "Confused most often",
    ):
        assert said in page


def test_a_report_without_epochs_floors_or_curves_is_a_page_too(tmp_path: Path) -> None:
    dataset = sequences()
    network = told(dataset, {"next": np.ones((600, 2))}, np.ones((30, 2)))
    report = TrainingReport(name="beauty", tasks=(NEXT,), evaluation=evaluate(network, dataset), floors={})
    page = write_report(report, tmp_path).read_text()
    assert "recall_at_10" in page
    assert "<svg" not in page
    dataset = replace(table(), tasks=table().tasks[:1])
    none = replace(dataset, labels={"fraud": np.full(1_200, -1, np.int8)})
    report = replace(report, evaluation=evaluate(told(none, {"fraud": np.zeros(1_200)}), none), tasks=none.tasks)
    assert "average_precision" in write_report(report, tmp_path / "empty").read_text()
