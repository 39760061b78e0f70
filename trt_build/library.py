"""NVIDIA's TensorRT for tests and for GPU machines without NVIDIA's package index: fetched, unpacked, cut into parts, joined.

The shared libraries come from Maven Central (bytedeco packs NVIDIA's), the Python bindings from PyPI, both into
`.services/tensorrt/<release>/`; nothing is installed. The bindings of a release import with the libraries of an older one,
because what they call is looked up when it is called: so the interface of the newest release can be looked at without its
library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trt_build.errors import BuildError

__all__ = [
    "RELEASES",
    "Library",
    "Release",
    "environment",
    "fetch",
    "installed",
    "library_folder",
    "packed",
    "unpacked",
]

Say = Callable[[str], None]

_MAVEN_PATIENCE_S: Final = 1_800.0
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_NEEDED: Final = ("libnvinfer.so.", "libnvinfer_plugin.so.", "libnvonnxparser.so.")  # what the bindings are linked with
_FOR_BUILDING: Final = ("libnvinfer_builder_resource",)  # 230 MB more, on a GPU machine


@dataclass(frozen=True)
class Release:
    """One release: where its bindings and its libraries come from.

    Attributes:
        bindings: version of `tensorrt_cu13_bindings` on PyPI.
        jar: version of `org.bytedeco:tensorrt` on Maven Central; "" = there is none, it is looked at with `beside`'s.
        beside: the release whose libraries are taken then.
    """

    bindings: str
    jar: str = ""
    beside: str = ""


# By the name of its folder. The first two run; the third is the newest bindings on PyPI (2026-11-24), for their interface alone.
RELEASES: Final = {
    "10.15": Release("10.15.1.29", jar="10.15-1.5.13"),
    "11.2": Release("11.2.1.2", jar="11.2-1.5.14"),
    "11.4": Release("11.4.0.106", beside="10.15"),
}


@dataclass(frozen=True)
class Library:
    """An unpacked release: folders of shared libraries, to be searched in this order, and of the bindings."""

    release: str
    libraries: tuple[Path, ...]
    bindings: Path


def library_folder(root: Path) -> Path:
    """Return where releases are unpacked in the checkout `root`."""
    return root / ".services" / "tensorrt"


def installed(root: Path) -> dict[str, Library]:
    """Return what is unpacked and complete, by release."""
    found = {}
    for name, release in RELEASES.items():
        home = library_folder(root) / name
        own = library_folder(root) / (release.beside or name) / "lib"
        libraries = (home / "names", own) if release.beside else (own,)
        if all(folder.is_dir() for folder in libraries) and (home / "bindings").is_dir():
            found[name] = Library(name, libraries, home / "bindings")
    return found


def environment(library: Library) -> dict[str, str]:
    """Return the variables with which a new Python process finds it; they must stand before the process starts."""
    return {
        "LD_LIBRARY_PATH": ":".join(str(folder) for folder in library.libraries),
        "PYTHONPATH": str(library.bindings),
    }


def fetch(root: Path, name: str, say: Say, *, for_building: bool = False, python: str = "") -> Library:
    """Fetch a release and unpack it, unless it is there.

    Args:
        root: the checkout.
        name: of RELEASES.
        say: told what takes long.
        for_building: also what building a plan needs.
        python: version of the interpreter that the bindings are for, as "3.12"; "" = this one.

    Raises:
        BuildError: Maven or pip is missing, or could not fetch it.
    """
    release = RELEASES.get(name)
    if release is None:
        raise BuildError(f"TensorRT {name}: no such release is known here; it is one of {', '.join(RELEASES)}")
    home = library_folder(root) / name
    home.mkdir(parents=True, exist_ok=True)
    if release.beside:
        _names_of_next(fetch(root, release.beside, say).libraries[0], home / "names", release.bindings.split(".")[0])
    else:
        _libraries(home, release, say, for_building=for_building)
    _bindings(home, release, say, python)
    return installed(root)[name]


def packed(root: Path, name: str) -> Path:
    """Pack a fetched release into one archive beside it; return the archive.

    Raises:
        BuildError: It is not here.
    """
    found = installed(root).get(name)
    if found is None:
        raise BuildError(f"TensorRT {name} is not here. Fix: python -m trt_build library fetch {name} --for-building")
    archive = library_folder(root) / f"tensorrt-{name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for folder in ("lib", "bindings"):
            home = library_folder(root) / name
            for path in sorted((home / folder).rglob("*")):
                if path.is_file():
                    target.write(path, str(Path(name) / path.relative_to(home)))
    return archive


def unpacked(root: Path, archive: Path) -> Library:
    """Unpack what `packed` made, and remove the archive."""
    name = archive.stem.removeprefix("tensorrt-")
    with zipfile.ZipFile(archive) as packed_files:
        packed_files.extractall(library_folder(root))
    archive.unlink()
    return installed(root)[name]


def _libraries(home: Path, release: Release, say: Say, *, for_building: bool) -> None:
    wanted = _NEEDED + (_FOR_BUILDING if for_building else ())
    there = [path.name for path in (home / "lib").glob("*.so*")]
    if all(any(name.startswith(start) for name in there) for start in wanted):
        return
    jar = _jar(home, release, say)
    fresh = home / "lib.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    with zipfile.ZipFile(jar) as archive:
        for member in archive.namelist():
            if Path(member).name.startswith(wanted):
                with archive.open(member) as packed, (fresh / Path(member).name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 1 << 20)
    shutil.rmtree(home / "lib", ignore_errors=True)
    fresh.rename(home / "lib")
    jar.unlink()


def _jar(home: Path, release: Release, say: Say) -> Path:
    jar = home / f"tensorrt-{release.jar}-linux-x86_64-redist.jar"
    if jar.exists():
        return jar
    if shutil.which("mvn") is None:
        raise BuildError("`mvn` is not on PATH; it fetches TensorRT's libraries (Debian, Ubuntu: sudo apt-get install maven)")
    say(f"fetching TensorRT {release.jar} from Maven Central (about 540 MB)")
    repository = home / "m2"
    artifact = f"org.bytedeco:tensorrt:{release.jar}:jar:linux-x86_64-redist"
    command = [
        "mvn",
        "-B",
        "-q",
        f"-Dmaven.repo.local={repository}",
        _COPY,
        f"-Dartifact={artifact}",
        f"-DoutputDirectory={home}",
    ]
    _run(command, f"Maven could not fetch {artifact}; check the network and try again")
    shutil.rmtree(repository, ignore_errors=True)  # it holds the jar a second time
    return jar


def _bindings(home: Path, release: Release, say: Say, python: str) -> None:
    if (home / "bindings").is_dir() and not python:
        return
    say(f"fetching the bindings {release.bindings} from PyPI (1 MB)")
    wheels = home / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--python-version", python] if python else []
    command += ["--dest", str(wheels), f"tensorrt_cu13_bindings=={release.bindings}"]
    _run(command, f"pip could not fetch tensorrt_cu13_bindings {release.bindings}; check the network and try again")
    fresh = home / "bindings.new"
    shutil.rmtree(fresh, ignore_errors=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(fresh)  # from PyPI, over TLS
    shutil.rmtree(wheels)
    shutil.rmtree(home / "bindings", ignore_errors=True)
    fresh.rename(home / "bindings")


def _names_of_next(libraries: Path, names: Path, major: str) -> None:
    """Give the libraries a second name, that of the major release whose bindings are to import with them."""
    names.mkdir(exist_ok=True)
    for start in _NEEDED:
        library = next(path for path in libraries.iterdir() if path.name.startswith(start))
        link = names / f"{start}{major}"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "..", libraries.parent.name, "lib", library.name))


def _run(command: list[str], what_failed: str) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MAVEN_PATIENCE_S)
    except subprocess.TimeoutExpired as err:
        raise BuildError(f"{what_failed} (no end after {_MAVEN_PATIENCE_S:.0f} s)") from err
    if done.returncode:
        raise BuildError(f"{what_failed} (exit {done.returncode}):\n{(done.stdout + done.stderr).strip()[-1500:]}")
