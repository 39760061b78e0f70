"""Named sizes of the network: all that a checkpoint must remember to build its network again.

No torch here, so a command line can list presets without importing it. Widths are chosen for one CPU core: at batch 256 the
`demo` network must score well above 25,000 rows a second in ONNX Runtime and stay under 4 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from model.contract import CATEGORY_BUCKETS, ITEM_BUCKETS, QUERY_BUCKETS

__all__ = ["PRESETS", "NetworkShape"]


@dataclass(frozen=True)
class NetworkShape:
    """Every width of the network but the number of dense features, which the catalogue gives.

    Attributes:
        embedding: width of item, category and kind embeddings, and of one sequence token.
        context: width of each context embedding.
        attention_heads: queries that read the sequence.
        sequence: width of the sequence encoder's answer.
        query: width of query and word embeddings, and of the query encoder's answer.
        experts: experts of the mixture.
        expert_hidden: width of an expert's first layer.
        expert_out: width of an expert's answer.
        tower: hidden width of each task's tower.
        dropout: share of the experts' and towers' hidden values that are dropped while training.
        forget: share of items and of queries that are read as "none" while training.
        noise: added to scaled features while training, in their spreads.
        item_buckets: rows of the item table; ids at or above it are read as 0 ("none").
        category_buckets: rows of the category table, likewise.
        query_buckets: rows of the table of queries and words, likewise.
    """

    embedding: int = 24
    context: int = 8
    attention_heads: int = 2
    sequence: int = 48
    query: int = 16
    experts: int = 4
    expert_hidden: int = 128
    expert_out: int = 64
    tower: int = 48
    dropout: float = 0.2
    forget: float = 0.4
    noise: float = 0.15
    item_buckets: int = ITEM_BUCKETS
    category_buckets: int = CATEGORY_BUCKETS
    query_buckets: int = QUERY_BUCKETS


PRESETS: Final[dict[str, NetworkShape]] = {
    "demo": NetworkShape(),
    # For tests: the same graph, small enough to export in a second or two.
    "tiny": NetworkShape(embedding=16, context=4, sequence=16, query=8, experts=2, expert_hidden=32, expert_out=16, tower=16),
}
