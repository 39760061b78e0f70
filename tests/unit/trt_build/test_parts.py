"""A large file goes a narrow way: cut into parts, carried, joined; a part that is lost or damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trt_build.errors import BuildError, RefusedError
from trt_build.library import RELEASES, environment, fetch, installed, library_folder, packed, unpacked
from trt_build.parts import cut, join

MIB = 1 << 20


def test_parts_join_to_the_same_file_and_none_is_larger_than_asked(tmp_path: Path) -> None:
    source = tmp_path / "library.zip"
    source.write_bytes(np.random.default_rng(0).bytes(3 * MIB + 17))
    *parts, listed = cut(source, tmp_path / "parts", MIB)
    assert [part.stat().st_size for part in parts] == [MIB, MIB, MIB, 17]
    assert listed.name == "parts.json"
    assert join(tmp_path / "parts", tmp_path / "there").read_bytes() == source.read_bytes()
    parts[1].unlink()
    parts[3].write_bytes(b"x" * 17)
    with pytest.raises(RefusedError, match=r"library\.zip\.001, library\.zip\.003\. Fix: carry these again"):
        join(tmp_path / "parts", tmp_path / "there")
    with pytest.raises(RefusedError, match="carry it with the parts"):
        join(tmp_path, tmp_path / "there")
    with pytest.raises(BuildError, match="give at least"):
        cut(source, tmp_path / "parts", 1_000)


def test_a_fetched_release_is_packed_and_unpacked_to_the_same_files(tmp_path: Path) -> None:
    home = library_folder(tmp_path / "here") / "10.15"
    for name in ("lib/libnvinfer.so.10", "bindings/tensorrt_bindings/__init__.py"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(name.encode())
    library = installed(tmp_path / "here")["10.15"]
    assert environment(library) == {"LD_LIBRARY_PATH": str(home / "lib"), "PYTHONPATH": str(home / "bindings")}
    archive = packed(tmp_path / "here", "10.15")
    target = library_folder(tmp_path / "there")
    target.mkdir(parents=True)
    moved = archive.rename(target / archive.name)
    found = unpacked(tmp_path / "there", moved)
    assert [(f / "libnvinfer.so.10").read_bytes() for f in found.libraries] == [b"lib/libnvinfer.so.10"]
    assert not moved.exists()
    with pytest.raises(BuildError, match=r"library fetch 11\.2"):
        packed(tmp_path / "here", "11.2")


def test_a_release_that_nobody_knows_and_a_machine_without_maven_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BuildError, match=", ".join(RELEASES)):
        fetch(tmp_path, "9.0", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="`mvn` is not on PATH"):
        fetch(tmp_path, "10.15", lambda _: None)
