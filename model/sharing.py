"""Sharing: one trunk's floats in, one vector for each task out.

Every module has the same call, (B, H) and the scene (B,) -> (B, T, E) for T tasks, so that they are exchangeable without a change
of encoders or heads. Shared, beside the encoder:

    shared_bottom  two layers, all of them (Caruana, "Multitask Learning", 1997)
    mmoe           experts; each task has a gate of its own (Ma et al., "Modeling Task Relationships in Multi-task Learning with
                   Multi-gate Mixture-of-Experts", KDD 2018)
    ple            levels of common experts; each task has experts and a gate of its own (Tang et al., "Progressive Layered
                   Extraction", RecSys 2020)
    star           two layers whose weights are the common weights times the scene's (Sheng et al., "One Model to
                   Serve All: Star Topology Adaptive Recommender", CIKM 2021)
    single         nothing, not even the encoder: each task has a branch of its own, with the layers of a shared bottom

Shared-bottom and star are as wide as all experts of the mixture together, so the modes differ in sharing, not in size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from model.encoders.encoded import Sizes
from model.presets import NetworkShape

_GATE_WIDTH = 64  # of the scene gate's middle layer


class SharedBottom(nn.Module):
    """All tasks read the same two layers."""

    def __init__(self, width: int, hidden: int, out: int, tasks: int, dropout: float) -> None:
        super().__init__()
        self.tasks = tasks
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, out)
        self.drop = nn.Dropout(dropout)

    def forward(self, trunk: Tensor, scene: Tensor | None) -> Tensor:  # one call for all ways of sharing
        """(B, width) float32 -> (B, tasks, out) float32, the same for each task."""
        answer = torch.relu(self.second(self.drop(torch.relu(self.first(trunk)))))  # (B, out)
        return answer.unsqueeze(1).expand(-1, self.tasks, -1)


class Experts(nn.Module):
    """X experts of two layers. Their layers are held as one tensor, so they run as one product instead of one for each."""

    def __init__(self, width: int, experts: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.experts, self.hidden = experts, hidden
        self.first = nn.Linear(width, experts * hidden)
        second = [nn.Linear(hidden, out) for _ in range(experts)]  # for PyTorch's own initialisation
        self.second = nn.Parameter(torch.stack([layer.weight.detach().T for layer in second]))  # (X, hidden, out)
        self.second_bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in second]).unsqueeze(1))

    def forward(self, trunk: Tensor) -> Tensor:
        """(B, width) float32 -> (B, X, out) float32."""
        hidden = self.drop(torch.relu(self.first(trunk))).reshape(-1, self.experts, self.hidden)  # (B, X, hidden)
        answers = torch.matmul(hidden.transpose(0, 1), self.second) + self.second_bias  # (X, B, out)
        return torch.relu(answers).transpose(0, 1)


class MixtureOfExperts(nn.Module):
    """MMoE: all tasks share the experts; each task has a gate of its own that mixes their answers."""

    def __init__(self, shape: NetworkShape, width: int, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.experts = Experts(width, shape.experts, shape.expert_hidden, shape.expert_out, shape.dropout)
        self.gates = nn.Linear(width, tasks * shape.experts)

    def forward(self, trunk: Tensor, scene: Tensor | None) -> Tensor:  # one call for all ways of sharing
        """(B, width) float32 -> (B, tasks, out) float32."""
        answers = self.experts(trunk)  # (B, X, out)
        gates = torch.softmax(self.gates(trunk).reshape(-1, self.tasks, self.experts.experts), dim=-1)  # (B, T, X)
        return torch.matmul(gates, answers)  # (B, T, out)


class ExtractionLevel(nn.Module):
    """One level of PLE: task-specific and common experts; each task's gate mixes its own and the common experts."""

    def __init__(self, shape: NetworkShape, width: int, tasks: int, *, last: bool) -> None:
        super().__init__()
        sizes = (shape.expert_hidden, shape.expert_out, shape.dropout)
        own, common = shape.task_experts, shape.experts
        self.own = nn.ModuleList(Experts(width, own, *sizes) for _ in range(tasks))
        self.common = Experts(width, common, *sizes)
        self.gates = nn.ModuleList(nn.Linear(width, own + common) for _ in range(tasks))
        self.common_gate = None if last else nn.Linear(width, tasks * own + common)

    def forward(self, of_tasks: Sequence[Tensor], of_all: Tensor) -> tuple[list[Tensor], Tensor]:
        """T times (B, width) float32 and once for all -> T times (B, out) and once; the last level passes the latter through."""
        common = self.common(of_all)  # (B, X, out)
        own = [experts(x) for experts, x in zip(self.own, of_tasks, strict=True)]  # T times (B, Y, out)
        mixed = [
            _mixed(gate(x), torch.cat([answers, common], dim=1))
            for gate, x, answers in zip(self.gates, of_tasks, own, strict=True)
        ]
        if self.common_gate is not None:
            of_all = _mixed(self.common_gate(of_all), torch.cat([*own, common], dim=1))
        return mixed, of_all


def _mixed(gate: Tensor, answers: Tensor) -> Tensor:
    """(B, X) logits and (B, X, out) -> (B, out)."""
    return torch.matmul(torch.softmax(gate, dim=-1).unsqueeze(1), answers).squeeze(1)


class Extraction(nn.Module):
    """PLE: stacked layers of shared and task-specific experts; a gate never reads another task's experts."""

    def __init__(self, shape: NetworkShape, width: int, tasks: int) -> None:
        super().__init__()
        widths = [width] + [shape.expert_out] * (shape.levels - 1)
        levels = [ExtractionLevel(shape, w, tasks, last=level == shape.levels - 1) for level, w in enumerate(widths)]
        self.tasks, self.levels = tasks, nn.ModuleList(levels)

    def forward(self, trunk: Tensor, scene: Tensor | None) -> Tensor:  # one call for all ways of sharing
        """(B, width) float32 -> (B, tasks, out) float32."""
        of_tasks, of_all = [trunk] * self.tasks, trunk
        for level in self.levels:
            of_tasks, of_all = level(of_tasks, of_all)
        return torch.stack(of_tasks, dim=1)

    def own_parameters(self, task: int) -> list[Parameter]:
        """Return the parameters that only this task's loss reaches: its experts of the last level, and their gates.

        All others are common, since a common gate above mixes them.
        """
        levels = [level for level in self.levels if isinstance(level, ExtractionLevel)]
        gates = [weight for level in levels[-2:] for weight in level.gates[task].parameters()]
        return [*levels[-1].own[task].parameters(), *gates]


class StarLinear(nn.Module):
    """A linear layer with the shared weights times the scene's weights, element by element, plus two biases.

    A scene's matrix is an outer product, (1 + rows)(1 + columns)', so scaling inputs and outputs is enough. The factors start
    at 1 and weight decay pulls them to 1, so a scene with few rows behaves like the average of all scenes.
    """

    def __init__(self, width: int, out: int, scenes: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, out)
        self.rows, self.columns, self.bias = (nn.Embedding(scenes, n) for n in (width, out, out))
        for table in (self.rows, self.columns, self.bias):
            nn.init.zeros_(table.weight)

    def forward(self, x: Tensor, scene: Tensor) -> Tensor:
        """(B, width) float32 and (B,) int -> (B, out) float32."""
        scaled = x * (1.0 + self.rows(scene))  # (B, width)
        answer: Tensor = self.shared(scaled) * (1.0 + self.columns(scene)) + self.bias(scene)
        return answer


class StarBottom(nn.Module):
    """STAR: a shared bottom whose weights are multiplied by the scene's."""

    def __init__(self, width: int, hidden: int, out: int, tasks: int, scenes: int, dropout: float) -> None:
        super().__init__()
        self.tasks = tasks
        self.first, self.second = StarLinear(width, hidden, scenes), StarLinear(hidden, out, scenes)
        self.drop = nn.Dropout(dropout)

    def forward(self, trunk: Tensor, scene: Tensor) -> Tensor:
        """(B, width) float32 and (B,) int -> (B, tasks, out) float32, the same for each task."""
        answer = torch.relu(self.second(self.drop(torch.relu(self.first(trunk, scene))), scene))  # (B, out)
        return answer.unsqueeze(1).expand(-1, self.tasks, -1)


class SceneGate(nn.Module):
    """Scale each coordinate of the trunk by 0 to 2, depending on scene and row. It starts at 1.

    The gate reads the trunk without a gradient: it selects coordinates and does not change them to be selected.

    Source: Chang et al., "PEPNet: Parameter and Embedding Personalized Network", KDD 2023 (EPNet).
    """

    def __init__(self, scene: int, trunk: int) -> None:
        super().__init__()
        self.ask = nn.Linear(scene + trunk, _GATE_WIDTH)
        self.answer = nn.Linear(_GATE_WIDTH, trunk)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)

    def forward(self, trunk: Tensor, scene: Tensor) -> Tensor:
        """(B, H) float32 and (B, S) float32 -> (B, H) float32."""
        asked = torch.relu(self.ask(torch.cat([scene, trunk.detach()], dim=1)))  # (B, 64)
        return trunk * (2.0 * torch.sigmoid(self.answer(asked)))


def sharing_for(shape: NetworkShape, sizes: Sizes, tasks: int) -> SharedBottom | MixtureOfExperts | Extraction | StarBottom:
    """Return the module that `shape.sharing` names, for a trunk of those sizes.

    Raises:
        ValueError: It shares by scene, and the inputs have no scenes; or there is no such way of sharing.
    """
    if shape.sharing == "mmoe":
        return MixtureOfExperts(shape, sizes.trunk, tasks)
    if shape.sharing == "ple":
        return Extraction(shape, sizes.trunk, tasks)
    hidden, out = shape.experts * shape.expert_hidden, shape.expert_out
    if shape.sharing in {"shared_bottom", "single"}:
        return SharedBottom(sizes.trunk, hidden, out, tasks, shape.dropout)
    if shape.sharing != "star":
        raise ValueError(f"sharing {shape.sharing!r} is none of shared_bottom, mmoe, ple, star, single")
    if not sizes.scenes:
        raise ValueError(
            "sharing 'star' has weights for each scene, and these inputs have no scenes; give `scenes`, or take mmoe"
        )
    return StarBottom(sizes.trunk, hidden, out, tasks, sizes.scenes, shape.dropout)
