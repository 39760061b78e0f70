"""The least cost of a row: operations and bytes, counted on the network, and the rate that a GPU's peaks allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.contract import OUTPUTS
from model.network import ServingNetwork
from stream_app.inference.engines.port import Tensors

_FLOAT: Final = 4

# Name in torch -> (bytes a second, fp32 operations a second without tensor cores, fp16 ones with them, dense). Source: NVIDIA's
# data sheets of H100 SXM5 and H200 SXM.
PEAKS: Final[dict[str, tuple[float, float, float]]] = {
    "H100": (3.35e12, 67e12, 989e12),
    "H200": (4.8e12, 67e12, 989e12),
}

Cost = dict[str, float]


def cost_of(network: ServingNetwork, rows: Tensors) -> Cost:
    """Count what scoring `rows`, R of them, takes.

    Returns:
        `operations_per_row` of all matrix products (a product and a sum are two), `row_bytes` in, out and from the tables
        that are looked up, and `weight_bytes`, which are read once a batch.
    """
    count = len(next(iter(rows.values())))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(*(torch.from_numpy(np.asarray(rows[name])) for name in network.names))
    tables = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    looked_up = {id(table.weight) for table in tables}
    weights = sum(p.numel() for p in network.parameters() if id(p) not in looked_up) * _FLOAT
    input_bytes = sum(np.asarray(tensor).nbytes for tensor in rows.values()) / count
    answered = sum(int(np.prod(spec.shape)) for spec in OUTPUTS) * _FLOAT
    codes = sum(np.asarray(tensor).size for tensor in rows.values() if np.asarray(tensor).dtype == np.int32) / count
    widest = max(table.embedding_dim for table in tables)
    return {
        "operations_per_row": counter.get_total_flops() / count,
        "row_bytes": input_bytes + answered + codes * widest * _FLOAT,
        "weight_bytes": float(weights),
    }


def roof(cost: Cost, device: str, sizes: Iterable[int], precision: str) -> dict[str, Any] | None:
    """Return the rows a second that a GPU's memory and arithmetic allow by batch size; None where its peaks are not known.

    `device` is its name, as torch gives it; `precision` fp32 or fp16.
    """
    peaks = next((values for name, values in PEAKS.items() if name in device), None)
    if peaks is None:
        return None
    memory, arithmetic = peaks[0], peaks[1 if precision == "fp32" else 2]
    rows_per_s = {}
    for size in sizes:
        by_memory = (cost["row_bytes"] * size + cost["weight_bytes"]) / memory
        rows_per_s[str(size)] = round(size / max(by_memory, cost["operations_per_row"] * size / arithmetic), 1)
    return rows_per_s
