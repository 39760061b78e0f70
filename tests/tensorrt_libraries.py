"""NVIDIA's TensorRT for the tests of its interface: fetched once, unpacked into `.services/tensorrt/<release>/`, not installed.

The shared libraries come from Maven Central (bytedeco packs NVIDIA's), the Python bindings from PyPI. Bindings import with the
libraries of an older release, because functions are resolved at the first call: so the interface of the newest release is
compared without its library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 1_800
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_NEEDED = ("libnvinfer.so.", "libnvinfer_plugin.so.", "libnvonnxparser.so.")  # the bindings are linked with these


class FetchError(Exception):
    """Maven or pip is missing, or could not fetch a release."""


@dataclass(frozen=True)
class Release:
    """Versions of `tensorrt_cu13_bindings` (PyPI) and `org.bytedeco:tensorrt` (Maven Central; "" = the libraries of `beside`)."""

    bindings: str
    jar: str = ""
    beside: str = ""


RELEASES = {
    "10.15": Release("10.15.1.29", jar="10.15-1.5.13"),
    "11.4": Release("11.4.0.106", beside="10.15"),  # the newest bindings on PyPI (2026-11-24)
}


@dataclass(frozen=True)
class Library:
    """An unpacked release: folders of shared libraries in the order of the search, and the folder of the bindings."""

    libraries: tuple[Path, ...]
    bindings: Path

    def environment(self) -> dict[str, str]:
        """Variables with which a new Python process finds the release; they must be set before the process starts."""
        return {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries)), "PYTHONPATH": str(self.bindings)}


def fetch(root: Path, name: str) -> Library:
    """Fetch a release of RELEASES into the checkout `root` and unpack it, unless it is there (10.15: 540 MB)."""
    release, home = RELEASES[name], root / ".services" / "tensorrt" / name
    home.mkdir(parents=True, exist_ok=True)
    if release.beside:
        older = fetch(root, release.beside).libraries[0]
        _link_names(older, home / "names", release.bindings.split(".")[0])
        libraries: tuple[Path, ...] = (home / "names", older)
    else:
        libraries = (home / "lib",)
        if not libraries[0].is_dir():
            _unpack_libraries(home, release.jar)
    if not (home / "bindings").is_dir():
        _unpack_bindings(home, release.bindings)
    return Library(libraries, home / "bindings")


def _unpack_libraries(home: Path, version: str) -> None:
    if shutil.which("mvn") is None:
        raise FetchError("`mvn` is not on PATH (Debian, Ubuntu: sudo apt-get install maven)")
    artifact, repository = f"org.bytedeco:tensorrt:{version}:jar:linux-x86_64-redist", home / "m2"
    options = [f"-Dmaven.repo.local={repository}", f"-Dartifact={artifact}", f"-DoutputDirectory={home}"]
    _run(["mvn", "-B", "-q", _COPY, *options], artifact)
    shutil.rmtree(repository)  # it holds the jar a second time
    (jar,) = home.glob("*.jar")
    fresh = home / "lib.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    with zipfile.ZipFile(jar) as archive:
        for member in archive.namelist():
            if Path(member).name.startswith(_NEEDED):
                with archive.open(member) as source, (fresh / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    fresh.rename(home / "lib")
    jar.unlink()


def _unpack_bindings(home: Path, version: str) -> None:
    wheels, fresh = home / "wheel", home / "bindings.new"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    _run([*command, "--dest", str(wheels), f"tensorrt_cu13_bindings=={version}"], f"tensorrt_cu13_bindings {version}")
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(fresh)  # from PyPI, over TLS
    shutil.rmtree(wheels)
    fresh.rename(home / "bindings")


def _link_names(libraries: Path, names: Path, major: str) -> None:
    """Give the libraries a second name with the major release of newer bindings."""
    names.mkdir(exist_ok=True)
    for start in _NEEDED:
        (library,) = libraries.glob(f"{start}*")
        link = names / f"{start}{major}"
        link.unlink(missing_ok=True)
        link.symlink_to(library.resolve())


def _run(command: list[str], what: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (subprocess.SubprocessError, OSError) as err:
        output = f"{getattr(err, 'stdout', '')}{getattr(err, 'stderr', '')}"
        raise FetchError(f"{what} could not be fetched ({err}); check the network and try again\n{output[-1500:]}") from err
