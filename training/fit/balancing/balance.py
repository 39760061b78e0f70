"""One step of several losses: weigh them, bound each task's gradient, combine the gradients, fill `.grad`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from training.fit.balancing.gradients import cosines, flat, split_flat, task_gradients
from training.fit.balancing.weighing import Weighing

__all__ = ["Balance", "Combining"]

Combining = Callable[[Tensor], Tensor]  # (T, P) one gradient a row -> (P,)
Averaging = Callable[[Tensor], Tensor]  # the mean over all processes, in place
_LEAST_NORM: Final = 1e-12


class Balance:
    """A way of weighing losses, and a way of combining gradients; None adds them up.

    Where neither the weighing nor the combining nor a bound needs single gradients, it is one backward pass; else one for each
    task. Parameters that only one task reaches get that task's gradient: nothing there needs balance, nor is it bounded.

    Args:
        weighing: of the losses.
        combining: of the weighed gradients on the shared parameters.
        max_norm_bound: norm to which a task's weighed gradient on the shared parameters is cut; 0 for none.
    """

    def __init__(self, weighing: Weighing, combining: Combining | None = None, max_norm_bound: float = 0.0) -> None:
        self.weighing, self._combining, self._bound = weighing, combining, max_norm_bound
        self.average: Averaging | None = None  # set where there are several processes
        self.conflict: dict[str, float] = {}  # "a|b" -> cosine of the two tasks' gradients in the last measured step

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what the optimiser learns beside the network."""
        return self.weighing.parameters()

    def weights(self) -> dict[str, float]:
        """Return the weights of the losses now."""
        return self.weighing.weights()

    def state_dict(self) -> dict[str, Any]:
        """Return what a later process needs to go on."""
        combining: dict[str, Any] = getattr(self._combining, "state", dict)()
        return {"weighing": self.weighing.state_dict(), "combining": combining}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`'s answer."""
        self.weighing.load_state_dict(state["weighing"])
        if state["combining"]:
            self._combining.restore(state["combining"])  # type: ignore[union-attr]  # what has a state can restore it

    def epoch_ended(self, means: Mapping[str, float]) -> None:
        """Learn from an epoch: each task's mean training loss."""
        self.weighing.epoch_ended(means)

    def backward(
        self, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter], network: nn.Module, *, measure: bool = False
    ) -> None:
        """Fill `.grad` of the network's parameters and of `parameters()`, overwriting what was there.

        Args:
            losses: by task, each (); the graph is used up.
            shared: those of the network's parameters that at least two tasks reach.
            network: whose parameters.
            measure: whether to set `conflict`; costs a backward pass for each task.
        """
        weighed = self.weighing.weigh(losses)
        parameters = [p for p in (*network.parameters(), *self.weighing.parameters()) if p.requires_grad]
        single = measure or self._combining is not None or self._bound > 0 or self.weighing.needs_norms
        if not single or len(losses) < 2:
            for parameter in parameters:
                parameter.grad = None
            torch.stack(list(weighed.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            self._average([parameter for parameter in parameters if parameter.grad is not None])
            return
        gradients = task_gradients(weighed, parameters)
        places = {id(parameter): place for place, parameter in enumerate(parameters)}
        reached = {place for found in gradients.values() for place, part in enumerate(found) if part is not None}
        meeting = [place for parameter in shared if (place := places.get(id(parameter), -1)) in reached]
        own = sorted(set(range(len(parameters))) - set(meeting))
        for place in own:
            known = [part for found in gradients.values() if (part := found[place]) is not None]
            # One task's, or that of the weighing's own parameter, which all tasks' weights are made of.
            parameters[place].grad = torch.stack(known).sum(dim=0) if known else None
        self._average([parameters[place] for place in own if parameters[place].grad is not None])
        if meeting:
            here = [parameters[place] for place in meeting]
            rows = torch.stack([flat([found[place] for place in meeting], here) for found in gradients.values()])  # (T, P)
            self._meet(rows if self.average is None else self.average(rows), losses, here, measure=measure)

    def _meet(self, rows: Tensor, losses: Mapping[str, Tensor], shared: Sequence[nn.Parameter], *, measure: bool) -> None:
        names, norms = list(losses), rows.norm(dim=1)
        if measure:
            self.conflict = cosines(rows, names)
        if self.weighing.needs_norms:
            values = torch.stack([loss.detach() for loss in losses.values()])
            values = values if self.average is None else self.average(values)
            of_task = dict(zip(names, norms.tolist(), strict=True))
            self.weighing.observe(dict(zip(names, values.tolist(), strict=True)), of_task)
        if self._bound > 0:
            rows = rows * (self._bound / norms.clamp(min=_LEAST_NORM)).clamp(max=1.0).unsqueeze(1)
        merged = rows.sum(dim=0) if self._combining is None else self._combining(rows)
        for parameter, part in zip(shared, split_flat(merged, shared), strict=True):
            parameter.grad = part.clone()

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        if self.average is None or not parameters:
            return
        values = self.average(flat([parameter.grad for parameter in parameters], parameters))
        for parameter, part in zip(parameters, split_flat(values, parameters), strict=True):
            parameter.grad = part.clone()
