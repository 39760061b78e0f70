"""Which redis-server may open which files. The servers are scripts that name a version; the real ones: tests/integration."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devservices import redis_binary
from devservices.kafka_broker import VERSION, KafkaBroker
from devservices.redis_binary import choose_redis, data_version
from devservices.state import ServerProgram
from stream_app.errors import ServiceError


def header(version: str, product: str = "redis") -> bytes:
    name = f"{product}-ver".encode()
    return b"REDIS0010\xfa" + bytes([len(name)]) + name + bytes([len(version)]) + version.encode() + b"\xfa\x0aredis-bits\xc0@"


def old_data(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "appendonly.aof").write_bytes(content)
    return folder


def new_data(folder: Path, base: bytes) -> Path:
    files = folder / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.2.base.rdb").write_bytes(base)
    (files / "appendonly.aof.2.incr.aof").write_bytes(b"*1\r\n")
    lines = ["file appendonly.aof.2.base.rdb seq 2 type b", "file appendonly.aof.2.incr.aof seq 2 type i"]
    (files / "appendonly.aof.manifest").write_text("\n".join(lines) + "\n")
    return folder


def server(folder: Path, version: str) -> str:
    path = folder / version.replace(" ", "-") / "redis-server"
    path.parent.mkdir()
    product, number = version.split()
    path.write_text(f"#!/bin/sh\necho '{product} server v={number} sha=00000000:0 malloc=libc bits=64 build=1'\n")
    path.chmod(0o755)
    return str(path)


def install(monkeypatch: pytest.MonkeyPatch, system: str | None, bundled: str | None = None) -> None:
    monkeypatch.setattr(redis_binary, "redis_server", lambda _progress: system or bundled)
    monkeypatch.setattr(redis_binary, "system_redis", lambda: system)
    monkeypatch.setattr(redis_binary, "bundled_redis", lambda: bundled)


def silent(_line: str) -> None:
    return


def test_the_files_name_the_version_that_wrote_them(tmp_path: Path) -> None:
    assert data_version(tmp_path / "none") == ""
    assert data_version(old_data(tmp_path / "commands", b"*2\r\n$6\r\nSELECT\r\n")) == ""
    assert data_version(old_data(tmp_path / "6.2", header("6.2.14"))) == "Redis 6.2.14"
    assert data_version(new_data(tmp_path / "7.0", header("7.0.15"))) == "Redis 7.0.15"
    assert data_version(new_data(tmp_path / "valkey", header("8.1.0", "valkey"))) == "Valkey 8.1.0"
    # What an older server left there too is not what counts.
    assert data_version(old_data(tmp_path / "7.0", header("6.2.14"))) == "Redis 7.0.15"
    # An older one's file that a later one has taken over; a base of plain commands.
    assert data_version(new_data(tmp_path / "taken over", header("6.2.14"))) == "Redis 7 or later"
    assert data_version(new_data(tmp_path / "plain", b"*2\r\n$6\r\nSELECT\r\n")) == "Redis 7 or later"


def test_without_data_the_pinned_server_runs_and_else_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, pinned = server(tmp_path, "Redis 7.0.15"), server(tmp_path, "Redis 6.2.14")
    install(monkeypatch, system)
    assert choose_redis([tmp_path], "", silent) == ServerProgram(system, "Redis 7.0.15")
    assert choose_redis([tmp_path], pinned, silent) == ServerProgram(pinned, "Redis 6.2.14")
    assert choose_redis([tmp_path], f"{pinned}-removed", silent).path == system


def test_data_are_opened_by_an_installed_server_of_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, newer = server(tmp_path, "Redis 6.2.14"), server(tmp_path, "Redis 7.0.20")
    data = new_data(tmp_path / "data", header("7.0.15"))
    install(monkeypatch, system=newer, bundled=older)
    lines: list[str] = []
    assert choose_redis([data], older, lines.append).path == newer, "the last numbers may differ"
    assert re.search(r"\(Redis 7\.0\.20\) runs, since it wrote the data; .* is Redis 6\.2\.14", lines[0])
    install(monkeypatch, system=older, bundled=newer)
    assert choose_redis([data], "", silent).path == newer


@pytest.mark.parametrize("version", ["Redis 6.2.14", "Redis 7.2.4", "Redis 8.0.0", "Valkey 7.0.15"])
def test_data_of_another_version_are_refused_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    install(monkeypatch, system=server(tmp_path, version))
    data = new_data(tmp_path / "data", header("7.0.15"))
    with pytest.raises(ServiceError, match=rf"written by Redis 7\.0\.15, but .* is {version} .*Operator action: install"):
        choose_redis([tmp_path / "empty", data], "", silent)
    taken_over = new_data(tmp_path / "taken over", header("6.2.14"))
    install(monkeypatch, system=server(tmp_path, "Redis 6.0.0"))
    with pytest.raises(ServiceError, match=r"written by Redis 7 or later, but .* Redis 6"):
        choose_redis([taken_over], "", silent)


def test_nodes_of_a_cluster_get_one_server_that_reads_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, system=server(tmp_path, "Redis 7.0.15"), bundled=server(tmp_path, "Redis 6.2.14"))
    nodes = [new_data(tmp_path / "a", header("7.0.1")), old_data(tmp_path / "b", header("6.2.1"))]
    with pytest.raises(ServiceError, match=r"b were written by Redis 6\.2\.1, but .* Redis 7\.0\.15"):
        choose_redis(nodes, "", silent)


def test_a_server_that_does_not_run_here_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'not found' >&2; exit 127\n")
    broken.chmod(0o755)
    install(monkeypatch, system=str(broken))
    with pytest.raises(ServiceError, match="does not name its version"):
        choose_redis([tmp_path], "", silent)


def test_topics_of_a_later_kafka_are_refused_with_both_versions(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path)
    broker.data.mkdir(parents=True)
    (broker.data / "meta.properties").touch()
    with pytest.raises(ServiceError, match=rf"written by Kafka 99\.0\.1, a later version than Kafka {VERSION}.*Operator action"):
        broker.prepare(silent, ServerProgram("/usr/bin/java", "Kafka 99.0.1"))
