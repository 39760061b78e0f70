"""Sources of training sets: one module for each `[source] kind`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from training.data.dataset import Dataset

KINDS: Final = ("simulation", "log", "table", "text", "sequences")


def dataset_from(
    source: Mapping[str, Any],
    paths: Sequence[Path],
    progress: Callable[[str], None],
    protocol: str = "",
    tasks: Sequence[str] = (),
) -> Dataset:
    """Build a training set of the section [source] of a configuration and the files or folders, none for a simulation.

    `protocol` is that of the evaluation; "" = the source's own. `tasks` are those that rows are for; empty = all.

    Raises:
        ConfigError: The section is wrong, or the files do not fit it.
        InputFileError: A file cannot be read.
        ContractError: The files hold no training set.
    """
    kind = source.get("kind")
    if kind in {"table", "text", "sequences"} and len(paths) != 1:
        raise ConfigError(f"a source of kind {kind} reads one --data, a file or the folder of its files; {len(paths)} are given")
    match kind:
        case "log":
            from training.data.sources.logs import dataset_from_log

            return dataset_from_log(paths, source, progress, protocol, tasks)
        case "simulation":
            from training.data.sources.simulated import dataset_from_simulation

            return dataset_from_simulation(paths, source, progress)
        case "table":
            from training.data.sources.tables import dataset_from_table

            return dataset_from_table(paths[0], source, progress)
        case "text":
            from training.data.sources.texts import dataset_from_texts

            return dataset_from_texts(paths[0], source, progress)
        case "sequences":
            from training.data.sources.sequences import dataset_from_sequences

            return dataset_from_sequences(paths[0], source, progress)
    raise ConfigError(f"[source] kind = {kind!r}: no such kind; it is one of {', '.join(KINDS)}")
