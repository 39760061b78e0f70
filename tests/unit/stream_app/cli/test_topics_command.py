from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.__main__ import run


@pytest.fixture(autouse=True)
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".services").mkdir()
    state = '{"kafka": {"bootstrap": "127.0.0.1:1"}, "redis": {"url": "redis://127.0.0.1:1/0"}, "kind": "embedded"}'
    (tmp_path / ".services" / "services.json").write_text(state)


def test_the_embedded_brokers_topics_are_said_to_be_made_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics", "create"]) == 0
    assert "embedded broker" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["topics", "check"], ["tail", "clicks"]])
def test_the_services_of_this_folder_are_the_ones_spoken_to(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 1
    assert "the broker at 127.0.0.1:1 did not answer" in capsys.readouterr().err
