"""`millrace validate`: each defect that is planted is found where it is, and clean logs, real ones among them, give no alarm."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from stream_app.cli.logs.sort import command as sort_command
from stream_app.cli.logs.validate import command
from stream_app.errors import ConfigError

BASE_MS = 1_790_000_000_000
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
DATA = Path(__file__).resolve().parents[5] / "shared" / "data"

Lines = list[dict[str, Any]]


def click_line(number: int, time_ms: int, user: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event_id": f"c-{number}", "user": user, "event_time_ms": time_ms, "device": f"d-{user}", "action": "view",
        "item": f"i-{number % 50}",
    }  # fmt: skip
    event |= changes
    return {"topic": "clicks", "key": event["user"], "value": json.dumps(event), "time_ms": event["event_time_ms"] + 20}


def clean(count: int = 1_200) -> Lines:
    """A shop's clicks: a few seconds apart, some users more active than others."""
    draw, time_ms, lines = random.Random(3), BASE_MS, Lines()
    for number in range(count):
        time_ms += draw.randrange(1, 20_000)
        lines.append(click_line(number, time_ms, f"u-{int(300 * draw.random() ** 2)}"))
    return lines


def changed(lines: Lines, at: int, **changes: Any) -> None:
    event = json.loads(lines[at]["value"]) | changes
    lines[at] = {**lines[at], "key": event["user"], "value": json.dumps(event)}


def written(path: Path, lines: Sequence[dict[str, Any] | str]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def validated(path: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(command, [str(path), "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert found["status"] == result.exit_code
    return found


def grave(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for finding in found["findings"] if finding["level"] != "info"]


def test_a_clean_log_gives_no_alarm(tmp_path: Path) -> None:
    found = validated(written(tmp_path / "log.jsonl", clean()))
    assert found["findings"] == []
    assert found["status"] == 0
    assert found["events"] == found["rows"] == 1_200
    assert abs(found["cardinality"]["item"] - 50) <= 2


# --- one defect each ----------------------------------------------------------------------------------------------------


def plant_bad_line(lines: Lines) -> None:
    lines[600] = {**lines[600], "value": '{"event_id":"c-600"'}


def plant_late_event(lines: Lines) -> None:
    user = json.loads(lines[700]["value"])["user"]
    changed(lines, 701, event_time_ms=BASE_MS - 2 * DAY_MS, user=user)


def plant_duplicate(lines: Lines) -> None:
    lines[800] = lines[790]


def plant_reused_id(lines: Lines) -> None:
    changed(lines, 900, event_id="c-12")


def plant_gap(lines: Lines) -> None:
    for at in range(500, len(lines)):
        event = json.loads(lines[at]["value"])
        changed(lines, at, event_time_ms=event["event_time_ms"] + 30 * HOUR_MS)
        lines[at]["time_ms"] += 30 * HOUR_MS


def plant_clock_ahead(lines: Lines) -> None:
    event = json.loads(lines[300]["value"])
    changed(lines, 300, event_time_ms=event["event_time_ms"] + 20 * MINUTE_MS)


def plant_clock_unset(lines: Lines) -> None:
    changed(lines, 400, event_time_ms=5_000)


def plant_default_device(lines: Lines) -> None:
    for at in range(0, len(lines), 2):
        changed(lines, at, device="d-default")


def plant_placeholder(lines: Lines) -> None:
    changed(lines, 100, device="unknown")


def plant_user_of_its_own(lines: Lines) -> None:
    for at in range(len(lines)):
        changed(lines, at, user=f"u-{at}")


@pytest.mark.parametrize(
    ("plant", "check", "place"),
    [
        (plant_bad_line, "schema", "line 601"),
        (plant_late_event, "order", "line 702"),
        (plant_duplicate, "duplicates", "line 801 (first: line 791)"),
        (plant_reused_id, "duplicates", "line 901 (first: line 13)"),
        (plant_gap, "gaps", "line 501"),
        (plant_clock_ahead, "clock", "line 301"),
        (plant_clock_unset, "clock", "line 401"),
        (plant_default_device, "cardinality", ""),
        (plant_placeholder, "cardinality", "line 101"),
        (plant_user_of_its_own, "cardinality", ""),
    ],
)
def test_a_planted_defect_is_found_with_its_place_and_what_to_do(
    tmp_path: Path, plant: Callable[[Lines], None], check: str, place: str
) -> None:
    lines = clean()
    plant(lines)
    found = validated(written(tmp_path / "log.jsonl", lines))
    assert found["status"] == 1
    assert {finding["check"] for finding in grave(found)} == {check}
    assert all(finding["action"] for finding in found["findings"])
    if place:
        assert place in grave(found)[0]["places"]


def test_lines_that_are_wrong_alike_are_one_finding(tmp_path: Path) -> None:
    lines = clean()
    for at in (900, 7, 80):
        lines[at] = {**lines[at], "value": '{"event_id":' + " " * at + "x"}
    [finding] = grave(validated(written(tmp_path / "log.jsonl", lines)))
    assert finding["count"] == 3
    assert finding["places"] == ["line 8", "line 81", "line 901"]


@pytest.mark.parametrize(
    ("first", "checks"),
    [("", set()), (" \n", set()), ('{"topic": "cli', {"schema"}), ("\x00garbled", {"schema"}), ("[1]", {"schema"})],
)
def test_a_log_is_known_by_its_first_lines_and_not_by_the_very_first(tmp_path: Path, first: str, checks: set[str]) -> None:
    found = validated(written(tmp_path / "log.jsonl", [first, *clean()]))
    assert found["events"] == 1_200
    assert {finding["check"] for finding in grave(found)} == checks
    assert found["status"] == len(checks)


def test_an_event_table_is_judged_as_the_log_it_was_sorted_from(tmp_path: Path) -> None:
    lines = clean()
    plant_duplicate(lines)
    plant_reused_id(lines)
    log = written(tmp_path / "log.jsonl", lines)
    table = tmp_path / "log.parquet"
    result = CliRunner().invoke(sort_command, [str(log), "--out", str(table)])
    assert result.exception is None, result.output
    found, of_log = validated(table), validated(log)
    assert found["checks"] == of_log["checks"]
    assert found["cardinality"] == of_log["cardinality"]
    assert found["events"] == found["rows"] == 1_200
    assert "row 901 (first: row 13)" in [place for finding in grave(found) for place in finding["places"]]
    with pytest.raises(ConfigError, match="is an event table"):
        CliRunner().invoke(command, [str(table), "--label", "fraud"], catch_exceptions=False)


def test_a_log_that_was_recorded_is_told_by_its_own_lines(tmp_path: Path) -> None:
    lines = clean()
    plant_reused_id(lines)
    recorded = [{**line, "partition": number % 3, "offset": 5_000 + number} for number, line in enumerate(lines)]
    found = validated(written(tmp_path / "log.jsonl", recorded))
    assert found["rows"] == 1_200
    [finding] = grave(found)
    assert finding["places"] == ["line 901 (first: line 13)"]


def test_pauses_every_night_are_no_gap(tmp_path: Path) -> None:
    lines = [
        click_line(number, BASE_MS + number // 400 * DAY_MS + number % 400 * MINUTE_MS, f"u-{number % 90}")
        for number in range(4_000)
    ]  # ten days, of which each begins 17 hours after the one before it ended
    found = validated(written(tmp_path / "log.jsonl", lines))
    assert grave(found) == []
    assert found["findings"][0]["check"] == "gaps"


# --- leakage ------------------------------------------------------------------------------------------------------------


def table(path: Path, *, leaks: bool) -> Path:
    draw, rows = random.Random(5), ["time,customer_id,amount,risk_code,fraud"]
    for number in range(2_000):
        fraud = draw.random() < 0.05
        code = (9 if fraud else draw.randrange(3)) if leaks else draw.randrange(4)
        rows.append(f"{BASE_MS // 1_000 + 60 * number},{draw.randrange(150)},{draw.uniform(1, 90):.2f},{code},{int(fraud)}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_column_that_knows_the_label_is_found_and_an_honest_one_is_not(tmp_path: Path) -> None:
    [leak] = grave(validated(table(tmp_path / "leaks.csv", leaks=True)))
    assert leak["check"] == "leakage"
    assert leak["message"].startswith("risk_code tells fraud")
    assert grave(validated(table(tmp_path / "honest.csv", leaks=False))) == []


def test_a_leak_matters_only_where_an_event_is_made_of_it(tmp_path: Path) -> None:
    mapping = tmp_path / "pays.toml"
    fields = (
        'event_id = "p-{row}"\nuser = "c-{customer_id}"\nevent_time_ms = { column = "time", unit = "s" }\n'
        'lines = [{ item = "x" }]\ncurrency = "EUR"\n'
    )
    head = 'name = "pays"\ndescription = "payments"\n[source]\nformat = "csv"\n[[record]]\ntopic = "orders"\n[record.fields]\n'
    path = table(tmp_path / "leaks.csv", leaks=True)
    mapping.write_text(f'{head}{fields}amount = {{ column = "amount" }}\n')
    assert grave(validated(path, "--mapping", str(mapping))) == []
    mapping.write_text(f'{head}{fields}amount = {{ column = "risk_code" }}\n')
    assert [finding["check"] for finding in grave(validated(path, "--mapping", str(mapping)))] == ["leakage"]


# --- what cannot be used ------------------------------------------------------------------------------------------------


def test_a_log_without_events_a_missing_and_an_empty_file_cannot_be_used(tmp_path: Path) -> None:
    lines = [{"topic": "clicks", "key": "u", "value": "{}", "time_ms": BASE_MS}]
    assert validated(written(tmp_path / "none.jsonl", lines))["status"] == 2
    assert validated(tmp_path / "missing.csv")["status"] == 2
    (tmp_path / "empty.csv").touch()
    assert validated(tmp_path / "empty.csv")["status"] == 2


def test_what_stands_before_the_end_of_a_file_that_was_cut_off_is_checked(tmp_path: Path) -> None:
    whole = gzip.compress(written(tmp_path / "log.jsonl", clean()).read_bytes())
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    found = validated(cut)
    assert found["status"] == 1
    assert 100 < found["events"] < 1_200
    assert "too early" in grave(found)[0]["message"]


def test_the_page_names_every_finding_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    lines = clean()
    plant_duplicate(lines)
    changed(lines, 5, device="<b>null")
    page = tmp_path / "report.html"
    found = validated(written(tmp_path / "log.jsonl", lines), "--report", str(page))
    html = page.read_text()
    assert "1 events are there twice" in html
    assert "http" not in html
    assert "<b>" not in html
    assert found["checks"]["duplicates"] == 1


# --- real logs ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")
@pytest.mark.parametrize(
    ("file", "mapping"),
    [("clickstream/taobao_user_behavior.csv.gz", "taobao"), ("fraud/card_transactions_apr_aug_2018.parquet", "cards")],
)
def test_clean_real_logs_give_no_alarm(file: str, mapping: str) -> None:
    found = validated(DATA / file, "--mapping", mapping, "--rows", "25000")
    assert grave(found) == []
    assert found["events"] == 25_000
