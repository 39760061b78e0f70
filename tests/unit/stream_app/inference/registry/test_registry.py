"""The model registry: the same rules over a folder and an object store; artefacts from MLflow."""

from __future__ import annotations

import fcntl
import multiprocessing
import re
import shutil
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import pytest

from model.contract import MANIFEST_FILE, MODEL_FILE
from stream_app.clock import SettableClock, SystemClock
from stream_app.errors import ConfigError, ContractError, InputFileError
from stream_app.inference.registry.directory import DirectoryBackend, settle
from stream_app.inference.registry.document import StageAssignment, WorkerStatus
from stream_app.inference.registry.mlflow_source import fetch_mlflow_artefact
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.registry_factory import open_registry
from tests.unit.stream_app.inference.registry.registry_for_tests import paper_artefact, shadow_often

with suppress(ImportError):
    import mlflow.artifacts  # noqa: F401  # it changes the environment; a test may not

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's and SQLAlchemy's of each other


class Who(TypedDict):
    by: str
    why: str


WHO: Who = {"by": "ada", "why": "tests"}


@pytest.fixture(params=["folder", "objects"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    place = str(tmp_path / "registry")
    if request.param == "objects":
        pytest.importorskip("fsspec")
        place = f"memory://{uuid.uuid4().hex}/models"
    return open_registry(place, SettableClock(77), str(tmp_path / "cache"))


@pytest.fixture
def two(registry: ModelRegistry, tmp_path: Path) -> tuple[str, str]:
    for name in ("a", "b"):
        paper_artefact(tmp_path / name, name, name.encode())
    return registry.add(tmp_path / "a"), registry.add(tmp_path / "b")


def test_an_artefact_comes_back_as_it_went_in_and_nothing_serves_until_it_is_promoted(
    registry: ModelRegistry, two: tuple[str, str], tmp_path: Path
) -> None:
    assert registry.versions() == sorted(two)
    for name in (MANIFEST_FILE, MODEL_FILE):
        assert (registry.folder(two[1]) / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (registry.stages().revision, registry.stages().line_up) == (0, StageAssignment())


def test_promotion_keeps_who_served_as_the_previous_one_and_a_rollback_changes_the_two(
    registry: ModelRegistry, two: tuple[str, str]
) -> None:
    first, second = two
    registry.promote(first, **WHO)
    registry.promote(second, **WHO)
    assert registry.stages().line_up == StageAssignment(champion=second, previous=first)
    back = registry.rollback(by="bob", why="alerts")
    assert registry.stages() == back
    assert back.line_up == StageAssignment(champion=first, previous=second)
    last = back.history[-1]
    assert (last.revision, last.by, last.why, last.at_ms, last.forced) == (3, "bob", "alerts", 77, True)
    assert [change.forced for change in back.history] == [False, False, True]


def test_a_promoted_challenger_or_shadow_leaves_its_stage(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    registry.challenge(second, 12.5, **WHO)
    registry.shadow(second, **WHO)
    assert registry.stages().line_up == StageAssignment(champion=first, challenger=second, percent=12.5, shadow=second)
    assert registry.resolve("challenger") == second
    registry.promote(second, **WHO)
    assert registry.stages().line_up == StageAssignment(champion=second, previous=first)


def test_a_withdrawn_change_leaves_all_as_it_was_but_not_after_another_one(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    promoted = registry.promote(second, **WHO)
    assert registry.withdraw(promoted.revision, **WHO).line_up == StageAssignment(champion=first)
    with pytest.raises(ContractError, match="change 3 came after it"):
        registry.withdraw(promoted.revision, **WHO)


def test_who_serves_cannot_be_removed_and_who_does_not_can(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    with pytest.raises(ContractError, match="in use"):
        registry.remove(first)
    before = registry.stages()
    registry.remove(second)
    assert registry.stages() == before
    assert registry.versions() == [first]
    with pytest.raises(ContractError, match="no model"):
        registry.folder(second)


def test_the_same_version_is_not_added_twice(registry: ModelRegistry, two: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"has .* already"):
        registry.add(tmp_path / "a")
    assert registry.versions() == sorted(two)


def test_workers_say_what_they_serve_until_they_leave(registry: ModelRegistry, two: tuple[str, str]) -> None:
    registry.promote(two[0], **WHO)
    status = WorkerStatus(worker="h-1", seen_ms=5, revision=1, serving=two[0], outcome="refused", reason="no", figures={"x": 0.5})
    registry.report(WorkerStatus(worker="h-1", seen_ms=1, revision=0, serving="", outcome="served"))
    registry.report(status)
    assert registry.workers() == [status]
    registry.leave("h-1")
    registry.leave("h-2")
    assert registry.workers() == []


def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(registry: ModelRegistry, two: tuple[str, str]) -> None:
    registry.promote(two[0], **WHO)
    before = registry.stages()
    wrongs: list[Callable[[], object]] = [
        lambda: registry.promote(two[0], **WHO),
        lambda: registry.rollback(**WHO),
        lambda: registry.challenge(two[1], 100.0, **WHO),
        lambda: registry.challenge(two[1], 0.0, **WHO),
        lambda: registry.challenge(two[0], 5.0, **WHO),
        lambda: registry.challenge("gone", 5.0, **WHO),
        lambda: registry.promote("gone", **WHO),
        lambda: registry.shadow("gone", **WHO),
    ]
    for wrong in wrongs:
        with pytest.raises(ContractError, match="Operator action"):
            wrong()
    assert registry.stages() == before


@pytest.fixture
def plain(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(DirectoryBackend(tmp_path / "registry"), SystemClock())


def test_a_version_may_be_shortened_as_long_as_it_is_clear(plain: ModelRegistry, tmp_path: Path) -> None:
    versions = []
    for number in range(2):
        paper_artefact(tmp_path / str(number), "shop", bytes([number]))
        versions.append(plain.add(tmp_path / str(number)))
    assert plain.resolve(versions[0][:9]) == versions[0]
    for unclear in ("shop", "nobody", "champion"):
        with pytest.raises(ContractError, match="Operator action"):
            plain.resolve(unclear)


def test_a_damaged_artefact_is_not_added(plain: ModelRegistry, tmp_path: Path) -> None:
    paper_artefact(tmp_path / "a", "a")
    (tmp_path / "a" / MODEL_FILE).write_bytes(b"other weights")
    with pytest.raises(ContractError, match="corrupted or was exchanged"):
        plain.add(tmp_path / "a")
    assert plain.versions() == []


def test_damaged_stages_are_told_and_not_taken_for_none(plain: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "stages.json").write_bytes(b'{"history": [{"revision": 1')
    with pytest.raises(ContractError, match="no valid document"):
        plain.stages()


def test_no_change_is_lost_when_several_processes_make_them(plain: ModelRegistry, tmp_path: Path) -> None:
    spawn, versions = multiprocessing.get_context("spawn"), []
    for number in range(3):
        paper_artefact(tmp_path / str(number), "m", bytes([number]))
        versions.append(plain.add(tmp_path / str(number)))
    writers = [spawn.Process(target=shadow_often, args=(plain.place, version, 8)) for version in versions]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        revisions = [change.revision for change in plain.stages().history]  # never half a document
        assert revisions == list(range(1, len(revisions) + 1))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    by = [change.by for change in plain.stages().history]
    assert {name: by.count(name) for name in set(by)} == dict.fromkeys(versions, 8)


def test_a_lock_whose_holder_died_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr("stream_app.inference.registry.object_store._LOCK_WAIT_S", 0.0)
    bucket = uuid.uuid4().hex
    registry = open_registry(f"memory://{bucket}", SystemClock(), str(tmp_path))
    fsspec.filesystem("memory").pipe_file(f"/{bucket}/stages.lock", b"dead-host")
    with pytest.raises(ContractError, match="held by dead-host"):
        registry.shadow("m", **WHO)


@pytest.mark.parametrize("place", ["mlflow+sqlite:///x.db#shop", "nosuchscheme://bucket/path"])
def test_a_place_that_is_none_is_refused_with_what_to_write(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.registry is"):
        open_registry(place, SystemClock(), str(tmp_path))


@pytest.mark.parametrize("registry", ["objects"], indirect=True)
def test_no_change_is_lost_where_the_store_has_no_lock_though_several_make_them_at_once(
    registry: ModelRegistry, two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.inference.registry.object_store._LOCK_POLL_S", 0.001)
    start = threading.Barrier(2)

    def change(version: str) -> None:
        own = open_registry(registry.place, SystemClock(), str(tmp_path / version))
        start.wait()
        for _ in range(4):
            own.shadow(version, by=version, why="")

    with ThreadPoolExecutor(2) as writers:
        for changed in [writers.submit(change, version) for version in two]:
            changed.result()
    history = registry.stages().history
    assert [change.revision for change in history] == list(range(1, 9))
    assert sorted(change.by for change in history) == sorted([*two] * 4)


@pytest.mark.parametrize("registry", ["objects"], indirect=True)
def test_a_lock_is_released_after_a_change_that_failed_and_its_holder_is_named_while_it_is_held(
    registry: ModelRegistry, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.inference.registry.object_store._LOCK_WAIT_S", 0.0)
    with pytest.raises(ContractError, match="holds no model"):
        registry.promote("gone", **WHO)
    registry.promote(two[0], **WHO)  # the lock was free again

    def change_meanwhile(_document: bytes | None) -> None:
        with pytest.raises(ContractError, match=rf"lock has been held by {re.escape(socket.gethostname())} for 0 s"):
            registry.shadow(two[1], **WHO)

    registry._backend.change_stages(change_meanwhile)
    assert registry.shadow(two[1], **WHO).line_up == StageAssignment(champion=two[0], shadow=two[1])


def test_an_artefact_is_added_from_a_registered_model_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("_MLFLOW_TELEMETRY_SESSION_ID", "tests")  # MLflow sets it itself
    monkeypatch.chdir(tmp_path)  # where MLflow puts artefacts without a server
    paper_artefact(tmp_path / "a", "a", b"a")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.create_run(client.create_experiment("shop"))
    client.log_artifacts(run.info.run_id, str(tmp_path / "a"), "artefact")
    client.create_registered_model("shop")
    client.create_model_version("shop", f"{run.info.artifact_uri}/artefact", run.info.run_id)
    client.set_registered_model_alias("shop", "champion", "1")
    for number, version in enumerate(("@champion", "/1")):
        (tmp_path / f"into-{number}").mkdir()
        folder = fetch_mlflow_artefact(f"mlflow:{uri}#shop{version}", tmp_path / f"into-{number}")
        registry = open_registry(str(tmp_path / f"registry-{number}"), SystemClock())
        assert (registry.folder(registry.add(folder)) / MODEL_FILE).read_bytes() == b"a"
    with pytest.raises(InputFileError, match="shop@gone"):
        fetch_mlflow_artefact(f"mlflow:{uri}#shop@gone", tmp_path)
    with pytest.raises(ConfigError, match="write mlflow:"):
        fetch_mlflow_artefact(f"mlflow:{uri}", tmp_path)


class Watched(DirectoryBackend):
    """Says whether somebody else could change the stages while it removes."""

    root: Path
    others_had_to_wait = False

    def remove(self, version: str) -> None:
        with (self.root / ".lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.others_had_to_wait = True
        super().remove(version)


def test_nobody_puts_a_model_on_a_stage_while_it_is_removed(tmp_path: Path) -> None:
    backend = Watched(tmp_path / "registry")
    backend.root = tmp_path / "registry"
    registry = ModelRegistry(backend, SystemClock())
    paper_artefact(tmp_path / "a", "a")
    registry.remove(registry.add(tmp_path / "a"))
    assert backend.others_had_to_wait


def test_a_removal_that_breaks_off_leaves_nothing_that_is_listed_and_it_can_be_added_again(
    plain: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper_artefact(tmp_path / "a", "a")
    version = plain.add(tmp_path / "a")

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            plain.remove(version)
    assert plain.versions() == []
    assert plain.add(tmp_path / "a") == version
    assert {path.name for path in plain.folder(version).iterdir()} == {path.name for path in (tmp_path / "a").iterdir()}


def test_a_worker_that_ends_while_the_others_are_listed_is_left_out(plain: ModelRegistry, tmp_path: Path) -> None:
    status = WorkerStatus(worker="h-1", seen_ms=5, revision=1, serving="m", outcome="served")
    plain.report(status)
    (tmp_path / "registry" / "workers" / "h-0.json").symlink_to("gone")  # listed, and not there when it is read
    assert plain.workers() == [status]


def test_two_workers_that_fetch_the_same_artefact_leave_each_other_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = pytest.importorskip("fsspec").filesystem("memory")
    place, cache = f"memory://{uuid.uuid4().hex}/models", tmp_path / "cache"
    one, other = (open_registry(place, SystemClock(), str(cache)) for _ in range(2))
    paper_artefact(tmp_path / "a", "a")
    version = one.add(tmp_path / "a")
    fetch = files.cat_file
    theirs: list[int] = []

    def while_the_other_fetches(path: str) -> bytes:
        if not theirs:
            theirs.append(0)
            theirs[0] = other.folder(version).stat().st_ino
        content: bytes = fetch(path)
        return content

    monkeypatch.setattr(files, "cat_file", while_the_other_fetches)
    assert one.folder(version).stat().st_ino == theirs[0]
    assert [path.name for path in (cache / "models").iterdir()] == [version]


def test_half_an_artefact_is_replaced_by_a_whole_one(tmp_path: Path) -> None:
    paper_artefact(tmp_path / "coming", "a")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / MODEL_FILE).write_bytes(b"half")
    settle(tmp_path / "coming", tmp_path / "target")
    assert (tmp_path / "target" / MODEL_FILE).read_bytes() == b"weights"
    assert (tmp_path / "target" / MANIFEST_FILE).exists()
