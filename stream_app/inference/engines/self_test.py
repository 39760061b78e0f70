"""Warm-up and self-test on the rows that were recorded when the artefact was built, the same for every engine.

Both run before the first event. The warm-up lets an engine allocate memory for a worker's batch sizes; the self-test finds a
library, a driver or a plan that computes other numbers than at the release of the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from model.contract import OUTPUTS
from model.plan import Precision
from stream_app.errors import ContractError
from stream_app.inference.artifact import load_samples
from stream_app.inference.engines.port import Scorer

_WARM_UP_ROWS: Final = (1, 64, 512)  # sizes of a worker's batches


class SelfTestTolerance(NamedTuple):
    """Largest and mean absolute difference allowed from the recorded outputs, which were computed in fp32 on a CPU."""

    probability: float
    user_vector: float  # not bounded by 1: coordinates reach 13
    mean_probability: float
    mean_user_vector: float


# fp32: another machine sums in another order; 1e-7 for probabilities and 1e-6 for vectors were measured between batch sizes and
# against torch, and 1,000 times that changes no decision. The others are the tolerances of a plan's
# verification (`trt_build.parity.tolerances` has the reasons): the mean finds a shift that the largest difference hides.
TOLERANCES: Final[dict[Precision, SelfTestTolerance]] = {
    "fp32": SelfTestTolerance(1e-4, 1e-3, 1e-4, 1e-3),
    "tf32": SelfTestTolerance(2e-2, 0.1, 5e-4, 1e-2),
    "fp16": SelfTestTolerance(2e-2, 0.1, 5e-4, 1e-2),
    "bf16": SelfTestTolerance(0.15, 0.8, 4e-3, 0.08),
    "int8": SelfTestTolerance(0.4, 4.0, 0.01, 0.2),
}


def warm_up(scorer: Scorer, folder: Path) -> None:
    """Score recorded rows in a worker's batch sizes; blocking.

    Raises:
        ContractError: The artefact has no recorded rows, or its file is damaged.
    """
    inputs, _ = load_samples(folder, scorer.manifest)
    for rows in _WARM_UP_ROWS:
        scorer.score({name: np.resize(tensor, (rows, *tensor.shape[1:])) for name, tensor in inputs.items()})


def self_test(scorer: Scorer, folder: Path, precision: Precision = "fp32") -> float:
    """Score the recorded inputs, compare with the recorded outputs, and return the largest absolute difference.

    Raises:
        ContractError: It differs by more than rounding explains, or the recorded outputs are not those of the contract.
    """
    inputs, recorded = load_samples(folder, scorer.manifest)
    answers, allowed = scorer.score(inputs), TOLERANCES[precision]
    worst = 0.0
    for spec in OUTPUTS:
        is_vector = spec.name == "user_vector"
        answer, expected = answers[spec.name], recorded.get(spec.name)
        if expected is None or (expected.dtype.kind, expected.shape) != (answer.dtype.kind, answer.shape):
            shape = "none" if expected is None else f"{expected.dtype} {expected.shape}"
            raise ContractError(
                f"{folder / scorer.manifest.samples} does not fit the contract: recorded outputs {spec.name}: {shape}, the model "
                f"answers {answer.dtype} {answer.shape}. Operator action: build the artefact again: {scorer.manifest.command}"
            )
        differences = np.abs(answer - expected)
        largest, mean = float(np.max(differences, initial=0.0)), float(np.mean(differences))
        largest_allowed = allowed.user_vector if is_vector else allowed.probability
        mean_allowed = allowed.mean_user_vector if is_vector else allowed.mean_probability
        if not (largest <= largest_allowed and mean <= mean_allowed):  # also when they are NaN
            built_with = scorer.manifest.versions.get("onnxruntime", "unknown")
            raise ContractError(
                f"self-test of {scorer.version}: output {spec.name} differs from the recorded one by {largest:.3g} "
                f"(mean {mean:.2g}), allowed in {precision} is {largest_allowed:.2g} ({mean_allowed:.2g}). Operator action: "
                f"compare the libraries here with the manifest's (onnxruntime {built_with}) and install those; else restore the "
                "artefact from a good copy, and a plan by building it again; model.engine = 'onnxruntime' serves from the CPU "
                "meanwhile."
            )
        worst = max(worst, largest)
    return worst
