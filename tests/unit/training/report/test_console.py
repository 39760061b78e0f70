"""What a person sees: each task's own metric, and beside it the floors of exactly that metric."""

from __future__ import annotations

import pytest

from tests.unit.training.data.rows_of_tables import KIND
from training.report.console import TrainingConsole


def test_floors_of_another_metric_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    floors = {KIND.name: {"svm_accuracy": 0.9, "svm_in_scope_accuracy": 0.8}}
    TrainingConsole().figures((KIND,), {KIND.name: {"accuracy": 0.95}}, floors)
    assert capsys.readouterr().err == "kind: accuracy 0.9500  (floors: svm 0.9000)\n"
    TrainingConsole(quiet=True).figures((KIND,), {KIND.name: {"accuracy": 0.95}}, floors)
    assert capsys.readouterr().err == ""
