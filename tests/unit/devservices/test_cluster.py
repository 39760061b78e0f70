"""What `services.cluster` does without a server: what it refuses to touch."""

from __future__ import annotations

from pathlib import Path

import pytest

from devservices import cluster
from devservices.state import ServerProgram
from stream_app.errors import ServiceError


def silent(_line: str) -> None:
    return


@pytest.mark.parametrize("record", [None, "", "{", "[]", '{"ports": [7000], "formed": true}', '{"ports": [1, 2, 3, 4, 5, 6]}'])
def test_data_of_a_cluster_without_a_readable_record_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str | None
) -> None:
    monkeypatch.setattr("devservices.process.spawn", lambda *_: pytest.fail("a server was started"))
    folder = tmp_path / ".services" / "cluster"
    data = folder / "node-4" / "data" / "nodes.conf"
    data.parent.mkdir(parents=True)
    data.write_text("somebody's")
    if record is not None:
        (folder / "cluster.json").write_text(record)
    with pytest.raises(ServiceError, match=r"cluster\.json is missing or unreadable, but 1 nodes have data.*down --wipe"):
        cluster.up(tmp_path, silent)
    assert data.read_text() == "somebody's"
    assert not cluster.status(tmp_path).ok


def test_a_try_that_ended_early_is_no_obstacle_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devservices.cluster.choose_redis", lambda *_: ServerProgram("/bin/false"))

    def breaks(_argv: object, _log: object) -> int:
        raise ServiceError("no memory")

    monkeypatch.setattr("devservices.process.spawn", breaks)
    for _ in range(2):
        with pytest.raises(ServiceError, match="no memory"):
            cluster.up(tmp_path, silent)
        (tmp_path / ".services" / "cluster" / "node-0" / "data" / "half").write_text("made")
    assert cluster.status(tmp_path).url == ""
