"""The aggregators of `torchjd`, by the class name in lower case.

Numbers that a class requires are those of its paper, see `_ARGUMENTS`. `pcd` treats the first task as the important one. Some
aggregators need more than `torchjd` (`upgrad`, `dualproj`, `cagrad`, `nashmtl`): `pip install "torchjd[full]"`.

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

from stream_app.errors import ConfigError
from stream_app.reporting.validation_errors import closest

_BASES: Final = (aggregation.Aggregator, aggregation.WeightedAggregator, aggregation.GramianWeightedAggregator)
# Required arguments of a class, from the number of tasks.
_ARGUMENTS: Final[dict[str, Callable[[int], Any]]] = {
    "c": lambda _: 0.4,  # CAGrad: what Liu et al. (NeurIPS 2021) take for NYU-v2
    "alpha": lambda _: 2.0,  # FairGrad: what Ban and Ji (ICML 2024) take for most of their tables
    "n_tasks": lambda tasks: tasks,
    "weights": torch.ones,  # Constant: the rows contain the tasks' weights already
    "n_byzantine": lambda tasks: max(0, (tasks - 3) // 2),  # Krum: the most it tolerates (Blanchard et al., NeurIPS 2017)
    "trim_number": lambda tasks: (tasks - 1) // 2,  # the median
}
_OF_ALL_TASKS: Final = {"n_tasks", "weights", "n_byzantine", "trim_number"}  # the number of rows must be constant
_NOT_DPP: Final = "You are solving a parameterized problem that is not DPP"  # from NashMTL's solver; concerns speed only
_STATE: Final = ("_n_steps", "_state_key", "prvs_alpha")  # state beside buffers


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
    """An aggregator of `torchjd` as a combiner of `Balance`.

    Tasks without a gradient in a batch are left out, because some aggregators (MGDA) would not move otherwise; aggregators that
    need a constant number of tasks get all of them.

    Raises:
        ConfigError: No such aggregator, or one of its dependencies is not installed.
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
        """(T, P) float32, one gradient a row -> (P,) float32. Random numbers come from torch's own generator."""
        rows = gradients if self._all else gradients[gradients.any(dim=1)]
        if not len(rows):
            return torch.zeros_like(gradients[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _NOT_DPP, UserWarning)
            merged: Tensor = self._aggregator(rows)
        return merged

    def state(self) -> dict[str, Any]:
        """Return the state to resume from; empty for stateless aggregators."""
        state: dict[str, Any] = {}
        for number, module in enumerate(self._aggregator.modules()):
            values: dict[str, Any] = {name: value for name, value in module.named_buffers(recurse=False) if value is not None}
            values |= {name: value for name, value in vars(module).items() if name in _STATE}
            if "prvs_alpha" in values:  # an array, which a state on disk may not hold
                values["prvs_alpha"] = torch.from_numpy(values["prvs_alpha"])
            state |= {str(number): values} if values else {}
        return state if isinstance(self._aggregator, Stateful) else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`."""
        for number, module in enumerate(self._aggregator.modules()):
            for name, value in state.get(str(number), {}).items():
                own = value.clone() if isinstance(value, Tensor) else value
                setattr(module, name, np.asarray(own) if name == "prvs_alpha" else own)


def _kinds() -> dict[str, Any]:
    kinds = (getattr(aggregation, name) for name in aggregation.__all__)
    return {kind.__name__.lower(): kind for kind in kinds if issubclass(kind, aggregation.Aggregator) and kind not in _BASES}


def _arguments(kind: Any, tasks: int) -> dict[str, Any]:  # noqa: ANN401  # a class
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: _ARGUMENTS[each.name](tasks) for each in parameters if each.default is inspect.Parameter.empty}
