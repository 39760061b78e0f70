"""Score with TensorRT in this process, on the first GPU that it sees.

    pinned memory --copy stream--> GPU --compute stream: one CUDA graph--> GPU --another copy stream--> pinned memory

A batch is padded to the next bucket, for which the whole network has been captured as a CUDA graph: one launch in place of
hundreds. A batch larger than the largest bucket goes in pieces through two slots in turn: while one piece computes, the next is
filled and copied in, and the last is copied out. Events alone order the three streams.

Each graph has an execution context of its own, as NVIDIA advises (another shape of a context may invalidate its captured
graph); all share one piece of scratch memory, which is safe since all compute on one stream.

A thread that waits for the GPU polls an event and never blocks in the driver, so a hang is detected: after `hang_s` the engine
is lost. After any error, memory is freed if the GPU still answers and finishes its work; otherwise it is not, since freeing may
hang too.

Tested with the bindings of TensorRT 10 and 11 and a double of the GPU, not on a GPU: see docs/engines.md.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import OUTPUTS, Manifest
from model.plan import Precision
from model.tensorrt.protocols import ExecutionContext, TensorRt
from stream_app.clock import RunningTime
from stream_app.errors import ContractError, EngineLostError, EngineNotHereError
from stream_app.inference.artifact import load_manifest
from stream_app.inference.engines.cuda_runtime import CudaRuntime
from stream_app.inference.engines.gpu_slots import Slot
from stream_app.inference.engines.plans import EnginePlan, Machine, find_plan
from stream_app.inference.engines.port import Scorer, Tensors
from stream_app.inference.engines.tensorrt_engine import LoadedPlan, load_tensorrt
from stream_app.inference.engines.tensors import InputTensors, empty_answers

_BUCKETS: Final = (1, 16, 64, 256, 1024, 4096)
_SLOTS: Final = 2
_HANG_S: Final = 2.0  # a batch of the largest bucket takes milliseconds
_LOOK_S: Final = (2e-5, 1e-3)  # between two polls of an event: an eighth of the time waited, within these bounds
_MOST_GAP_S: Final = 0.1  # a longer gap between two polls is time in which this process stood still
_ERRORS_WHILE_LOADING: Final = "Operator action: free memory on the GPU, or set model.engine to 'auto' or 'onnxruntime'"


def bucket_sizes(plan: EnginePlan) -> tuple[int, ...]:
    """Return the batch sizes to capture, ascending: the buckets within a profile, and the largest size of any profile."""
    profiles = plan.manifest.profiles
    sizes = {size for size in _BUCKETS if any(profile.min <= size <= profile.max for profile in profiles)}
    return tuple(sorted(sizes | {max(profile.max for profile in profiles)}))


class TensorRTScorer(Scorer):
    """One artefact's plan; see `stream_app.inference.engines.port.Scorer`.

    Open it with `stream_app.inference.engines.selection.open_scorer`, which adds the CPU as a fallback, warms it up and tests it.
    """

    def __init__(self, manifest: Manifest, plan: EnginePlan, trt: TensorRt, device: CudaRuntime, hang_s: float = _HANG_S) -> None:
        """Load the plan, allocate, and capture every bucket; takes seconds.

        Raises:
            ContractError: TensorRT rejects the plan, or its tensors differ from the contract.
            EngineLostError: There is not enough memory, or the GPU failed.
        """
        super().__init__(manifest)
        self.precision: Precision = plan.manifest.precision
        self._device = device
        self._hang_s = hang_s
        self._lost: EngineLostError | None = None
        self._closed = False
        self._streams: list[int] = []
        self._scratch: int | None = None
        self._slots: list[Slot] = []
        self._contexts: list[ExecutionContext] = []  # a graph needs the context of its capture
        self._inputs = InputTensors(manifest)
        features = len(manifest.feature_names)
        self._plan = LoadedPlan(trt, plan, features)
        self._sizes = bucket_sizes(plan)
        try:
            self._in, self._compute, self._out = self._stream(), self._stream(), self._stream()
            self._scratch = device.device_memory(max(1, self._plan.scratch_bytes))
            for _ in range(_SLOTS):
                self._slots.append(Slot(device, self._sizes, features))
            for slot in self._slots:
                for rows in self._sizes:
                    slot.graphs[rows] = self._capture(slot, rows, self._scratch)
        except BaseException:  # of any class, by TensorRT's bindings
            self.close()
            raise

    @classmethod
    def open(cls, folder: Path, precision: str = "") -> TensorRTScorer:
        """Open an artefact's fastest plan that fits this machine, of that precision if one is given.

        Raises:
            EngineNotHereError: There is no library, GPU or fitting plan, or not enough memory on the GPU.
            ContractError: The artefact or the plan is damaged.
        """
        manifest = load_manifest(folder)
        device = CudaRuntime()
        trt = load_tensorrt()
        plan = find_plan(folder, manifest, Machine(trt.__version__, device.compute_capability()), precision)
        try:
            return cls(manifest, plan, trt, device)
        except EngineLostError as error:
            raise EngineNotHereError(f"{plan.path} cannot be made ready: {error}. {_ERRORS_WHILE_LOADING}.") from error

    def score(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        """Score a batch; see `Scorer.score`."""
        if self._closed:
            raise ContractError("the scorer is closed. Operator action: none; this is a fault of the caller.")
        if self._lost is not None:
            raise self._lost
        rows = self._inputs.check(inputs)
        if rows == 0:
            return empty_answers()
        answers = {spec.name: np.empty((rows, *spec.shape), spec.dtype) for spec in OUTPUTS}
        try:
            self._score(inputs, answers, rows)
        except EngineLostError as error:
            self._lost = error
            raise
        return answers

    def close(self) -> None:
        """Free the GPU, if it answers; calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._lost is not None and self._lost.reason == "hang":  # waited for already
            return
        with contextlib.suppress(EngineLostError):  # the earlier error is reported
            if self._finishes():
                self._free()

    def _score(self, inputs: Tensors, answers: dict[str, NDArray[Any]], rows: int) -> None:
        largest = self._sizes[-1]
        running: deque[tuple[Slot, int, int]] = deque()
        for number, start in enumerate(range(0, rows, largest)):
            if len(running) == _SLOTS:
                self._collect(answers, *running.popleft())
            slot, stop = self._slots[number % _SLOTS], min(start + largest, rows)
            self._start(slot, inputs, start, stop)
            running.append((slot, start, stop))
        while running:
            self._collect(answers, *running.popleft())

    def _start(self, slot: Slot, inputs: Tensors, start: int, stop: int) -> None:
        """Start the computation of rows [start, stop)."""
        device = self._device
        bucket = slot.buckets[next(size for size in self._sizes if size >= stop - start)]
        bucket.fill(inputs, start, stop)
        device.copy_in(slot.device_in, slot.host_in, bucket.in_bytes, self._in)
        device.record(slot.arrived, self._in)
        device.wait(self._compute, slot.arrived)
        device.launch(slot.graphs[bucket.rows], self._compute)
        device.record(slot.computed, self._compute)
        device.wait(self._out, slot.computed)
        device.copy_out(slot.host_out, slot.device_out, bucket.out_bytes, self._out)
        device.record(slot.returned, self._out)

    def _collect(self, answers: dict[str, NDArray[Any]], slot: Slot, start: int, stop: int) -> None:
        """Wait for rows [start, stop), and copy their outputs."""
        running = RunningTime(_MOST_GAP_S)
        while not self._device.happened(slot.returned):
            waited = running.seconds()
            if waited > self._hang_s:
                raise EngineLostError("hang", f"the GPU has not answered {stop - start} rows of {self.version} in {waited:.1f} s")
            _pause(waited)
        bucket = slot.buckets[next(size for size in self._sizes if size >= stop - start)]
        for name, answer in answers.items():
            answer[start:stop] = bucket.outputs[name][: stop - start]

    def _stream(self) -> int:
        self._streams.append(self._device.stream())
        return self._streams[-1]

    def _finishes(self) -> bool:
        """Wait until all streams are idle, at most `hang_s`; never blocks in the driver."""
        running = RunningTime(_MOST_GAP_S)
        for stream in self._streams:
            while not self._device.idle(stream):
                waited = running.seconds()
                if waited > self._hang_s:
                    return False
                _pause(waited)
        return True

    def _free(self) -> None:
        """Free every allocation; nothing may be in use."""
        for slot in self._slots:
            slot.free()
        self._contexts.clear()
        if self._scratch is not None:
            self._device.free_device_memory(self._scratch)
        for stream in self._streams:
            self._device.free_stream(stream)

    def _capture(self, slot: Slot, rows: int, scratch: int) -> int:
        context = self._plan.context(rows, slot.buckets[rows].addresses, scratch, self._compute)
        self._contexts.append(context)
        self._plan.run(context, self._compute)  # TensorRT's work at a first run cannot be captured
        self._device.finish(self._compute)
        return self._device.capture(self._compute, lambda: self._plan.run(context, self._compute))


def _pause(waited_s: float) -> None:
    """Sleep until the next poll of the GPU."""
    time.sleep(min(max(waited_s / 8, _LOOK_S[0]), _LOOK_S[1]))
