"""The multi-task network, top to bottom: encoder -> sharing -> one head for each task.

    inputs (`model.inputs`)
      '- encoder (`model.encoders`) -- trunk (B, H) -- scene gate -- sharing (B, T, E) --+-- tower  binary     (B,)
           |-- scene (B, S), scene_code (B,) ------------'----------------'              +-- tower  classes    (B, C)
           |-- wide (B, W): one linear layer of a task reads it beside its tower --------'
           '-- seen (B, Z): what was seen, for retrieval ----------------------------------- user   retrieval  (B, D)

That is a branch (`model.branch`). All tasks share one; with `single` sharing each has a branch of its own.

`MultiTaskNetwork` answers logits, which losses want; `ServingNetwork` wraps it and answers probabilities, which is what is
exported: for a shop's events in the order of `contract.OUTPUTS`. A row's answer depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import Parameter

from model.branch import Branch
from model.contract import OUTPUTS
from model.encoders.dense import NumberEncoder
from model.encoders.event import EventEncoder
from model.encoders.table import TableEncoder
from model.inputs import EventInputs, Inputs
from model.presets import NetworkShape
from model.probabilities import probabilities
from model.tasks import Task, check_tasks

__all__ = ["MultiTaskNetwork", "ServingNetwork", "served_tasks"]


class MultiTaskNetwork(nn.Module):
    """One pass, all tasks.

    Args:
        shape: of a preset, see `model.presets`.
        inputs: what rows look like.
        tasks: what is asked of them.
        text_config: for a checkpoint of texts, see `model.encoders.text.TextEncoder`.

    Raises:
        ValueError: Tasks, inputs and shape do not fit together.
    """

    def __init__(self, shape: NetworkShape, inputs: Inputs, tasks: Sequence[Task], text_config: str = "") -> None:
        super().__init__()
        check_tasks(tasks)
        self.shape, self.inputs, self.tasks = shape, inputs, tuple(tasks)
        groups = [(task,) for task in self.tasks] if shape.sharing == "single" else [self.tasks]
        self.branches = nn.ModuleList(Branch(shape, inputs, group, text_config) for group in groups)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Answer logits by task's name, in the order of the tasks, for B rows of `inputs.tensors()`.

        Returns:
            binary (B,), classes (B, C), retrieval (B, D) whose last coordinate is 1; float32. For a task with `given` it is the
            logit of its own factor: losses and `model.probabilities` combine.
        """
        found: dict[str, Tensor] = {}
        for branch in self.branches:
            found |= branch(inputs)
        return found

    @property
    def parts(self) -> list[Branch]:
        """The branches: one, or one for each task."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def fit_scaling(self, dense: NDArray[Any]) -> None:
        """Take medians, spreads and bins of dense features from the training range, (N, F) raw; before training."""
        for numbers in self._numbers():
            numbers.fit(dense)

    def item_vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """Vectors to set against user vectors by inner product, for events.

        Args:
            item: (N,) int32 item buckets.
            category: (N,) int32 category buckets.

        Returns:
            (N, USER_VECTOR_DIM) float32; the last coordinate is the item's bias.
        """
        return self._retrieving().item_vectors(item, category)

    def item_table(self) -> Tensor:
        """Vectors of all items to set against user vectors, for sequences: (items, D) float32, the last coordinate a bias."""
        return self._retrieving().item_table()

    def shared_parameters(self) -> list[Parameter]:
        """Return what more than one task's loss reaches, in order from inputs to towers; none where nothing is shared."""
        given = {task.given for task in self.tasks}
        return [weight for branch in self.parts for weight in branch.shared_parameters(given)]

    def _numbers(self) -> list[NumberEncoder]:
        encoders = [branch.encoder for branch in self.parts]
        of_kinds = [encoder.numbers for encoder in encoders if isinstance(encoder, EventEncoder | TableEncoder)]
        return [numbers for numbers in of_kinds if numbers is not None]

    def _retrieving(self) -> Branch:
        return next(branch for branch in self.parts if branch.items is not None)


def served_tasks(network: MultiTaskNetwork) -> tuple[str, ...]:
    """Return the names of what is exported: for a shop's events those of `contract.OUTPUTS`, in its order, else every task."""
    ours, contract = [task.name for task in network.tasks], [spec.name for spec in OUTPUTS]
    is_shop = isinstance(network.inputs, EventInputs) and set(contract) <= set(ours)
    return tuple(contract if is_shop else ours)


class ServingNetwork(nn.Module):
    """Probabilities instead of logits: what is exported.

    Args:
        network: the trained network.
        temperatures: see `model.probabilities`.
    """

    def __init__(self, network: MultiTaskNetwork, temperatures: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.network, self.temperatures = network, dict(temperatures or {})
        self.names, self.served = [spec.name for spec in network.inputs.tensors()], served_tasks(network)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer a tensor for each of `served_tasks`; inputs in the order of `inputs.tensors()`, for events `contract.INPUTS`."""
        logits = self.network(dict(zip(self.names, tensors, strict=True)))
        found = probabilities(logits, self.network.tasks, self.temperatures)
        return tuple(found[name] for name in self.served)
