"""The TensorRT adapter over a double of the device: order, padding, pieces, loss. The numbers are the real network's.

What the real TensorRT makes of the calls is for tests/gpu; that it has them at all, for tests/integration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.contract import OUTPUTS, TensorSpec
from model.plan import PlanManifest, PlanProfile
from stream_app.errors import ContractError, EngineLostError, EngineNotHereError
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines import tensorrt_scorer
from stream_app.inference.engines.fallback import FallbackScorer
from stream_app.inference.engines.onnx_scorer import OnnxScorer
from stream_app.inference.engines.plans import EnginePlan
from stream_app.inference.engines.port import RunsOn
from stream_app.inference.engines.selection import open_scorer
from stream_app.inference.engines.self_test import TOLERANCES, self_test
from stream_app.inference.engines.tensorrt_scorer import TensorRTScorer, bucket_sizes
from tests.unit.stream_app.inference.engines.gpu_double import FakeContext, FakeDevice, FakeTensorRt
from tests.unit.stream_app.inference.engines.plan_files import add_plan, plan_manifest
from trt_build.parity.tolerances import TOLERANCES as VERIFIED_WITH

PROFILES = (PlanProfile(1, 1, 16), PlanProfile(1, 64, 64))


class Bench:
    def __init__(self, folder: Path, *, seed: int = 0, hang_s: float = 60.0, **changes: Any) -> None:
        self.manifest = load_manifest(folder)
        self.device = FakeDevice(seed)
        self.trt = FakeTensorRt(self.device, folder, PROFILES)
        for name, value in changes.items():
            setattr(self.trt, name, value)
        self.hang_s = hang_s
        described: PlanManifest = plan_manifest(folder, profiles=list(PROFILES), version_compatible=True)
        self.plan = EnginePlan(folder / "plans" / "fp32.plan", described, b"a plan")

    def scorer(self) -> TensorRTScorer:
        return TensorRTScorer(self.manifest, self.plan, self.trt, self.device, self.hang_s)  # type: ignore[arg-type]


def rows_of(folder: Path, rows: int) -> dict[str, NDArray[Any]]:
    inputs, _ = load_samples(folder, load_manifest(folder))
    return {name: np.resize(tensor, (rows, *tensor.shape[1:])) for name, tensor in inputs.items()}


def test_buckets_are_those_that_a_profile_takes_and_the_largest_there_is(built_artifact: Path) -> None:
    assert bucket_sizes(Bench(built_artifact).plan) == (1, 16, 64)
    odd = plan_manifest(built_artifact, profiles=[PlanProfile(8, 8, 48), PlanProfile(256, 512, 600)])
    assert bucket_sizes(EnginePlan(Path("p"), odd, b"")) == (16, 256, 600)


def test_it_answers_as_recorded(built_artifact: Path) -> None:
    scorer = Bench(built_artifact).scorer()
    assert self_test(scorer, built_artifact) < 1e-5
    assert scorer.manifest == load_manifest(built_artifact)
    assert scorer.version == scorer.manifest.version
    assert scorer.precision == "fp32"


def test_the_self_test_is_never_stricter_than_what_a_plan_is_verified_with() -> None:
    for precision, ours in TOLERANCES.items():
        theirs = VERIFIED_WITH[precision]
        for kind in ("binary", "classes"):
            assert ours.probability >= theirs[kind].largest
            assert ours.mean_probability >= theirs[kind].mean
        assert ours.user_vector >= theirs["retrieval"].largest
        assert ours.mean_user_vector >= theirs["retrieval"].mean


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 63, 64, 65, 128, 129, 333])
def test_whatever_order_the_streams_run_in_each_row_has_its_own_answer(rows: int, built_artifact: Path) -> None:
    inputs = rows_of(built_artifact, rows)
    for name in ("dense", "sequence_gaps"):
        inputs[name] = inputs[name] * np.linspace(0.5, 1.5, rows, dtype=np.float32).reshape(-1, 1)  # no two rows alike
    wanted = OnnxScorer(built_artifact).score(inputs)
    for seed in range(4):
        scorer = Bench(built_artifact, seed=seed).scorer()
        for _ in range(2):  # again over what the first has left in the buffers
            answers = scorer.score(inputs)
            for spec in OUTPUTS:
                assert np.array_equal(answers[spec.name], wanted[spec.name]), (seed, spec.name)
        scorer.close()


def test_answers_are_the_callers_and_stay_when_the_buffers_are_used_again(built_artifact: Path) -> None:
    scorer = Bench(built_artifact).scorer()
    first = scorer.score(rows_of(built_artifact, 3))
    kept = {name: values.copy() for name, values in first.items()}
    scorer.score({name: values[::-1].copy() for name, values in rows_of(built_artifact, 64).items()})
    assert all(np.array_equal(first[name], kept[name]) for name in kept)


def test_no_rows_put_no_work_on_the_gpu(built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    scorer = bench.scorer()
    bench.device.log.clear()
    answers = scorer.score(rows_of(built_artifact, 0))
    assert {name: value.shape for name, value in answers.items()} == {s.name: (0, *s.shape) for s in OUTPUTS}
    assert bench.device.log == []


def test_a_batch_is_one_copy_in_one_launch_one_copy_out_and_the_next_piece_starts_before_the_first_is_back(
    built_artifact: Path,
) -> None:
    bench = Bench(built_artifact)
    scorer = bench.scorer()
    bench.device.log.clear()
    scorer.score(rows_of(built_artifact, 5))
    piece = ["copy_in", "record", "wait", "launch", "record", "wait", "copy_out", "record"]
    assert bench.device.log == piece
    bench.device.log.clear()
    bench.device.looks.clear()
    scorer.score(rows_of(built_artifact, 128))
    assert bench.device.log == piece + piece
    assert bench.device.looks[0] == 2 * len(piece)  # both are under way before anybody looks for the first


def test_each_graph_has_a_context_of_its_own_in_a_profile_that_takes_it_and_all_share_their_scratch(built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    bench.scorer()
    assert len(bench.trt.contexts) == 2 * len(bucket_sizes(bench.plan))
    assert len({context.scratch for context in bench.trt.contexts}) == 1
    assert [context.profile for context in bench.trt.contexts] == [0, 0, 1] * 2  # 1 and 16 rows by the first, 64 by the second


def test_closing_gives_everything_back_and_may_be_done_twice(built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    scorer = bench.scorer()
    scorer.score(rows_of(built_artifact, 100))
    scorer.close()
    scorer.close()
    assert bench.device.left() == {}
    with pytest.raises(ContractError, match="closed"):
        scorer.score(rows_of(built_artifact, 1))


def test_a_gpu_that_does_not_answer_is_given_up_and_not_asked_again(built_artifact: Path) -> None:
    bench = Bench(built_artifact, hang_s=0.02)
    scorer = bench.scorer()
    bench.device.hung = True
    with pytest.raises(EngineLostError, match="has not answered 5 rows") as lost:
        scorer.score(rows_of(built_artifact, 5))
    assert lost.value.reason == "hang"
    bench.device.log.clear()
    with pytest.raises(EngineLostError):
        scorer.score(rows_of(built_artifact, 5))
    scorer.close()
    assert bench.device.log == []
    assert bench.device.left()["memory"] > 0  # freeing may hang as well


@pytest.mark.parametrize("reason", ["out_of_memory", "device_lost"])
def test_with_the_cpu_behind_it_a_loss_in_the_middle_of_a_batch_costs_no_answer(reason: str, built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    scorer = FallbackScorer(bench.scorer(), OnnxScorer(built_artifact), None, RunsOn("tensorrt", "fp32", "auto"))
    inputs = rows_of(built_artifact, 200)
    wanted = OnnxScorer(built_artifact).score(inputs)
    bench.device.fails = EngineLostError(reason, "on purpose")
    for _ in range(2):
        answers = scorer.score(inputs)
        assert all(np.array_equal(answers[name], wanted[name]) for name in wanted)


def test_a_gpu_without_enough_memory_is_said_before_the_first_event(built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    bench.device._free = 100_000
    with pytest.raises(EngineLostError, match="out of memory") as lost:
        bench.scorer()
    assert lost.value.reason == "out_of_memory"


@pytest.mark.parametrize("reason", ["out_of_memory", "device_lost"])
@pytest.mark.parametrize("what", ["stream", "device_memory", "pinned_memory", "event", "capture"])
def test_what_there_was_is_given_back_wherever_the_memory_ends_but_not_on_a_device_that_is_lost(
    what: str, reason: str, built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left, ends_at = getattr(FakeDevice, what), -1, 0

    def limited(device: FakeDevice, *arguments: Any) -> int:
        nonlocal left
        if left == 0:
            error = EngineLostError(reason, "on purpose")
            device.lost = error if reason == "device_lost" else None
            raise error
        left -= 1
        made: int = real(device, *arguments)
        return made

    monkeypatch.setattr(FakeDevice, what, limited)
    while True:
        bench, left = Bench(built_artifact), ends_at
        try:
            bench.scorer()
        except EngineLostError:
            assert (bench.device.left() == {}) == (reason == "out_of_memory" or (what, ends_at) == ("stream", 0))
        else:
            break
        ends_at += 1
    assert ends_at == {"stream": 3, "device_memory": 5, "pinned_memory": 4, "event": 6, "capture": 6}[what]


@pytest.mark.parametrize("what", ["set_tensor_address", "execute_async_v3"])
@pytest.mark.parametrize("error", [None, RuntimeError("of the bindings")])
def test_what_there_was_is_given_back_when_tensorrt_alone_fails_and_the_gpu_answers(
    what: str, error: Exception | None, built_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bool:
        if error is not None:
            raise error
        return False

    bench = Bench(built_artifact)
    monkeypatch.setattr(FakeContext, what, fails)
    with pytest.raises(RuntimeError if error is not None else EngineLostError):
        bench.scorer()
    assert bench.device.left() == {}


def test_an_engine_that_ran_out_of_memory_while_it_scored_gives_back_what_it_has(built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    scorer = FallbackScorer(bench.scorer(), OnnxScorer(built_artifact), None, RunsOn("tensorrt", "fp32", "auto"))
    bench.device.fails = EngineLostError("out_of_memory", "on purpose")
    scorer.score(rows_of(built_artifact, 200))
    assert bench.device.left() == {}


def test_closing_does_not_wait_for_a_gpu_that_does_not_come_to_an_end_and_frees_nothing_under_its_work(
    built_artifact: Path,
) -> None:
    bench = Bench(built_artifact, hang_s=0.02)
    scorer = bench.scorer()
    there = bench.device.left()
    bench.device.put(bench.trt.contexts[0].stream or 0, lambda: False, "never done")
    bench.device.hung = True
    scorer.close()
    assert bench.device.left() == there


def test_a_plan_that_tensorrt_refuses_is_refused_with_its_words(built_artifact: Path) -> None:
    with pytest.raises(ContractError, match=r"cannot be loaded by TensorRT 10\.15\.1\.29: stale plan.*build it again.*a command"):
        Bench(built_artifact, refuses="stale plan").scorer()
    with pytest.raises(EngineLostError):
        Bench(built_artifact, refuses="CUDA runtime: out of memory").scorer()


@pytest.mark.parametrize("change", ["a tensor too many", "one missing", "another type", "another width", "other batches"])
def test_a_plan_of_other_tensors_or_batches_than_it_says_is_refused(change: str, built_artifact: Path) -> None:
    bench = Bench(built_artifact)
    specs = bench.trt.specs
    if change == "a tensor too many":
        specs.append(TensorSpec("mood", "float32", ()))
    elif change == "one missing":
        del specs[-1]
    elif change == "another type":
        specs[1] = TensorSpec("context", "float32", specs[1].shape)
    elif change == "another width":
        specs[-1] = TensorSpec("user_vector", "float32", (64,))
    else:
        bench.trt.profiles = [PlanProfile(1, 8, 64)]
    with pytest.raises(ContractError, match=r"has the tensors .* the contract says .*Operator action"):
        bench.scorer()


def test_open_scorer_finds_the_plan_runs_it_and_tests_it(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_plan(artifact, "fp32", profiles=list(PROFILES))
    device = FakeDevice()
    monkeypatch.setattr(device, "compute_capability", lambda: "9.0")
    monkeypatch.setattr(tensorrt_scorer, "CudaRuntime", lambda: device)
    monkeypatch.setattr(tensorrt_scorer, "load_tensorrt", lambda: FakeTensorRt(device, artifact, PROFILES))
    scorer = open_scorer(artifact, "auto")
    assert isinstance(scorer, FallbackScorer)
    inputs = rows_of(artifact, 7)
    assert np.array_equal(scorer.score(inputs)["fraud"], OnnxScorer(artifact).score(inputs)["fraud"])
    scorer.close()
    assert device.left() == {}
    device._free = 100_000
    with pytest.raises(EngineNotHereError, match=r"cannot be made ready: .*out of memory.*Operator action: free memory"):
        open_scorer(artifact, "tensorrt")
