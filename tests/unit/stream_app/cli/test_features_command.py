from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stream_app.__main__ import millrace
from stream_app.features.catalog import CATALOGUE
from stream_app.features.state.layout import catalogue_hash

TAOBAO = "".join(f"{n % 7},{n % 11},{n % 3},{'buy' if n % 9 == 0 else 'pv'},{1_511_658_000 + n}\n" for n in range(300))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taobao.csv").write_text(TAOBAO)
    return tmp_path


def run(*args: str) -> Result:
    return CliRunner().invoke(millrace, ["features", *args])


def line(*args: str) -> dict[str, Any]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    (text,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def test_list_has_the_whole_catalogue_on_one_line() -> None:
    found = line("list")
    assert (found["count"], found["catalogue"]) == (len(CATALOGUE.features), catalogue_hash(CATALOGUE))
    assert [record["name"] for record in found["features"]] == [f.name for f in CATALOGUE.features]
    keys = {"name", "entity", "aggregation", "window", "unit", "default", "low", "high", "meaning", "reason"}
    assert all(keys <= set(record) for record in found["features"])


def test_list_filters_and_its_table_cuts_no_name() -> None:
    found = line("list", "--entity", "ip", "--entity", "device", "--aggregation", "count")
    assert {record["entity"] for record in found["features"]} == {"ip", "device"}
    shown = run("list").output
    assert all(f.name in shown for f in CATALOGUE.features)
    assert f"{len(CATALOGUE.features)} of {len(CATALOGUE.features)} features" in shown


def test_show_says_all_about_one_feature_and_refuses_another_name() -> None:
    assert line("show", "amount")["entity"] == "event"
    assert "FDH: the raw amount" in run("show", "amount").output
    refused = run("show", "amont")
    assert refused.exit_code == 2
    assert "did you mean amount" in refused.output


def test_estimate_measures_a_log_by_a_mapping() -> None:
    found = line("estimate", "--file", "taobao.csv", "--mapping", "taobao")
    assert (found["events"], found["measured_users"], found["users"]) == (300, 7, 7)
    assert set(found["entities"]) == {kind.name for kind in CATALOGUE.kinds}
    user = found["entities"]["user"]
    assert user["count"] == 7
    assert 0 < user["bytes_p50"] <= user["bytes_p99"] <= user["bytes_max"]
    assert found["total_bytes"] == sum(kind["total_bytes"] for kind in found["entities"].values())
    assert line("estimate", "--file", "taobao.csv", "--mapping", "taobao", "--limit", "10")["events"] == 10
    assert line("estimate", "--file", "taobao.csv", "--mapping", "taobao", "--users", "700")["entities"]["user"]["count"] == 700


def test_estimate_measures_what_the_simulator_or_an_import_wrote() -> None:
    assert CliRunner().invoke(millrace, ["simulate", "--to", "shop.jsonl", "--events", "500", "--rate", "0"]).exit_code == 0
    found = line("estimate", "--file", "shop.jsonl")
    assert 400 < found["events"] <= 500
    assert found["duplicates"] > 0 or found["events"] > 0


def test_estimate_simulates_the_traffic_that_is_asked_for() -> None:
    found = line("estimate", "--events-per-day", "400", "--users", "100", "--items", "50", "--days", "2")
    assert found["users"] == 100
    assert found["entities"]["user"]["count"] == 100
    assert 700 < found["events"] <= 800
    shown = run("estimate", "--events-per-day", "400", "--users", "100", "--days", "2").output
    assert "measured on a simulated shop" in shown
    assert "user_category" in shown


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--mapping", "taobao"], "name it with --file"),
        (["--file", "nothing.jsonl"], "cannot read nothing.jsonl"),
        (["--file", "taobao.csv"], "line 1 is no record of Millrace"),
        (["--file", "taobao.csv", "--mapping", "nobody"], "no mapping 'nobody'"),
        (["--events-per-day", "1", "--users", "100000", "--days", "1"], "are none in 1 days"),
    ],
)
def test_estimate_says_what_is_wrong(args: list[str], said: str) -> None:
    result = run("estimate", *args)
    assert result.exit_code in (1, 2)
    assert said in result.output


def test_suggest_looks_at_a_log_as_it_is_and_by_a_mapping() -> None:
    plain = line("suggest", "taobao.csv")
    assert (plain["rows"], plain["time"]["column"], plain["time"]["unit"]) == (300, "c5", "s")
    mapped = line("suggest", "taobao.csv", "--mapping", "taobao")
    assert [c["name"] for c in mapped["columns"]] == ["user", "item", "category", "behaviour", "time"]
    assert {use["kind"] for use in mapped["entities"]} == {"user", "item", "category"}
    assert any(feature["in_catalogue"] == "user_events_1m" for feature in mapped["features"])
    assert "entities:" in run("suggest", "taobao.csv", "--mapping", "taobao").output


def test_suggest_says_what_is_wrong() -> None:
    for args, said in (
        (["nothing.csv"], "cannot read nothing.csv"),
        (["taobao.csv", "--label", "fraud"], "--label fraud: the file has no such column"),
        (["taobao.csv", "--time", "c1"], "--time c1: that column holds no times"),
    ):
        result = run("suggest", *args)
        assert result.exit_code in (1, 2)
        assert said in result.output


def test_explain_refuses_what_it_cannot_look_up_before_it_connects() -> None:
    assert "cannot be explained by one identifier" in run("explain", "s-1", "--entity", "session").output
    assert "is no time" in run("explain", "u-1", "--at", "noon").output
    assert "names no network" in run("explain", "nonsense", "--entity", "network").output
    assert "names no ip" in run("explain", "10.0.0.300", "--entity", "ip").output


def test_every_command_has_help_with_examples() -> None:
    for command in ("list", "show", "explain", "estimate", "suggest"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert f"millrace features {command}" in shown.output
