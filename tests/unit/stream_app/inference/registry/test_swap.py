"""A worker's models change while it runs: tested before they are let in, between two batches, and back at once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from benchmarks.live.perturbed_model import perturbed
from model.contract import MODEL_FILE
from stream_app.admin.models import await_workers
from stream_app.clock import SettableClock
from stream_app.errors import EngineLostError, ModelFailedError
from stream_app.events import Click, Source
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines.fallback import FallbackScorer
from stream_app.inference.engines.port import RunsOn
from stream_app.inference.loading import RankerLoader
from stream_app.inference.ranker import ModelAnswers, ModelRanker
from stream_app.inference.registry.directory import DirectoryBackend
from stream_app.inference.registry.document import Stages
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.shadow import Comparer, ComparisonLine, ComparisonLog
from stream_app.inference.registry.swap import Serving, SwappableRanker
from stream_app.inference.registry.swap_follower import FollowOptions, ModelFollower, ModelLoader, first_champion
from stream_app.inference.registry.swap_gate import GateLimits, Recorder
from stream_app.inference.registry.traffic_split import share_of_users
from stream_app.metrics import Metrics
from stream_app.ranked import RankedBatch
from tests.unit.stream_app.inference.engines.on_gpu import OnGpu, shown

DEMO = Path(__file__).resolve().parents[5] / "model" / "artifacts" / "demo"
MANIFEST = load_manifest(DEMO)
LOADER = RankerLoader(catalogue_hash=MANIFEST.catalogue_hash, feature_names=MANIFEST.feature_names, engine="onnxruntime")
INPUTS = load_samples(DEMO, MANIFEST)[0]
ROWS = len(INPUTS["dense"])
LIMITS = GateLimits()
USERS = [blake2b(bytes([number]), digest_size=16).digest() for number in range(ROWS)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers a little otherwise."""
    folder = tmp_path_factory.mktemp("other") / "other"
    perturbed(DEMO, folder)
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers quite otherwise."""
    folder = tmp_path_factory.mktemp("stranger") / "stranger"
    perturbed(DEMO, folder, by=30.0, seed=2)
    return folder


class Worker:
    """What a worker has of models, without the rest of it."""

    def __init__(self, home: Path, *folders: Path, limits: GateLimits = LIMITS, loader: ModelLoader = LOADER) -> None:
        self.registry = ModelRegistry(DirectoryBackend(home / "registry"), SettableClock(5))
        self.versions = [self.registry.add(folder) for folder in folders]
        self.promote(0)
        self.metrics = Metrics(CollectorRegistry())
        self.lines = home / "comparisons.jsonl"
        self.recorder = Recorder(limits.rows)
        self.comparer = Comparer(ComparisonLog(self.lines), self.metrics)
        first = first_champion(self.registry, LOADER, self.metrics)
        self.ranker = SwappableRanker(Serving(first), self.recorder, self.comparer, self.metrics)
        options = FollowOptions(
            registry=self.registry, loader=loader, recorder=self.recorder, limits=limits, worker="w", poll_s=0.01
        )
        self.follower = ModelFollower(self.ranker, options, SettableClock(9), self.metrics)
        self.follower.look()

    def promote(self, number: int, *, forced: bool = False) -> None:
        self.registry.promote(self.versions[number], by="t", why="", forced=forced)

    def rank(self, inputs: dict[str, NDArray[Any]] = INPUTS, users: Sequence[bytes] = USERS) -> RankedBatch:
        return self.ranker.rank(inputs, users)

    def outcome(self) -> tuple[str, str]:
        [status] = self.registry.workers()
        assert (status.revision, status.serving) == (self.registry.stages().revision, self.ranker.version)
        return status.outcome, status.reason

    def counted(self, name: str) -> float:
        found: list[Sample] = getattr(self.metrics, name).collect()[0].samples
        return sum(sample.value for sample in found if sample.name.endswith("_total"))


def same(one: RankedBatch, two: RankedBatch) -> bool:
    return one.scored == two.scored and list(one.versions) == list(two.versions)


def test_a_promoted_model_serves_from_the_next_batch_on_and_answers_as_if_alone(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    before = worker.rank()
    worker.promote(1)
    assert same(worker.rank(), before), "nothing changes before the worker has looked"
    worker.follower.look()
    after = worker.rank()
    assert after.champion.version == worker.versions[1]
    assert set(after.versions) == {worker.versions[1]}
    assert same(after, LOADER.load(other).rank(INPUTS, USERS))
    assert not same(after, before)
    assert worker.outcome() == ("served", "")
    assert worker.counted("model_swaps") == 1


def test_a_rollback_takes_the_model_that_is_still_loaded_and_asks_no_gate(tmp_path: Path, stranger: Path) -> None:
    worker = Worker(tmp_path, DEMO, stranger)
    champion = worker.ranker.serving.champion
    before = worker.rank()
    worker.promote(1, forced=True)
    worker.follower.look()
    assert worker.ranker.version == worker.versions[1]
    shutil.rmtree(worker.registry.folder(worker.versions[0]))  # it needs no disk
    worker.registry.rollback(by="t", why="")
    worker.follower.look()
    assert worker.ranker.serving.champion is champion
    assert same(worker.rank(), before)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_model_that_decides_otherwise_is_refused_with_figures_and_the_old_one_serves_on(
    tmp_path: Path, stranger: Path, recorded: bool
) -> None:
    worker = Worker(tmp_path, DEMO, stranger, limits=GateLimits(candidate_overlap=0.9))
    if recorded:  # else the rows that the old one was built with are asked
        worker.rank()
    worker.promote(1)
    worker.follower.look()
    outcome, reason = worker.outcome()
    assert outcome == "refused"
    assert f"over {ROWS} recorded rows" in reason
    assert "candidates that both have is 0." in reason
    [status] = worker.registry.workers()
    assert status.figures["candidate_overlap"] < 0.9
    assert worker.ranker.version == worker.versions[0]
    worker.rank()


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_serving(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    before = worker.rank()
    path = worker.registry.folder(worker.versions[1]) / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1])
    worker.promote(1)
    worker.follower.look()
    outcome, reason = worker.outcome()
    assert outcome == "failed"
    assert "corrupted" in reason
    assert same(worker.rank(), before)


def test_a_model_for_other_features_is_not_let_in(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    folder = worker.registry.folder(worker.versions[1])
    manifest = msgspec.structs.replace(load_manifest(folder), catalogue_hash="0" * 16)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    worker.promote(1)
    worker.follower.look()
    assert worker.outcome()[0] == "failed"
    assert worker.ranker.version == worker.versions[0]


def test_a_worker_whose_champion_cannot_be_loaded_starts_with_the_previous_one(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    worker.promote(1)
    (worker.registry.folder(worker.versions[1]) / MODEL_FILE).unlink()
    assert first_champion(worker.registry, LOADER, worker.metrics).version == worker.versions[0]


def test_a_registry_that_is_away_changes_nothing(tmp_path: Path) -> None:
    worker = Worker(tmp_path, DEMO)
    before = worker.rank()
    (tmp_path / "registry" / "stages.json").write_text("{")
    worker.follower.look()
    assert worker.counted("registry_failures") == 1
    assert same(worker.rank(), before)


@pytest.mark.parametrize("recorded_first", [True, False])
def test_a_forced_champion_asks_no_gate_though_another_change_came_before_the_worker_looked(
    tmp_path: Path, stranger: Path, recorded_first: bool
) -> None:
    worker = Worker(tmp_path, DEMO, stranger, limits=GateLimits(candidate_overlap=0.9))
    if recorded_first:
        worker.rank()
    worker.promote(1, forced=True)
    worker.registry.shadow(worker.versions[0], by="t", why="")
    worker.follower.look()
    assert worker.ranker.version == worker.versions[1]
    assert worker.outcome() == ("served", "")


def test_a_champion_that_was_forced_once_asks_the_gate_when_it_is_promoted_again(tmp_path: Path, stranger: Path) -> None:
    worker = Worker(tmp_path, DEMO, stranger, limits=GateLimits(candidate_overlap=0.9))
    worker.promote(1, forced=True)
    worker.promote(0)
    worker.promote(1)
    worker.follower.look()
    assert worker.outcome()[0] == "refused"


class Failing(ModelRanker):
    def answer(self, inputs: Any) -> ModelAnswers:
        raise ModelFailedError("no")


class Strange(ModelRanker):
    """Fails with what is no error of ours."""

    def answer(self, inputs: Any) -> ModelAnswers:
        raise RuntimeError("strange")

    def close(self) -> None:
        raise RuntimeError("device lost")


def failing(model: ModelRanker, kind: type[ModelRanker] = Failing) -> ModelRanker:
    made = object.__new__(kind)
    made.__dict__.update(model.__dict__)
    return made


class Refusing:
    """Loads what it is not told to fail for."""

    def __init__(self) -> None:
        self.fails: dict[str, Exception] = {}
        self.tried: list[str] = []

    def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
        self.tried.append(folder.name)
        if folder.name in self.fails:
            raise self.fails[folder.name]
        return LOADER.load(folder, metrics)


def test_what_failed_for_a_moment_is_tried_again_until_it_works(tmp_path: Path, other: Path) -> None:
    loader = Refusing()
    worker = Worker(tmp_path, DEMO, other, loader=loader)
    loader.fails[worker.versions[1]] = RuntimeError("the store is away")  # such as a store's client raises
    worker.promote(1)
    worker.follower.look()
    assert worker.outcome() == ("failed", "RuntimeError: the store is away")
    worker.follower.look()
    assert loader.tried == [worker.versions[1]], "not at every look"
    loader.fails.clear()
    worker.follower._retry_at = time.monotonic()  # it is due
    worker.follower.look()
    assert worker.outcome() == ("served", "")
    assert worker.ranker.version == worker.versions[1]


def test_a_challenger_that_cannot_be_loaded_does_not_keep_the_shadow_out(tmp_path: Path, other: Path, stranger: Path) -> None:
    loader = Refusing()
    worker = Worker(tmp_path, DEMO, other, stranger, loader=loader)
    loader.fails[worker.versions[1]] = RuntimeError("strange")
    worker.registry.challenge(worker.versions[1], 40.0, by="t", why="")
    worker.registry.shadow(worker.versions[2], by="t", why="")
    worker.follower.look()
    serving = worker.ranker.serving
    assert (serving.challenger, serving.percent) == (None, 0.0)
    assert serving.shadow is not None
    assert serving.shadow.version == worker.versions[2]
    assert worker.outcome() == ("failed", "RuntimeError: strange")


def test_no_error_ends_the_follower(tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(tmp_path, DEMO, other)
    monkeypatch.setattr("stream_app.inference.registry.swap_follower._CLOSE_AFTER_S", 0.0)
    worker.registry.shadow(worker.versions[1], by="t", why="")
    worker.follower.look()
    serving = worker.ranker.serving
    assert serving.shadow is not None
    worker.ranker.serve(replace(serving, shadow=failing(serving.shadow, Strange)))
    worker.registry.shadow("", by="t", why="")
    worker.follower.look()
    worker.follower.look()
    read = worker.registry.stages

    def strange() -> Stages:
        raise RuntimeError("of a store's client")

    monkeypatch.setattr(worker.registry, "stages", strange)
    worker.follower.look()
    assert worker.counted("registry_failures") == 1
    monkeypatch.setattr(worker.registry, "stages", read)
    worker.promote(1)
    worker.follower.look()
    assert worker.outcome() == ("served", "")
    assert worker.ranker.version == worker.versions[1]


def test_a_champion_that_became_the_challenger_and_loses_its_gpu_does_not_say_what_runs_the_champion(
    tmp_path: Path, other: Path, stranger: Path
) -> None:
    engines: dict[str, OnGpu] = {}

    class OnGpus(Refusing):
        def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
            model = super().load(folder, metrics)
            engines[model.version] = OnGpu(folder)
            runs_on = RunsOn("tensorrt", "fp16", model.version)
            model.scorer = FallbackScorer(engines[model.version], model.scorer, metrics, runs_on)
            return model

    worker = Worker(tmp_path, DEMO, other, stranger, loader=OnGpus())
    for number in (1, 2):
        worker.promote(number, forced=True)
        worker.follower.look()
    worker.registry.challenge(worker.versions[1], 40.0, by="t", why="")
    worker.follower.look()
    says = [{"engine": "tensorrt", "precision": "fp16", "why": worker.versions[2]}]
    assert shown(worker.metrics) == says
    engines[worker.versions[1]].fails = EngineLostError("device_lost", "on purpose")
    ranked = worker.rank()
    assert set(ranked.versions) == set(worker.versions[1:])
    assert worker.counted("engine_fallbacks") == 1
    assert shown(worker.metrics) == says


def test_stages_that_were_deleted_and_made_anew_are_followed_though_their_number_is_the_same(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    (tmp_path / "registry" / "stages.json").unlink()
    worker.promote(1)
    assert worker.registry.stages().revision == 1
    worker.follower.look()
    assert worker.ranker.version == worker.versions[1]


def test_a_worker_is_waited_for_until_it_has_seen_this_change_and_not_one_of_the_same_number(tmp_path: Path) -> None:
    worker = Worker(tmp_path, DEMO)
    clock = SettableClock(9)
    [before] = worker.registry.stages().history
    after = msgspec.structs.replace(before, at_ms=before.at_ms + 1)
    done, silent = await_workers(worker.registry, before, clock, 0.0)
    assert ([status.worker for status in done], silent) == (["w"], [])
    assert await_workers(worker.registry, after, clock, 0.0) == ([], ["w"])


def test_batches_under_way_while_models_change_are_each_of_one_model(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    alone = {
        version: LOADER.load(folder).rank(INPUTS, USERS) for version, folder in zip(worker.versions, (DEMO, other), strict=True)
    }
    seen, ending = set(), threading.Event()

    def swap_on() -> None:
        for number in range(12):
            worker.promote((number + 1) % 2)
            worker.follower.look()
        ending.set()

    swapper = threading.Thread(target=swap_on)
    swapper.start()
    while not ending.is_set():
        ranked = worker.rank()
        assert same(ranked, alone[ranked.champion.version])
        seen.add(ranked.champion.version)
    swapper.join()
    assert seen == set(worker.versions)
    assert worker.outcome() == ("served", "")


def test_the_thread_follows_by_itself_and_leaves_no_status_behind(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    with worker.follower:
        worker.promote(1)
        for _ in range(2_000):
            if worker.ranker.version == worker.versions[1]:
                break
            threading.Event().wait(0.01)
    assert worker.ranker.version == worker.versions[1]
    assert worker.registry.workers() == []


def test_the_recorder_keeps_the_newest_rows_of_each_version_and_no_more_batches_than_needed() -> None:
    ranker, recorder = LOADER.load(DEMO), Recorder(100)
    answers = ranker.answer(INPUTS)
    for version in ("a", "b", "b", "b"):
        recorder.add(version, INPUTS, answers)
    assert [len(batch.answers) for batch in recorder.of("b")] == [ROWS, ROWS]
    assert recorder.of("a") == []


# --- challenger and shadow ---------------------------------------------------------------------------------------------------


def test_a_share_of_users_is_drawn_evenly_and_a_user_stays_on_its_side() -> None:
    draw = np.random.default_rng(3)
    users = [draw.bytes(16) for _ in range(20_000)]
    five, ten = share_of_users(users, "m", 5.0), share_of_users(users, "m", 10.0)
    assert abs(ten.mean() - 0.10) < 0.01
    assert (ten | ~five).all(), "more percent adds users and takes none away"
    assert (share_of_users(users[::-1], "m", 10.0) == ten[::-1]).all()
    other = share_of_users(users, "n", 10.0)
    assert abs((ten & other).mean() - 0.01) < 0.005, "another challenger draws other users"
    assert not share_of_users(users, "m", 0.0).any()
    assert share_of_users(users, "m", 100.0).all()
    assert share_of_users([], "m", 10.0).tolist() == []


def challenged_worker(home: Path, other: Path) -> Worker:
    worker = Worker(home, DEMO, other)
    worker.registry.challenge(worker.versions[1], 40.0, by="t", why="")
    worker.follower.look()
    return worker


def test_each_row_is_wholly_the_champions_or_the_challengers_by_its_user(tmp_path: Path, other: Path) -> None:
    worker = challenged_worker(tmp_path, other)
    ranked = worker.rank()
    theirs = share_of_users(USERS, worker.versions[1], 40.0)
    assert 0 < theirs.sum() < ROWS
    ours, others = LOADER.load(DEMO).rank(INPUTS, USERS), LOADER.load(other).rank(INPUTS, USERS)
    for row, is_theirs in enumerate(theirs.tolist()):
        maker = others if is_theirs else ours
        assert ranked.versions[row] == maker.champion.version
        assert ranked.norms(row).version == maker.champion.version
        for column in ("fraud", "intent", "next_action", "click", "items", "item_scores"):
            assert getattr(ranked.scored, column)[row] == getattr(maker.scored, column)[row]
        assert ranked.fraud[row] == maker.fraud[row]
    assert [(c.norms.version, c.percent) for c in ranked.challengers] == [(worker.versions[1], 40.0)]
    assert ranked.champion.version == worker.versions[0]


def test_a_challenger_that_fails_leaves_the_champions_answers(tmp_path: Path, other: Path) -> None:
    worker = challenged_worker(tmp_path, other)
    serving = worker.ranker.serving
    assert serving.challenger is not None
    worker.ranker.serve(replace(serving, challenger=failing(serving.challenger)))
    ranked = worker.rank()
    assert same(ranked, LOADER.load(DEMO).rank(INPUTS, USERS))
    assert ranked.challengers == ()
    assert worker.counted("challenger_failures") == 1


SOURCES = [Source("clicks", 1, offset) for offset in range(ROWS)]
EVENTS = [Click(event_id=f"e-{row}", user="u", event_time_ms=row, action="view", item="i") for row in range(ROWS)]


def compared(worker: Worker, dropped: int = 0) -> list[ComparisonLine]:
    """Answer one batch, say that it is published, and read what was compared; `dropped` rows before it are not."""
    ranked = worker.rank()
    assert ranked.on_published is not None
    with worker.comparer:
        ranked.on_published(SOURCES, EVENTS)
        for _ in range(2_000):
            if worker.counted("comparisons") + worker.counted("comparisons_dropped") > dropped:
                break
            threading.Event().wait(0.01)
    return msgspec.json.decode(b"[" + b",".join(worker.lines.read_bytes().splitlines()) + b"]", type=list[ComparisonLine])


def test_a_shadow_scores_all_and_decides_nothing(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    before = worker.rank()
    worker.registry.shadow(worker.versions[1], by="t", why="")
    worker.follower.look()
    assert same(worker.rank(), before)
    lines = compared(worker)
    shadow = LOADER.load(other).rank(INPUTS, USERS).scored
    assert [(line.stage, line.answer_id, line.event_id) for line in lines] == [
        ("shadow", f"clicks-1-{row}", f"e-{row}") for row in range(ROWS)
    ]
    assert [line.champion.fraud for line in lines] == before.scored.fraud
    assert [line.other.fraud for line in lines] == shadow.fraud
    assert [line.other.items for line in lines] == shadow.items
    assert {line.other.model_version for line in lines} == {worker.versions[1]}
    assert worker.counted("comparisons") == ROWS
    deltas = {
        s.labels["task"]: s.value
        for s in next(iter(worker.metrics.comparison_deltas.collect())).samples
        if s.name.endswith("_total")
    }
    by_hand = np.abs(np.subtract(before.scored.click, shadow.click)).sum()
    assert deltas["click"] == pytest.approx(by_hand, abs=1e-5 * ROWS)


def test_both_answers_of_a_challenged_user_are_written_down(tmp_path: Path, other: Path) -> None:
    worker = challenged_worker(tmp_path, other)
    lines = compared(worker)
    theirs = np.flatnonzero(share_of_users(USERS, worker.versions[1], 40.0)).tolist()
    assert [line.answer_id for line in lines] == [f"clicks-1-{row}" for row in theirs]
    ours, others = LOADER.load(DEMO).rank(INPUTS, USERS).scored, LOADER.load(other).rank(INPUTS, USERS).scored
    assert [line.champion.click for line in lines] == [ours.click[row] for row in theirs]
    assert [line.other.click for line in lines] == [others.click[row] for row in theirs]


def test_a_shadow_that_fails_or_cannot_keep_up_is_counted_and_harms_nobody(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    serving = worker.ranker.serving
    worker.ranker.serve(replace(serving, shadow=failing(serving.champion)))
    ranked = worker.rank()
    assert ranked.on_published is not None
    for _ in range(9):  # nobody takes anything out of the queue yet
        ranked.on_published(SOURCES, EVENTS)
    dropped = worker.counted("comparisons_dropped")
    assert dropped == 5 * ROWS
    with worker.comparer:
        for _ in range(2_000):
            if worker.counted("comparisons_dropped") == 9 * ROWS:
                break
            threading.Event().wait(0.01)
    assert worker.counted("comparisons_dropped") == 9 * ROWS
    assert worker.counted("comparisons") == 0


def test_a_shadow_that_fails_in_a_strange_way_does_not_end_the_comparer(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    serving = worker.ranker.serving
    worker.ranker.serve(replace(serving, shadow=failing(serving.champion, Strange)))
    strange = worker.rank()
    assert strange.on_published is not None
    strange.on_published(SOURCES, EVENTS)
    worker.ranker.serve(replace(serving, shadow=LOADER.load(other)))
    assert len(compared(worker, ROWS)) == ROWS
    assert worker.counted("comparisons_dropped") == ROWS


class Hanging(ModelRanker):
    inside: threading.Event
    released: threading.Event

    def answer(self, inputs: Any) -> ModelAnswers:
        self.inside.set()
        self.released.wait(20.0)
        raise ModelFailedError("hung")


def test_a_shadow_that_hangs_does_not_keep_the_worker_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_app.inference.registry.background._END_S", 0.01)
    worker = Worker(tmp_path, DEMO)
    serving = worker.ranker.serving
    hanging = failing(serving.champion, Hanging)
    assert isinstance(hanging, Hanging)
    hanging.inside, hanging.released = threading.Event(), threading.Event()
    worker.ranker.serve(replace(serving, shadow=hanging))
    ranked = worker.rank()
    assert ranked.on_published is not None
    with worker.comparer:
        ranked.on_published(SOURCES, EVENTS)
        assert hanging.inside.wait(20.0)
    assert worker.counted("comparisons_dropped") == 0, "it still hangs"
    hanging.released.set()


def test_a_load_that_hangs_does_not_keep_the_worker_from_ending(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.inference.registry.background._END_S", 0.01)
    inside, released = threading.Event(), threading.Event()

    class HangingLoader:
        def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
            inside.set()
            released.wait(20.0)
            raise ModelFailedError("hung")

    worker = Worker(tmp_path, DEMO, other, loader=HangingLoader())
    worker.promote(1)
    with worker.follower:
        assert inside.wait(20.0)
    assert worker.counted("model_swaps") == 0, "it still hangs"
    released.set()


def test_a_promoted_shadow_serves_while_its_other_self_is_done_with(tmp_path: Path, other: Path) -> None:
    worker = Worker(tmp_path, DEMO, other)
    worker.registry.shadow(worker.versions[1], by="t", why="")
    worker.follower.look()
    shadow = worker.ranker.serving.shadow
    worker.promote(1)
    worker.follower.look()
    assert worker.ranker.serving.shadow is None
    assert worker.ranker.serving.champion is not shadow, "two threads may not score with one engine"
    assert worker.rank().on_published is None


def test_a_full_file_of_comparisons_begins_anew_and_the_last_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Path
) -> None:
    monkeypatch.setattr("stream_app.inference.registry.shadow._MOST_BYTES", 1)
    worker = challenged_worker(tmp_path, other)
    ranked = worker.rank()
    assert ranked.on_published is not None
    [offered] = ranked.on_published.args[0]  # type: ignore[attr-defined]  # a partial of Comparer.offer
    worker.comparer.compare(offered, SOURCES, EVENTS)
    first = worker.lines.with_name("comparisons.jsonl.1").read_bytes()
    worker.comparer.compare(offered, SOURCES, EVENTS)
    assert worker.lines.with_name("comparisons.jsonl.1").read_bytes() == first
    assert not worker.lines.exists()
