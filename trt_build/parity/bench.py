"""Time plans on a GPU, beside eager torch and `torch.compile` with CUDA graphs.

Inputs lie on the device; each batch is waited for.

`make bench-engine` measures a worker with its copies and its queue; this compares plans.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.network import ServingNetwork
from model.tensorrt.protocols import TensorRt
from trt_build.artifact_source import ArtifactSource
from trt_build.engine.plan_runner import PlanRunner
from trt_build.engine.plans import check_fits, read_plan
from trt_build.engine.runtime import GpuDevice
from trt_build.errors import BuildError
from trt_build.parity.recorded import Arrays

_WARM_UP: Final = 20
_REPEATS: Final = 300


def bench_plans(
    trt: TensorRt,
    device: GpuDevice,
    source: ArtifactSource,
    plans: Sequence[Path],
    rows: Arrays,
    sizes: Sequence[int],
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Return `{"gpu": ..., "results": {name: {batch: {"rows_per_s", "p50_ms", "p99_ms"}}}}`; sizes without a profile are omitted.

    Raises:
        RefusedError: A plan is damaged, of another model, or not for this machine.
    """
    results: dict[str, dict[str, dict[str, float]]] = {}
    for path in plans:
        plan, manifest = read_plan(path, source)
        check_fits(manifest, trt, device)
        runner = PlanRunner(trt, plan, manifest)
        fitting = [size for size in sizes if size <= manifest.profiles[-1].max]
        results[path.name] = {str(size): timed(_graph_of_plan(runner, _resized(rows, size)), size) for size in fitting}
    if checkpoint is not None:
        results |= _time_torch(checkpoint, rows, sizes)
    return {"gpu": device.name, "compute_capability": device.compute_capability, "tensorrt": trt.__version__, "results": results}


def timed(run: Callable[[], None], size: int) -> dict[str, float]:
    """Call `run`, which scores `size` rows and waits, 300 times; return rows a second, p50 and p99 in ms."""
    for _ in range(_WARM_UP):
        run()
    seconds = np.empty(_REPEATS)
    for number in range(_REPEATS):
        started = time.perf_counter()
        run()
        seconds[number] = time.perf_counter() - started
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {"rows_per_s": round(size / float(seconds.mean()), 1), "p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4)}


def _graph_of_plan(runner: PlanRunner, rows: Arrays) -> Callable[[], None]:
    stream, context, _tensors = runner.prepare(rows)
    if not context.execute_async_v3(stream):  # before the capture: a first call allocates memory
        raise BuildError("the plan did not run; build it again on this machine")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        context.execute_async_v3(torch.cuda.current_stream().cuda_stream)

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return run


def _time_torch(checkpoint: Checkpoint, rows: Arrays, sizes: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    serving = ServingNetwork(checkpoint.network, checkpoint.temperatures).eval().cuda()
    compiled: Callable[..., Any] = torch.compile(serving, mode="reduce-overhead")  # CUDA graphs
    results = {}
    for name, network in (("torch eager", serving), ("torch.compile", compiled)):
        times = {}
        for size in sizes:
            inputs = [torch.from_numpy(value).cuda() for value in _resized(rows, size).values()]
            times[str(size)] = timed(_run_network(network, inputs), size)
        results[name] = times
    return results


def _run_network(network: Callable[..., Any], inputs: list[torch.Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            network(*inputs)
        torch.cuda.synchronize()

    return run


def _resized(rows: Arrays, size: int) -> Mapping[str, NDArray[Any]]:
    """Return `size` rows: the recorded rows, repeated if there are fewer."""
    return {name: np.resize(value, (size, *value.shape[1:])) for name, value in rows.items()}
