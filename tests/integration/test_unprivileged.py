"""The steps of the image (deploy/Dockerfile) as a user who owns nothing: no home, no folder to write but the temporary one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_app.admin.broker import connect
from stream_app.admin.topics import create_topics, plan_topics

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.case("folder that cannot be written")]

CHECKOUT = Path(__file__).resolve().parents[2]
# Root without the right to write what it does not own; else the tests' own user, who owns none of it either.
RIGHTS = "-dac_override,-dac_read_search"
UNPRIVILEGED = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"] if os.getuid() == 0 else []
READ_ONLY = 'mount --make-rprivate / && mount -o remount,bind,ro / && mount -t tmpfs tmpfs "$TMPDIR" && exec "$@"'
COMPILED = ("stream_app.features.fold", "stream_app.inference.retrieval.item_index", "stream_app.inference.retrieval.ivf_index")
MAPPING = """
name = "visits"
[source]
format = "csv"
[[record]]
topic = "clicks"
[record.fields]
event_id = "e-{row}"
user = "{user}"
event_time_ms = { column = "at", unit = "iso" }
action = "view"
item = "{item}"
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A folder with what the image holds, which the user cannot write."""
    folder = tmp_path / "image"
    for name in ("stream_app", "model", "devservices"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        if os.getuid() == 0:
            os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


@pytest.fixture(params=["unwritable folder", "read-only root"])
def start(
    request: pytest.FixtureRequest,
    image: Path,
    tmp_path: Path,
    kafka_bootstrap: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
) -> Iterator[Start]:
    """Starts `millrace ARGUMENTS`, or `python -c CODE`, in the image."""
    prefix, scratch = list(UNPRIVILEGED), tmp_path / "scratch"
    scratch.mkdir(mode=0o777)
    if request.param == "read-only root":
        prefix = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh", *prefix]
        if subprocess.run([*prefix, "true"], env={**os.environ, "TMPDIR": str(scratch)}, check=False).returncode:
            pytest.skip("this machine lets nobody make its root read-only")
    environ = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(image), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent",
        "TMPDIR": str(scratch), "MILLRACE_KAFKA_BOOTSTRAP": kafka_bootstrap, "MILLRACE_KAFKA_TOPIC_PREFIX": topic_prefix,
        "MILLRACE_KAFKA_PARTITIONS": "2",
        "MILLRACE_KAFKA_GROUP": f"{topic_prefix}group", "MILLRACE_REDIS_URL": redis_url, "MILLRACE_REDIS_PREFIX": redis_prefix,
    }  # fmt: skip
    if request.param == "read-only root":  # compiling half a minute once is enough
        environ["NUMBA_DISABLE_JIT"] = "1"
    else:  # the image's folder of compiled code, under another user id than the image's
        closed = tmp_path / "closed"
        closed.mkdir()
        if os.getuid() == 0:
            os.chown(closed, 65534, 65534)
        closed.chmod(0o000)
        environ["NUMBA_CACHE_DIR"] = str(closed / "numba")
    with connect(kafka_bootstrap) as admin:
        create_topics(admin, plan_topics(2, prefix=topic_prefix))
    processes = []

    def begin(*arguments: str, **changes: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, *(arguments if arguments[0] == "-c" else ("-m", "stream_app", *arguments))],
            cwd=image, env={**environ, **changes}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.case("any user id")
def test_the_commands_of_the_image_need_no_folder(start: Start, tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text("user,at,item\nu-1,2026-01-01T10:00:00Z,i-1\nu-2,2026-01-01T10:01:00Z,i-2\n")
    (tmp_path / "map.toml").write_text(MAPPING)
    imported = start("import", str(tmp_path / "visits.csv"), "--mapping", str(tmp_path / "map.toml"))
    out, errors = imported.communicate(timeout=120)
    assert (imported.returncode, json.loads(out.splitlines()[-1])["events"]) == (0, 2), errors
    compiled = start("-c", f"import {', '.join(COMPILED)}", NUMBA_DISABLE_JIT="0")
    assert (compiled.communicate(timeout=60)[1], compiled.returncode) == ("", 0)
    worker = start("worker")
    tail = start("tail", "intent-labels", "--from", "beginning", "--limit", "2", "--json")
    answers, errors = tail.communicate(timeout=170)
    assert sorted(json.loads(line)["user"] for line in answers.splitlines()) == ["u-1", "u-2"], errors
    worker.terminate()
    _, log = worker.communicate(timeout=60)
    assert worker.returncode == 0, log
    assert "Traceback" not in log


def test_a_chosen_folder_that_cannot_be_written_is_named(start: Start, image: Path) -> None:
    worker = start("worker", MILLRACE_WORKER_FOLDER=str(image / "work"))
    _, log = worker.communicate(timeout=120)
    assert worker.returncode == 2
    assert f"millrace: worker.folder (MILLRACE_WORKER_FOLDER) is {image}/work, which cannot be written" in log
    services = start("services", "up")
    _, errors = services.communicate(timeout=60)
    assert (services.returncode, "Traceback" in errors) == (1, False)
    assert "millrace: .services" in errors
