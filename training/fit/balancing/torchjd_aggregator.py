"""The aggregators of `torchjd`, by name: the class's, in lower case.

Where the class wants numbers, they are those of its paper, see `_ARGUMENTS`. `pcd` takes the first task for the one that matters.
Some need more than `torchjd` (`upgrad`, `dualproj`, `cagrad`, `nashmtl`): `pip install "torchjd[full]"`.

Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv 2406.16232), and the papers that its
documentation names for each aggregator.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torchjd import Stateful, aggregation

from stream_app.config_errors import closest
from stream_app.errors import ConfigError

__all__ = ["TorchJdAggregator", "torchjd_names"]

_BASES: Final = (aggregation.Aggregator, aggregation.WeightedAggregator, aggregation.GramianWeightedAggregator)
# Of T tasks, what a class must be given.
_ARGUMENTS: Final[dict[str, Callable[[int], Any]]] = {
    "c": lambda _: 0.4,  # CAGrad: what Liu et al. (NeurIPS 2021) take for NYU-v2
    "alpha": lambda _: 2.0,  # FairGrad: what Ban and Ji (ICML 2024) take for most of their tables
    "n_tasks": lambda tasks: tasks,
    "weights": torch.ones,  # Constant: the tasks' own weights are in the rows already
    "n_byzantine": lambda tasks: max(0, (tasks - 3) // 2),  # Krum: as many as it can bear (Blanchard et al., NeurIPS 2017)
    "trim_number": lambda tasks: (tasks - 1) // 2,  # the median
}
_OF_ALL_TASKS: Final = {"n_tasks", "weights", "n_byzantine", "trim_number"}  # the number of rows must stay
_NOT_DPP: Final = "You are solving a parameterized problem that is not DPP"  # of NashMTL's solver: about speed alone
_STATE: Final = ("_n_steps", "_state_key", "prvs_alpha")  # what stateful ones keep beside buffers


def torchjd_names() -> list[str]:
    """Return the names of the aggregators that can be built here."""
    names = []
    for name, kind in _kinds().items():
        try:
            kind(**_arguments(kind, 3))
        except ImportError:
            continue
        names.append(name)
    return names


class TorchJdAggregator:
    """An aggregator of `torchjd` as a combining of `Balance`.

    Tasks without a gradient in a batch are left out: for some aggregators, such as MGDA, nothing would move otherwise. Not so for
    those that count on always the same tasks.

    Args:
        name: of the aggregator.
        tasks: how many there are.

    Raises:
        ConfigError: There is no such aggregator, or what it needs is not installed.
    """

    def __init__(self, name: str, tasks: int) -> None:
        kinds = _kinds()
        if name not in kinds:
            raise ConfigError(f"training.balance = torchjd:{name}: torchjd has no such aggregator; {closest(name, kinds)}")
        arguments = _arguments(kinds[name], tasks)
        try:
            self._aggregator: nn.Module = kinds[name](**arguments)
        except ImportError as err:
            raise ConfigError(f"training.balance = torchjd:{name}: {err}") from err
        self._all = isinstance(self._aggregator, Stateful) or bool(_OF_ALL_TASKS & arguments.keys())

    def __call__(self, gradients: Tensor) -> Tensor:
        """(T, P) float32, one gradient a row -> (P,) float32. What is drawn comes from torch's own generator."""
        rows = gradients if self._all else gradients[gradients.any(dim=1)]
        if not len(rows):
            return torch.zeros_like(gradients[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _NOT_DPP, UserWarning)
            merged: Tensor = self._aggregator(rows)
        return merged

    def state(self) -> dict[str, Any]:
        """Return what a later process needs to go on; empty for aggregators without a memory."""
        found: dict[str, Any] = {}
        for number, module in enumerate(self._aggregator.modules()):
            values: dict[str, Any] = {name: value for name, value in module.named_buffers(recurse=False) if value is not None}
            values |= {name: value for name, value in vars(module).items() if name in _STATE}
            if "prvs_alpha" in values:  # of NumPy, which a state on disk is not to hold
                values["prvs_alpha"] = torch.from_numpy(values["prvs_alpha"])
            found |= {str(number): values} if values else {}
        return found if isinstance(self._aggregator, Stateful) else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`'s answer."""
        for number, module in enumerate(self._aggregator.modules()):
            for name, value in state.get(str(number), {}).items():
                kept = value.clone() if isinstance(value, Tensor) else value
                setattr(module, name, np.asarray(kept) if name == "prvs_alpha" else kept)


def _kinds() -> dict[str, Any]:
    kinds = (getattr(aggregation, name) for name in aggregation.__all__)
    return {kind.__name__.lower(): kind for kind in kinds if issubclass(kind, aggregation.Aggregator) and kind not in _BASES}


def _arguments(kind: Any, tasks: int) -> dict[str, Any]:  # noqa: ANN401  # a class, whose signature is looked at
    wanted = inspect.signature(kind).parameters.values()
    return {given.name: _ARGUMENTS[given.name](tasks) for given in wanted if given.default is inspect.Parameter.empty}
