"""One step of several losses: weight them, bound each task's gradient, combine the gradients, fill `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from training.fit.balancing.gradients import cosines, flat, split_flat, task_gradients
from training.fit.balancing.loss_weighting import LossWeighting

GradientCombiner = Callable[[Tensor], Tensor]  # (T, P) one gradient a row -> (P,)
Averaging = Callable[[Tensor], Tensor]  # the mean over all processes, in place
_LEAST_NORM: Final = 1e-12


class Balance:
    """A weighting of losses and a combiner of gradients.

    One backward pass is enough unless the weighting, the combiner or the bound needs single gradients; then there is one for each
    task. Parameters that only one task reaches get that task's gradient, neither combined nor bounded.

    Args:
        weighting: weights of the losses; the optimiser learns its parameters too.
        combiner: combines the weighted gradients on the shared parameters; None = their sum.
        max_norm_bound: maximum norm of a task's weighted gradient on the shared parameters; 0 = no bound.
    """

    def __init__(self, weighting: LossWeighting, combiner: GradientCombiner | None = None, max_norm_bound: float = 0.0) -> None:
        self.weighting, self._combiner, self._bound = weighting, combiner, max_norm_bound
        self.average: Averaging | None = None  # set with several processes
        self.conflict: dict[str, float] = {}  # "a|b" -> cosine of the two tasks' gradients in the last measured step

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from."""
        combiner: dict[str, Any] = getattr(self._combiner, "state", dict)()
        return {"weighing": self.weighting.state_dict(), "combining": combiner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.weighting.load_state_dict(state["weighing"])
        if state["combining"]:
            self._combiner.restore(state["combining"])  # type: ignore[union-attr]  # a combiner with a state has `restore`

    def backward(
        self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter], network: nn.Module, *, measure: bool = False
    ) -> None:
        """Overwrite `.grad` of the parameters of the network and of the weighting, and free the graph of the losses, each ().

        At least two tasks reach each of the parameters `shared`. `measure` sets `conflict`, by a backward pass for each task.
        """
        weighted = self.weighting.weigh(losses)
        parameters = [p for p in (*network.parameters(), *self.weighting.parameters()) if p.requires_grad]
        single = measure or self._combiner is not None or self._bound > 0 or self.weighting.needs_norms
        if not single or len(losses) < 2:
            for parameter in parameters:
                parameter.grad = None
            torch.stack(list(weighted.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            self._average([parameter for parameter in parameters if parameter.grad is not None])
            return
        gradients = task_gradients(weighted, parameters)
        places = {id(parameter): place for place, parameter in enumerate(parameters)}
        reached = {place for parts in gradients.values() for place, part in enumerate(parts) if part is not None}
        common = [place for parameter in shared if (place := places.get(id(parameter), -1)) in reached]
        own = sorted(set(range(len(parameters))) - set(common))
        for place in own:
            known = [part for parts in gradients.values() if (part := parts[place]) is not None]
            # One task's gradient, or the sum for a parameter of the weighting, which all weights depend on.
            parameters[place].grad = torch.stack(known).sum(dim=0) if known else None
        self._average([parameters[place] for place in own if parameters[place].grad is not None])
        if common:
            targets = [parameters[place] for place in common]
            rows = torch.stack([flat([parts[place] for place in common], targets) for parts in gradients.values()])  # (T, P)
            self._combine(rows if self.average is None else self.average(rows), losses, targets, measure=measure)

    def _combine(self, rows: Tensor, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter], *, measure: bool) -> None:
        names, norms = list(losses), rows.norm(dim=1)
        if measure:
            self.conflict = cosines(rows, names)
        if self.weighting.needs_norms:
            values = torch.stack([loss.detach() for loss in losses.values()])
            values = values if self.average is None else self.average(values)
            norm_of = dict(zip(names, norms.tolist(), strict=True))
            self.weighting.observe(dict(zip(names, values.tolist(), strict=True)), norm_of)
        if self._bound > 0:
            rows = rows * (self._bound / norms.clamp(min=_LEAST_NORM)).clamp(max=1.0).unsqueeze(1)
        merged = rows.sum(dim=0) if self._combiner is None else self._combiner(rows)
        for parameter, part in zip(shared, split_flat(merged, shared), strict=True):
            parameter.grad = part.clone()

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.average is None or not parameters:
            return
        values = self.average(flat([parameter.grad for parameter in parameters], parameters))
        for parameter, part in zip(parameters, split_flat(values, parameters), strict=True):
            parameter.grad = part.clone()
