"""Tolerances of a model's outputs by precision and kind of task, with reasons.

Differences are absolute, against fp32 torch on a CPU. docs/engines.md has the differences on 10,000 simulated rows and the
command; a tolerance is several times those, because weights and rows differ from training to training. Decisions must not
differ: thresholds have two or three digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from model.plan import Precision


@dataclass(frozen=True)
class Tolerance:
    """The differences allowed for one task's output.

    Attributes:
        largest: absolute difference of any number of any row.
        mean: mean absolute difference; below fp32 a few rows may differ much, most may not.
        reason: of the size.
    """

    largest: float
    mean: float
    reason: str


_SUMS: Final = "sums in another order, log(1 + x) for log1p: 1e-7 seen, CPUs differ"
_TF32: Final = "factors have 10 bits of fraction, sums are fp32"
_FP16: Final = "10 bits of fraction in factors and in the tensors between them"
_BF16: Final = "7 bits of fraction: eight times fp16's steps"
_INT8: Final = "127 steps for a tensor's usual range; rare values are cut, so a few rows move far and the mean must stay"
_CLASSES: Final = "; a class wins by a lead that is larger on most rows"
_VECTOR: Final = "; not bounded by 1: coordinates reach 13, and inner products add 32 of them. Ranking has a limit of its own"

TOLERANCES: Final[Mapping[Precision, Mapping[str, Tolerance]]] = {
    "fp32": {
        "binary": Tolerance(1e-5, 1e-6, _SUMS),
        "classes": Tolerance(1e-5, 1e-6, _SUMS + _CLASSES),
        "retrieval": Tolerance(2e-4, 2e-5, _SUMS + _VECTOR),
    },
    "tf32": {
        "binary": Tolerance(2e-2, 5e-4, _TF32),
        "classes": Tolerance(2e-2, 5e-4, _TF32 + _CLASSES),
        "retrieval": Tolerance(0.1, 1e-2, _TF32 + _VECTOR),
    },
    "fp16": {
        "binary": Tolerance(2e-2, 5e-4, _FP16),
        "classes": Tolerance(2e-2, 5e-4, _FP16 + _CLASSES),
        "retrieval": Tolerance(0.1, 1e-2, _FP16 + _VECTOR),
    },
    "bf16": {
        "binary": Tolerance(0.15, 4e-3, _BF16),
        "classes": Tolerance(0.15, 4e-3, _BF16 + _CLASSES),
        "retrieval": Tolerance(0.8, 0.08, _BF16 + _VECTOR),
    },
    "int8": {
        "binary": Tolerance(0.4, 0.01, _INT8),
        "classes": Tolerance(0.4, 0.01, _INT8 + _CLASSES),
        "retrieval": Tolerance(4.0, 0.2, _INT8 + _VECTOR),
    },
}

# Share of a user's best 20 items that must be among the best 20 of the network itself, on average.
OVERLAPS: Final[Mapping[Precision, float]] = {"fp32": 0.999, "tf32": 0.99, "fp16": 0.99, "bf16": 0.97, "int8": 0.9}
