"""A branch: encoder, sharing and heads of the tasks that share them; `model.network` has one, or one for each task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import Parameter

from model.contract import USER_VECTOR_DIM
from model.encoders.encoded import Encoded, Sizes
from model.encoders.event import EventEncoder
from model.encoders.sequence import HistoryEncoder
from model.encoders.table import TableEncoder
from model.encoders.text import TextEncoder
from model.heads import EventItems, PointHead, ScoreHead, SequenceItems, UserVectorHead
from model.inputs import EventInputs, Inputs, SequenceInputs, TableInputs
from model.presets import NetworkShape
from model.sharing import Extraction, SceneGate, sharing_for
from model.tasks import Task

Encoder = EventEncoder | TableEncoder | TextEncoder | HistoryEncoder


class Branch(nn.Module):
    """T tasks from encoder to logits.

    Args:
        shape: of the network.
        inputs: kind and sizes of the rows.
        tasks: of this branch.
        text_config: see `model.encoders.text.TextEncoder`.
    """

    def __init__(self, shape: NetworkShape, inputs: Inputs, tasks: Sequence[Task], text_config: str = "") -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.encoder = _encoder(shape, inputs, text_config)
        sizes = self.encoder.sizes
        self.heads = nn.ModuleList(_head(task, shape, inputs, sizes) for task in tasks)
        # Tasks that read the sharing, in its order: all but a retrieval whose vector comes from the encoder.
        self.readers = [task.name for task, head in zip(tasks, self.heads, strict=True) if not isinstance(head, PointHead)]
        self.gate = _gate(shape, sizes)
        self.sharing = sharing_for(shape, sizes, len(self.readers)) if self.readers else None
        self.items = _items(shape, inputs) if any(task.kind == "retrieval" for task in tasks) else None

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return logits by task: (B,), (B, C) or (B, D), see `model.network.MultiTaskNetwork`."""
        encoded: Encoded = self.encoder(inputs)
        shared: dict[str, Tensor] = {}
        if self.sharing is not None:
            trunk = encoded.trunk if self.gate is None else self.gate(encoded.trunk, encoded.scene)  # (B, H)
            by_task = self.sharing(trunk, encoded.scene_code)  # (B, T, E)
            shared = {name: by_task[:, place] for place, name in enumerate(self.readers)}
        return {task.name: head(shared.get(task.name), encoded) for task, head in zip(self.tasks, self.heads, strict=True)}

    def item_vectors(self, *codes: Tensor) -> Tensor:
        """See `model.network.MultiTaskNetwork`: `item_vectors` with codes of items, `item_table` without."""
        assert isinstance(self.encoder, EventEncoder | HistoryEncoder)
        assert self.items is not None
        vectors: Tensor = self.items(self.encoder.items, *codes)
        return vectors

    def shared_parameters(self, conditions: Iterable[str]) -> list[Parameter]:
        """Return the parameters in the gradient of more than one task's loss, from inputs to towers.

        Args:
            conditions: tasks that another task's probability depends on: its loss reaches their heads and everything below.
        """
        alone = {task.name for task in self.tasks if task.name not in conditions}
        if len(self.tasks) == 1:
            return [] if alone else list(self.parameters())
        excluded: set[int] = set()
        if isinstance(self.sharing, Extraction):
            places = [place for place, name in enumerate(self.readers) if name in alone]
            excluded = {id(weight) for place in places for weight in self.sharing.own_parameters(place)}
        below: list[nn.Module | None] = [self.encoder, self.gate, self.sharing]
        heads = [head for task, head in zip(self.tasks, self.heads, strict=True) if task.name not in alone]
        parts = [part for part in (*below, *heads) if part is not None]
        return [weight for part in parts for weight in part.parameters() if id(weight) not in excluded]


def _encoder(shape: NetworkShape, inputs: Inputs, text_config: str) -> Encoder:
    if isinstance(inputs, EventInputs):
        return EventEncoder(shape, inputs)
    if isinstance(inputs, TableInputs):
        return TableEncoder(shape, inputs)
    return HistoryEncoder(shape, inputs) if isinstance(inputs, SequenceInputs) else TextEncoder(shape, inputs, text_config)


def _gate(shape: NetworkShape, sizes: Sizes) -> SceneGate | None:
    if shape.scene_gate and not sizes.scene:
        raise ValueError("scene_gate needs the scene, and these inputs have no scenes; give `scenes`, or leave the gate out")
    return SceneGate(sizes.scene, sizes.trunk) if shape.scene_gate else None


def _head(task: Task, shape: NetworkShape, inputs: Inputs, sizes: Sizes) -> nn.Module:
    if task.kind != "retrieval":
        wide = sizes.wide if task.kind in sizes.wide_kinds else 0
        return ScoreHead(shape.expert_out, wide, shape.tower, max(1, len(task.classes)), shape.dropout)
    if isinstance(inputs, EventInputs):
        return UserVectorHead(shape.expert_out, sizes.seen, shape.tower, USER_VECTOR_DIM, shape.dropout)
    if isinstance(inputs, SequenceInputs):
        return PointHead(shape.temperature)
    raise ValueError(f"task {task.name}: inputs of kind {inputs.kind} have no items to retrieve; use event or sequence inputs")


def _items(shape: NetworkShape, inputs: Inputs) -> nn.Module:
    if isinstance(inputs, SequenceInputs):
        return SequenceItems(inputs.items, shape.temperature)
    return EventItems(shape.item_buckets, shape.embedding, USER_VECTOR_DIM)
