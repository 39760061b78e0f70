from pathlib import Path

import pytest

from model.atomic_file import atomic_write


def test_after_an_error_the_old_content_stays_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"ne", 1])  # type: ignore[list-item]
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("state.json", b"old")]
