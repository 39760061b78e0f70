"""Named sizes of the network: together with inputs and tasks they define it.

Free of torch, so that a command line lists presets without it. Widths of the served network are chosen for one CPU core:
at batch 256 `demo` must score well above 25,000 rows a second in ONNX Runtime and stay under 4 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from model.contract import CATEGORY_BUCKETS, ITEM_BUCKETS, QUERY_BUCKETS

Sharing = Literal["shared_bottom", "mmoe", "ple", "star", "single"]
SHARINGS: Final[tuple[Sharing, ...]] = get_args(Sharing)


@dataclass(frozen=True)
class NetworkShape:
    """The widths of a network that do not follow from its inputs and tasks.

    Attributes:
        sharing: how tasks share, see `model.sharing`; `single` = each task has a network of its own.
        scene_gate: the scene scales each coordinate of the trunk (PEPNet, see `model.sharing`).
        experts: of the mixture, which all tasks share. Shared-bottom and STAR have one layer as wide as all of them together.
        task_experts: of each task alone (PLE).
        levels: of extraction (PLE).
        expert_hidden: width of an expert's first layer.
        expert_out: width of an expert's output, which the towers read.
        tower: hidden width of each task's tower.
        dropout: share of the hidden values that are dropped while training, in experts, towers and encoders.
        embedding_dropout: share of the coordinates of item embeddings that are dropped while training (sequences).
        forget: share of items and of queries that are read as "none" while training (events; categories of tables).
        noise: added to scaled features while training, in their spreads (events and tables).
        embedding: width of item, category and kind embeddings (events), and of items (sequences).
        attention_heads: queries that read a sequence; heads of each transformer layer (sequences, texts).
        context: width of each context embedding (events), and of a scene's embedding (tables, texts).
        sequence: width of the sequence encoder's output (events).
        query: width of query and word embeddings, and of the query encoder's output (events).
        item_buckets: rows of the item table; ids at or above it are read as the last (events).
        category_buckets: rows of the category table, likewise.
        query_buckets: rows of the table of queries and words, likewise.
        category: width of a category column's embedding (tables).
        knees: bins of each number between which its encoding is linear (events and tables); 0 = scaled values alone.
        layers: of the transformer (sequences: 0 = attention from the newest item alone; texts without a `path`: 0 = n-grams and
            the mean of the tokens).
        text: width of the text transformer's layers, if inputs have no `path`.
        grams: width of n-gram embeddings (texts).
        temperature: if above 0, retrieval vectors have length 1 and their inner products are divided by it (sequences).
    """

    sharing: Sharing = "mmoe"
    scene_gate: bool = False
    experts: int = 4
    task_experts: int = 1
    levels: int = 2
    expert_hidden: int = 128
    expert_out: int = 64
    tower: int = 48
    dropout: float = 0.2
    embedding_dropout: float = 0.3
    forget: float = 0.4
    noise: float = 0.15
    embedding: int = 24
    attention_heads: int = 2
    context: int = 8
    sequence: int = 48
    query: int = 16
    item_buckets: int = ITEM_BUCKETS
    category_buckets: int = CATEGORY_BUCKETS
    query_buckets: int = QUERY_BUCKETS
    category: int = 8
    knees: int = 0
    layers: int = 2
    text: int = 64
    grams: int = 96
    temperature: float = 0.0


_DEMO: Final = NetworkShape(scene_gate=True, dropout=0.1)
_TABLE: Final = NetworkShape(knees=16, expert_hidden=64, expert_out=32, tower=32, dropout=0.1, forget=0.02, noise=0.02)
_TEXT: Final = NetworkShape(sharing="shared_bottom", experts=1, expert_out=96, dropout=0.3, forget=0.0, noise=0.0)
_SEQUENCE: Final = NetworkShape(sharing="shared_bottom", experts=1, embedding=64, attention_heads=4, layers=0, temperature=0.07)
_SMALL: Final[dict[str, Any]] = {"experts": 2, "expert_hidden": 32, "expert_out": 16, "tower": 16, "context": 4}

PRESETS: Final[dict[str, NetworkShape]] = {
    "demo": _DEMO,  # events: what ships
    "table": _TABLE,
    "text": _TEXT,
    "sequence": _SEQUENCE,
    # For tests: the same graphs, small enough to export in a second or two. `tiny` is for events.
    "tiny": replace(_DEMO, embedding=16, sequence=16, query=8, **_SMALL),
    "table_tiny": replace(_TABLE, category=4, knees=4, **_SMALL),
    "text_tiny": replace(_TEXT, text=16, layers=1, grams=8, **_SMALL),
    "sequence_tiny": replace(_SEQUENCE, embedding=16, layers=1, **_SMALL),
}
