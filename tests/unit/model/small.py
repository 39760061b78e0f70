"""A small network of each kind of input, untrained: what the tests of model/ and trt_build/ look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
import transformers.models.bert.modeling_bert  # noqa: F401  # once, here: loading it changes the environment, a test may not

from model.examples import example_inputs
from model.heads import ScoreHead
from model.inputs import EventInputs, Inputs, SequenceInputs, TableInputs, TextInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS
from model.tasks import SHOP_TASKS, Task

torch.set_num_threads(1)  # tensors this small only wait for a second thread, on busy cores for long

FEATURES: Final = 12
YES = Task(name="yes", kind="binary", label="yes", positive_weight=3.0)
SIDE = Task(name="side", kind="classes", label="side", classes=("left", "middle", "right"))
NEXT = Task(name="next", kind="retrieval", label="next")

SMALL: Final[dict[str, tuple[str, Inputs, tuple[Task, ...]]]] = {
    "event": ("tiny", EventInputs(FEATURES), SHOP_TASKS),
    "table": ("table_tiny", TableInputs(5, (3, 7), 4), (YES, SIDE)),
    "text": ("text_tiny", TextInputs(vocabulary=50, length=8, grams=6, scenes=3, gram_buckets=64), (YES, SIDE)),
    "sequence": ("sequence_tiny", SequenceInputs(30, 6), (NEXT, YES)),
}


def small_network(kind: str, tasks: Sequence[Task] = (), **changes: Any) -> MultiTaskNetwork:
    """Return one with seeded weights, in evaluation mode; what starts at 0 does not, so that every part has a say."""
    preset, inputs, usual = SMALL[kind]
    torch.manual_seed(1)
    network = MultiTaskNetwork(replace(PRESETS[preset], **changes), inputs, tasks or usual).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if not bool(weight.any()):
                weight.normal_(0.0, 0.1)
    return network


def score_head(network: MultiTaskNetwork, task: str) -> ScoreHead:
    """Return the head of a binary task or of classes, of a network with one branch."""
    head = network.parts[0].heads[[one.name for one in network.tasks].index(task)]
    assert isinstance(head, ScoreHead)
    return head


def small_rows(kind: str, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return rows for it."""
    return example_inputs(SMALL[kind][1], rows, seed)
