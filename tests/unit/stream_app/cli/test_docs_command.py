from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stream_app.__main__ import run

CHECKOUT = Path(__file__).resolve().parents[4]


def test_the_documents_of_this_checkout_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    status = run(["docs", "--check", "--root", str(CHECKOUT)])
    assert status == 0, capsys.readouterr().out


def test_writing_makes_a_checkout_fresh_and_a_change_makes_it_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    shutil.copytree(CHECKOUT / "docs" / "examples", tmp_path / "docs" / "examples")
    assert run(["docs", "--check", "--root", str(tmp_path)]) == 1
    assert run(["docs", "--root", str(tmp_path)]) == 0
    assert run(["docs", "--check", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    (tmp_path / "docs" / "topics.md").write_text("# Something else\n")
    assert run(["docs", "--check", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "docs/topics.md:1: has '# Something else', the code gives '# Topics'" in out
    assert "run `millrace docs`" in out


def test_a_folder_that_is_no_checkout_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["docs", "--root", str(tmp_path)]) == 2
    assert "not a checkout of Millrace" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
