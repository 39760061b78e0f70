"""Buffers of a batch on the GPU, and a captured graph for each size of batch.

A slot has a block of pinned host memory and a block of device memory for inputs, and the same for outputs. In a bucket (a fixed
number of rows) the tensors are contiguous, so a batch needs one copy in and one copy out.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.contract import INPUTS, OUTPUTS, TensorSpec
from stream_app.errors import EngineLostError
from stream_app.inference.engines.cuda_runtime import CudaRuntime
from stream_app.inference.engines.port import Tensors
from stream_app.inference.engines.tensors import shape_of

_ALIGNMENT: Final = 256  # bytes: TensorRT's requirement for an address


@dataclass(frozen=True, slots=True)
class Bucket:
    """A size of batch in a slot.

    Attributes:
        rows: Of the batch.
        inputs: Name -> view (rows, ...) of the slot's pinned memory.
        outputs: Likewise.
        addresses: Of every tensor, in device memory.
        in_bytes: Of all inputs.
        out_bytes: Of all outputs.
    """

    rows: int
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    addresses: dict[str, int]
    in_bytes: int
    out_bytes: int

    def fill(self, inputs: Tensors, start: int, stop: int) -> None:
        """Copy rows [start, stop) into pinned memory, and zeros behind them."""
        for name, view in self.inputs.items():
            view[: stop - start] = inputs[name][start:stop]
            view[stop - start :] = 0


class Slot:
    """Memory for one batch, and the events of its progress.

    Attributes:
        buckets: Rows -> views and addresses.
        graphs: Rows -> the captured graph; the scorer fills it in.
        arrived: The inputs are on the GPU.
        computed: The outputs are computed.
        returned: The outputs are in pinned memory.
    """

    def __init__(self, device: CudaRuntime, sizes: Sequence[int], features: int) -> None:
        """Allocate for the largest of the sizes.

        Raises:
            EngineLostError: Memory is short, or the GPU failed; allocations are freed if it still answers.
        """
        self._device = device
        largest = max(sizes)
        in_bytes = _layout(INPUTS, largest, features)[1]
        out_bytes = _layout(OUTPUTS, largest, features)[1]
        self._device_memory: list[int] = []
        self._pinned_memory: list[int] = []
        self._events: list[int] = []
        self.buckets: dict[int, Bucket] = {}
        self.graphs: dict[int, int] = {}
        try:
            self.device_in, self.device_out = self._on_device(in_bytes), self._on_device(out_bytes)
            self.host_in, self.host_out = self._pinned(in_bytes), self._pinned(out_bytes)
            self.arrived, self.computed, self.returned = self._event(), self._event(), self._event()
        except BaseException:
            with contextlib.suppress(EngineLostError):  # the first error is reported; no work is under way that could hang
                self.free()
            raise
        for rows in sizes:
            self.buckets[rows] = self._bucket(rows, features)

    def free(self) -> None:
        """Free everything; nothing may be in use."""
        self.buckets.clear()  # views of the memory that is freed
        for graph in self.graphs.values():
            self._device.free_graph(graph)
        for event in self._events:
            self._device.free_event(event)
        for address in self._device_memory:
            self._device.free_device_memory(address)
        for address in self._pinned_memory:
            self._device.free_pinned_memory(address)

    def _event(self) -> int:
        self._events.append(self._device.event())
        return self._events[-1]

    def _on_device(self, size: int) -> int:
        self._device_memory.append(self._device.device_memory(size))
        return self._device_memory[-1]

    def _pinned(self, size: int) -> int:
        self._pinned_memory.append(self._device.pinned_memory(size))
        return self._pinned_memory[-1]

    def _bucket(self, rows: int, features: int) -> Bucket:
        offsets_in, in_bytes = _layout(INPUTS, rows, features)
        offsets_out, out_bytes = _layout(OUTPUTS, rows, features)
        addresses = {name: self.device_in + offset for name, offset in offsets_in.items()}
        addresses |= {name: self.device_out + offset for name, offset in offsets_out.items()}
        return Bucket(
            rows,
            {s.name: _view(self.host_in + offsets_in[s.name], s, rows, features) for s in INPUTS},
            {s.name: _view(self.host_out + offsets_out[s.name], s, rows, features) for s in OUTPUTS},
            addresses,
            in_bytes,
            out_bytes,
        )


def _layout(specs: Sequence[TensorSpec], rows: int, features: int) -> tuple[dict[str, int], int]:
    """Return each tensor's offset, and the bytes of all."""
    offsets, end = {}, 0
    for spec in specs:
        offsets[spec.name] = end
        size = rows * int(np.prod(shape_of(spec, features), dtype=np.int64)) * np.dtype(spec.dtype).itemsize
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


def _view(address: int, spec: TensorSpec, rows: int, features: int) -> NDArray[Any]:
    shape = (rows, *shape_of(spec, features))
    count = int(np.prod(shape, dtype=np.int64))
    dtype = np.dtype(spec.dtype)
    memory = memoryview((ctypes.c_char * (count * dtype.itemsize)).from_address(address)).cast("B")
    view: NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)
    return view
