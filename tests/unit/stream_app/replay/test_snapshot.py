"""A snapshot that could not be written is refused before Redis is asked for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_app.errors import ConfigError
from stream_app.replay import snapshot
from stream_app.store.memory import MemoryStore
from stream_app.wiring import build_engine, shared_kinds
from tests.unit.stream_app.replay.test_canonical import SETTINGS


def test_folders_are_made_and_a_file_that_cannot_be_written_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def build_store(*_: object) -> MemoryStore:
        built.append(MemoryStore(SETTINGS.kafka.partitions, shared_kinds(build_engine(SETTINGS))))
        return built[-1]

    monkeypatch.setattr(snapshot, "build_store", build_store)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match="cannot write"):
        snapshot.take_snapshot(SETTINGS, tmp_path / "file" / "monday.state")
    assert not built
    target = tmp_path / "missing" / "too" / "monday.state"
    assert snapshot.take_snapshot(SETTINGS, target)["entities"] == 0
    assert [path.name for path in target.parent.iterdir()] == ["monday.state"]
