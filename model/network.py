"""The multi-task network, top to bottom: encoder -> sharing -> one head for each task.

    inputs (`model.inputs`)
      '- encoder (`model.encoders`) -- trunk (B, H) -- scene gate -- sharing (B, T, E) --+-- tower  binary     (B,)
           |-- scene (B, S), scene_code (B,) ------------'----------------'              +-- tower  classes    (B, C)
           |-- wide (B, W): one linear layer of a task reads it beside its tower --------'
           '-- seen (B, Z): what was seen, for retrieval ----------------------------------- user   retrieval  (B, D)

The picture shows a branch (`model.branch`). All tasks share one; with `single` sharing each task has its own.

`MultiTaskNetwork` returns logits, for losses; `ServingNetwork` wraps it and returns probabilities, for the export: for a shop's
events in the order of `contract.OUTPUTS`. A row's outputs depend on that row alone.
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


class MultiTaskNetwork(nn.Module):
    """Logits of all tasks in one pass.

    Args:
        shape: of a preset, see `model.presets`.
        inputs: kind and sizes of the rows.
        tasks: prediction targets.
        text_config: of a text checkpoint, see `model.encoders.text.TextEncoder`.

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
        """Return logits by task name, in the order of the tasks, for B rows of `inputs.tensors()`.

        Returns:
            binary (B,), classes (B, C), retrieval (B, D) whose last coordinate is 1; float32. For a task with `given` it is the
            logit of its own factor; losses and `model.probabilities` combine the factors.
        """
        logits: dict[str, Tensor] = {}
        for branch in self.branches:
            logits |= branch(inputs)
        return logits

    @property
    def parts(self) -> list[Branch]:
        """The branches: one, or one for each task."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def fit_scaling(self, dense: NDArray[Any]) -> None:
        """Compute medians, spreads and bins of dense features from the training range, (N, F) raw; call before training."""
        for numbers in self._numbers():
            numbers.fit(dense)

    def item_vectors(self, item: Tensor, category: Tensor) -> Tensor:
        """(N,) int32 item buckets and (N,) int32 category buckets -> (N, USER_VECTOR_DIM) float32, for events.

        Inner products with user vectors rank items; the last coordinate is the item's bias.
        """
        return self._retrieval_branch().item_vectors(item, category)

    def item_table(self) -> Tensor:
        """Return the vectors of all items, for sequences: (items, D) float32, the last coordinate a bias."""
        return self._retrieval_branch().item_vectors()

    def shared_parameters(self) -> list[Parameter]:
        """Return the parameters in the gradient of more than one task, from inputs to towers; none without sharing."""
        conditions = {task.given for task in self.tasks}
        return [weight for branch in self.parts for weight in branch.shared_parameters(conditions)]

    def _numbers(self) -> list[NumberEncoder]:
        encoders = [branch.encoder for branch in self.parts]
        of_kinds = [encoder.numbers for encoder in encoders if isinstance(encoder, EventEncoder | TableEncoder)]
        return [numbers for numbers in of_kinds if numbers is not None]

    def _retrieval_branch(self) -> Branch:
        return next(branch for branch in self.parts if branch.items is not None)


def served_tasks(network: MultiTaskNetwork) -> tuple[str, ...]:
    """Return the names of the exported outputs: `contract.OUTPUTS` in its order for a shop's events, else every task."""
    names, contract = [task.name for task in network.tasks], [spec.name for spec in OUTPUTS]
    is_shop = isinstance(network.inputs, EventInputs) and set(contract) <= set(names)
    return tuple(contract if is_shop else names)


class ServingNetwork(nn.Module):
    """The exported graph of a trained network: probabilities (`model.probabilities`) instead of logits."""

    def __init__(self, network: MultiTaskNetwork, temperatures: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.network, self.temperatures = network, dict(temperatures or {})
        self.names, self.served = [spec.name for spec in network.inputs.tensors()], served_tasks(network)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return a tensor for each of `served_tasks`; inputs in the order of `inputs.tensors()`, for events `contract.INPUTS`."""
        logits = self.network(dict(zip(self.names, tensors, strict=True)))
        by_task = probabilities(logits, self.network.tasks, self.temperatures)
        return tuple(by_task[name] for name in self.served)
