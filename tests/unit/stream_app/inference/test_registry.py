"""The model registry: the same rules over a folder, an object store and MLflow."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import pytest

from model.contract import MANIFEST_FILE, MODEL_FILE
from stream_app.clock import SettableClock, SystemClock
from stream_app.errors import ConfigError, ContractError
from stream_app.inference.registry import ModelRegistry
from stream_app.inference.registry_directory import DirectoryShelf
from stream_app.inference.registry_document import LineUp, WorkerStatus
from stream_app.inference.registry_places import open_registry
from tests.unit.stream_app.inference.registry_for_tests import paper_artefact, shadow_often

with suppress(ImportError):
    import mlflow.artifacts  # noqa: F401  # it changes the environment; a test may not

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's and SQLAlchemy's of each other


class Who(TypedDict):
    by: str
    why: str


WHO: Who = {"by": "ada", "why": "tests"}


@pytest.fixture(scope="module")
def mlflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(params=["folder", "objects", "mlflow"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    place = str(tmp_path / "registry")
    if request.param == "objects":
        pytest.importorskip("fsspec")
        place = f"memory://{uuid.uuid4().hex}/models"
    elif request.param == "mlflow":
        home: Path = request.getfixturevalue("mlflow_home")
        monkeypatch.setenv("_MLFLOW_TELEMETRY_SESSION_ID", "tests")  # it sets that itself
        monkeypatch.chdir(home)  # where MLflow puts artefacts without a server
        place = f"mlflow+sqlite:///{home / 'mlflow.db'}#shop-{uuid.uuid4().hex[:8]}"
    return open_registry(place, SettableClock(77), tmp_path / "cache")


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
    assert (registry.stages().revision, registry.stages().line_up) == (0, LineUp())


def test_promotion_keeps_who_served_as_the_previous_one_and_a_rollback_changes_the_two(
    registry: ModelRegistry, two: tuple[str, str]
) -> None:
    first, second = two
    registry.promote(first, **WHO)
    registry.promote(second, **WHO)
    assert registry.stages().line_up == LineUp(champion=second, previous=first)
    back = registry.rollback(by="bob", why="alerts")
    assert registry.stages() == back
    assert back.line_up == LineUp(champion=first, previous=second)
    last = back.history[-1]
    assert (last.revision, last.by, last.why, last.at_ms, last.forced) == (3, "bob", "alerts", 77, True)
    assert [change.forced for change in back.history] == [False, False, True]


def test_a_promoted_challenger_or_shadow_leaves_its_stage(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    registry.challenge(second, 12.5, **WHO)
    registry.shadow(second, **WHO)
    assert registry.stages().line_up == LineUp(champion=first, challenger=second, percent=12.5, shadow=second)
    assert registry.resolve("challenger") == second
    registry.promote(second, **WHO)
    assert registry.stages().line_up == LineUp(champion=second, previous=first)


def test_a_withdrawn_change_leaves_all_as_it_was_but_not_after_another_one(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    promoted = registry.promote(second, **WHO)
    assert registry.withdraw(promoted.revision, **WHO).line_up == LineUp(champion=first)
    with pytest.raises(ContractError, match="change 3 came after it"):
        registry.withdraw(promoted.revision, **WHO)


def test_who_serves_cannot_be_removed_and_who_does_not_can(registry: ModelRegistry, two: tuple[str, str]) -> None:
    first, second = two
    registry.promote(first, **WHO)
    with pytest.raises(ContractError, match="in use"):
        registry.remove(first)
    registry.remove(second)
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
    ]
    for wrong in wrongs:
        with pytest.raises(ContractError, match="Operator action"):
            wrong()
    assert registry.stages() == before


@pytest.fixture
def plain(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(DirectoryShelf(tmp_path / "registry"), SystemClock())


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


def test_no_change_is_lost_when_several_processes_make_them(plain: ModelRegistry) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=shadow_often, args=(plain.place, f"m-{number}", 8)) for number in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        revisions = [change.revision for change in plain.stages().history]  # never half a document
        assert revisions == list(range(1, len(revisions) + 1))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    by = [change.by for change in plain.stages().history]
    assert {name: by.count(name) for name in set(by)} == {f"m-{number}": 8 for number in range(3)}


def test_a_lock_whose_holder_died_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr("stream_app.inference.registry_objects._LOCK_WAIT_S", 0.0)
    bucket = uuid.uuid4().hex
    registry = open_registry(f"memory://{bucket}", SystemClock(), tmp_path)
    fsspec.filesystem("memory").pipe_file(f"/{bucket}/stages.lock", b"dead-host")
    with pytest.raises(ContractError, match="held by dead-host"):
        registry.shadow("m", **WHO)


@pytest.mark.parametrize("place", ["mlflow+sqlite:///x.db", "mlflow+#name", "nosuchscheme://bucket/path"])
def test_a_place_that_is_none_is_refused_with_what_to_write(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.registry is"):
        open_registry(place, SystemClock(), tmp_path)
