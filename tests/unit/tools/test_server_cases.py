"""Cases are counted by name, and one failed or untried test fails its case."""

from __future__ import annotations

from typing import Any

import pytest

from tools.server_cases import CaseReport, files_with_cases


def report(outcomes: dict[str, list[tuple[str, str]]]) -> CaseReport:
    """What pytest reports of the tests of each case: outcomes of (setup, call), an empty one where the phase did not run."""
    made = CaseReport()
    for case, tests in outcomes.items():
        for number, (setup, call) in enumerate(tests):
            phases: Any = (("setup", setup), ("call", call), ("teardown", "passed"))
            for when, outcome in phases:
                if outcome:
                    of_case = [("case", case)]
                    made.pytest_runtest_logreport(
                        pytest.TestReport(f"{case}-{number}", ("", 0, ""), {}, outcome, None, when, user_properties=of_case)
                    )
    return made


def test_a_case_passes_with_all_its_tests_and_a_skip_beside_them() -> None:
    figures = report({"a": [("passed", "passed"), ("passed", "passed")], "b": [("skipped", ""), ("passed", "passed")]}).figures()
    assert figures == {"cases": 2, "passed": 2, "failed": 0, "tests": 4, "failures": []}


@pytest.mark.parametrize("test", [("passed", "failed"), ("failed", ""), ("passed", "")])
def test_one_failed_or_unfinished_test_fails_its_case_alone(test: tuple[str, str]) -> None:
    made = report({"a": [("passed", "passed"), test], "b": [("passed", "passed")]})
    assert (made.figures()["passed"], made.figures()["failed"], made.figures()["failures"]) == (1, 1, ["a"])
    assert made.lines() == ["FAILED   1/2  a", "ok       1/1  b"]


def test_a_case_of_which_nothing_ran_has_failed() -> None:
    assert report({"a": [("skipped", "")]}).figures()["failures"] == ["a"]


def test_the_suite_has_files_with_cases(request: pytest.FixtureRequest) -> None:
    files = files_with_cases(request.config.rootpath)
    assert any(file.endswith("tests/chaos/test_kill.py") for file in files)
    assert not any(file.endswith("tests/chaos/test_acceptance.py") for file in files)
