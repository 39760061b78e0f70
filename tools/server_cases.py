"""Run the cases of real servers: what happens to Kafka, Redis and the folders of a worker in use. Run by `make cases-servers`.

    python -m tools.server_cases [arguments of pytest]

A case is a situation, for example "partitions added to a topic". Tests name theirs by `@pytest.mark.case("...")`; several tests
may belong to one. A case has passed if one of its tests passed and none failed. The last line is JSON: `cases`, `passed` and
`failed` count cases, `tests` the tests of all cases, `failures` names the failed cases. Exit status 1 if a case failed, if pytest
reports an error outside the tests, or if there is no case.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

_ROOT: Final = Path(__file__).resolve().parents[1]
_MARK: Final = "mark.case("
_CONFIGURATION: Final = ("-n", "2", "--dist", "worksteal", "--durations", "5")


class CaseReport:
    """A pytest plugin that notes the outcomes of each case's tests.

    tests/conftest.py puts the names of a test's cases into its user properties, which also come from the processes of
    pytest-xdist.
    """

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, str]] = defaultdict(dict)  # case -> test -> its worst outcome

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase (setup, call or teardown) of one test."""
        for name, value in report.user_properties:
            if name == "case":
                self.note(str(value), report.nodeid, report.outcome, counts=report.when == "call")

    def note(self, case: str, test: str, outcome: str, *, counts: bool) -> None:
        """Note an outcome; a phase that does not count, such as the setup, does not make a test pass."""
        worst = self._outcomes[case].setdefault(test, "")
        if outcome == "failed" or (worst != "failed" and (counts or outcome == "skipped")):
            self._outcomes[case][test] = outcome

    def figures(self) -> dict[str, Any]:
        """Return the numbers of cases and tests, and the names of the failed cases."""
        failures = sorted(case for case, tests in self._outcomes.items() if not _has_passed(tests.values()))
        return {
            "cases": len(self._outcomes),
            "passed": len(self._outcomes) - len(failures),
            "failed": len(failures),
            "tests": len({test for tests in self._outcomes.values() for test in tests}),
            "failures": failures,
        }

    def lines(self) -> list[str]:
        """Return one line for each case: its name, and how many of its tests had which outcome."""
        return [f"{_count(tests)}  {case}" for case, tests in sorted(self._outcomes.items())]


def _has_passed(outcomes: Iterable[str]) -> bool:
    seen = set(outcomes)
    return "passed" in seen and "failed" not in seen and "" not in seen


def _count(tests: Mapping[str, str]) -> str:
    passed = sum(outcome == "passed" for outcome in tests.values())
    word = "ok    " if _has_passed(tests.values()) else "FAILED"
    return f"{word} {passed:3d}/{len(tests)}"


def files_with_cases(root: Path) -> list[str]:
    """Return the test files that name a case; collecting all tests would import torch."""
    return sorted(str(path) for path in (root / "tests").rglob("test_*.py") if _MARK in path.read_text(encoding="utf-8"))


def main() -> None:
    """Run the tests of all cases and print their figures."""
    os.environ["CI"] = "true"  # a server that cannot be started fails its cases
    os.chdir(_ROOT)
    begin, report = time.monotonic(), CaseReport()
    status = pytest.main([*_CONFIGURATION, "-m", "case", *sys.argv[1:], *files_with_cases(_ROOT)], plugins=[report])
    figures = report.figures()
    print(*report.lines(), sep="\n")
    print(json.dumps({**figures, "seconds": round(time.monotonic() - begin, 1)}))
    raise SystemExit(1 if status or figures["failed"] or not figures["cases"] else 0)


if __name__ == "__main__":
    main()
