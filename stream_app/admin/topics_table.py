"""The topics as a table: partitions, replicas, retention; missing topics are marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.table import Table

from stream_app.admin.broker import TopicState

_DAY_MS: Final = 86_400_000


def topics_table(names: Sequence[str], states: Mapping[str, TopicState]) -> Table:
    """Return one row for each of `names`, in their order."""
    table = Table("topic", "partitions", "replicas", "kept", "clean-up", "largest record")
    for name in names:
        state = states.get(name)
        if state is None:
            table.add_row(name, "[red]missing[/red]", "", "", "", "")
            continue
        table.add_row(
            name,
            str(state.partitions),
            str(state.replication),
            _days(state.configs.get("retention.ms", "")),
            state.configs.get("cleanup.policy", ""),
            _bytes(state.configs.get("max.message.bytes", "")),
        )
    return table


def _days(retention_ms: str) -> str:
    if not retention_ms:
        return ""
    return "for ever" if retention_ms == "-1" else f"{int(retention_ms) / _DAY_MS:g} days"


def _bytes(text: str) -> str:
    return f"{int(text) / 1_048_576:.1f} MB" if text else ""
