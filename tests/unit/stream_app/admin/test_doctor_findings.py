from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stream_app.admin import doctor_model
from stream_app.admin.doctor import Check, checks_table, examined, failed
from stream_app.admin.doctor_model import PINNED, check_cache, check_model, check_versions
from stream_app.admin.doctor_services import position_findings, redis_findings
from stream_app.admin.positions import groups_with_state, refuse_state_of_other_count
from stream_app.errors import ContractError

CHECKOUT = Path(__file__).resolve().parents[4]


class StubRedis:
    """Knows which keys exist."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.asked: list[bool] = []

    def pipeline(self, *, transaction: bool) -> StubRedis:
        assert not transaction
        self.asked = []
        return self

    def exists(self, key: str) -> None:
        self.asked.append(key in self.keys)

    def execute(self) -> list[bool]:
        return self.asked


def test_an_error_in_a_check_is_a_finding_and_what_came_before_it_stays() -> None:
    def examine() -> Iterator[Check]:
        yield Check("a", "OK", "fine")
        raise ContractError("two parts differ.\nOperator action: make them equal")

    found = examined("b", examine)
    assert found == [Check("a", "OK", "fine"), Check("b", "FAIL", "two parts differ.", "make them equal")]
    assert failed(found)
    assert not failed(found[:1])


def test_a_package_that_is_not_there_is_a_finding() -> None:
    def examine() -> Iterator[Check]:
        import no_such_package  # type: ignore[import-not-found]

        yield no_such_package

    (found,) = examined("model", examine)
    assert (found.status, found.action) == ("FAIL", "install with requirements/default.txt")


def test_the_table_shows_every_check_and_takes_no_markup_from_findings() -> None:
    console = Console(width=120, record=True)
    console.print(checks_table([Check("kafka", "WARN", "odd [red]name[/red]", "do this")]))
    text = console.export_text()
    for words in ("WARN", "kafka", "odd [red]name[/red]", "do this"):
        assert words in text


def test_the_pinned_versions_are_those_of_the_package() -> None:
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {f"{name}=={version}" for name, version in PINNED.items()} <= set(wanted)


def test_this_environment_has_the_versions_it_needs() -> None:
    assert [check.status for check in check_versions()] == ["OK", "OK"]


def test_other_versions_are_named_with_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_model, "PINNED", {"aiokafka": "0.1", "no-such-package": "1"})
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    python, packages = check_versions()
    assert (python.status, packages.status) == ("FAIL", "FAIL")
    assert "must be 0.1" in packages.finding
    assert "no-such-package is not installed" in packages.finding


@pytest.mark.parametrize(
    ("info", "statuses"),
    [
        ({"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": 1}, ["OK", "OK", "OK"]),
        ({"redis_version": "6.2.0", "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}, ["OK", "WARN", "WARN"]),
        ({"redis_version": "6.0.16", "maxmemory_policy": "noeviction", "aof_enabled": 1}, ["FAIL", "OK", "OK"]),
    ],
)
def test_redis_is_judged_by_version_eviction_and_persistence(info: dict[str, Any], statuses: list[str]) -> None:
    found = list(redis_findings(info))
    assert [check.status for check in found] == statuses
    assert all(check.action for check in found if check.status != "OK")


def test_positions_within_the_logs_are_fine_and_what_waits_is_counted() -> None:
    bounds = {("clicks", 0): (0, 10), ("clicks", 1): (5, 8), ("orders", 0): (0, 0)}
    (found,) = position_findings({("clicks", 0): 4}, bounds)
    assert (found.status, found.finding) == ("OK", "within the logs; 9 events wait to be scored")


@pytest.mark.parametrize("front", [4, 11])
def test_a_position_outside_its_log_is_a_failure_with_both_sides_named(front: int) -> None:
    (found,) = position_findings({("clicks", 0): front}, {("clicks", 0): (5, 10)})
    assert found.status == "FAIL"
    assert found.finding == f"clicks-0: the state holds all below {front}, the log is 5 to 10"
    assert "redis.prefix" in found.action


def test_state_of_more_groups_than_partitions_is_refused() -> None:
    client = StubRedis("mr:{g0}:meta", "mr:{g7}:meta", "other:{g9}:meta")
    assert groups_with_state(client, "mr") == [0, 7]
    refuse_state_of_other_count(client, "mr", 8)
    with pytest.raises(ContractError, match=r"up to 7, but kafka\.partitions is 4(.|\n)*Operator action"):
        refuse_state_of_other_count(client, "mr", 4)


def test_a_model_that_is_not_there_is_a_finding_with_what_to_do(tmp_path: Path) -> None:
    (found,) = examined("model", lambda: check_model(tmp_path / "none", 86_400_000))
    assert found.status == "FAIL"
    assert "MILLRACE_MODEL_PATH" in found.action


def test_compiled_code_that_is_not_in_the_cache_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import stream_app.features

    monkeypatch.setattr(stream_app.features, "__path__", [str(tmp_path)])
    assert [check.status for check in check_cache()] == ["WARN"]
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "fold.fold_kind-1.py311.nbi").touch()
    assert [check.status for check in check_cache()] == ["OK"]
