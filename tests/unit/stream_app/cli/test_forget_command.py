"""`millrace forget`: what it says, and with which exit status. What it does is tested with the console's `forget`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import stream_app.admin.forget as console
from stream_app.admin.forget import ForgetReport, ForgetTimeouts
from stream_app.cli.operate.forget import forget
from stream_app.config import DEVELOPMENT_ID_KEY, Settings
from stream_app.privacy import Pseudonymizer

DIGEST = Pseudonymizer(DEVELOPMENT_ID_KEY.encode()).digest("user", "u-1042")


class Told:
    """Stands for the work: answers `done`, and keeps what it was asked."""

    def __init__(self, done: ForgetReport) -> None:
        self.done = done
        self.asked: list[tuple[Any, ...]] = []

    async def __call__(self, store: object, engine: object, *rest: Any) -> ForgetReport:
        self.asked.append(rest)
        return self.done


def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: ForgetReport, *arguments: str) -> tuple[Result, Told]:
    told = Told(done)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "forget", told)
    return CliRunner().invoke(forget, ["u-1042", *arguments]), told


def test_one_line_of_json_says_what_went_and_what_is_left_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = ForgetReport(3, (3,), Counter({"user": 1, "session": 2, "answers": 0}), proved=True)
    result, told = ran(monkeypatch, tmp_path, done, "--json", "--wait", "7")
    assert result.exit_code == 0
    [line] = result.stdout.splitlines()
    said = json.loads(line)
    assert list(said) == ["user", "group", "groups", "erased", "left", "proved"]
    assert (said["user"], said["group"], said["erased"], said["proved"]) == ("u-1042", 3, {"user": 1, "session": 2}, True)
    assert (said["left"]["since_the_call_ms"], said["left"]["answers_not_published"]) == (None, [])
    assert said["left"]["topics_days"]["clicks"] == 7
    assert "journal" not in said["left"]["topics_days"], "it names no user"
    assert set(said["left"]["shared_entities_days"]) >= {"device", "ip", "item"}
    [(digest, user, partitions, _, patience)] = told.asked
    kafka = Settings().kafka
    assert (digest, user, partitions, patience) == (
        DIGEST,
        "u-1042",
        kafka.partitions,
        ForgetTimeouts(7_000, kafka.session_timeout_ms),
    )


def test_a_person_is_told_how_it_was_proved_and_how_to_look_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = ForgetReport(3, (3,), Counter({"user": 1, "answers": 2}), seen={3: "group 3 has made commit 9 since"}, proved=True)
    result, _ = ran(monkeypatch, tmp_path, done)
    assert result.exit_code == 0
    for piece in ("1 user, 2 answers", "commit 9 since", "proved:", f"'mr:{{g3}}:*:{DIGEST.hex()}*'", "device", "intent-labels"):
        assert piece in result.stdout


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (ForgetReport(3, (3,), waiting=((3, 17),)), "commit 17 of group 3"),
        (ForgetReport(3, (3,), oldest_ms=1_700_000_000_000), "until there is no lag"),
    ],
)
def test_what_could_not_be_proved_is_said_and_is_an_exit_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: ForgetReport, says: str
) -> None:
    result, _ = ran(monkeypatch, tmp_path, done)
    assert result.exit_code == 1
    assert says in result.stdout
    assert "NOT PROVED" in result.stdout


@pytest.mark.parametrize("user", ["two words", "", "u\n", "x" * 129])
def test_what_can_be_no_users_id_is_refused(user: str) -> None:
    result = CliRunner().invoke(forget, [user])
    assert result.exit_code == 2
    assert "is not a valid user id" in result.stderr


def test_help_shows_how() -> None:
    result = CliRunner().invoke(forget, ["--help"])
    assert "millrace forget u-1042 --json" in result.stdout
