"""The commit is asked of git, and there may be none."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import commit


def test_outside_of_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "_CHECKOUT", tmp_path)
    assert commit.commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without git
    assert commit.commit() == "unknown"
