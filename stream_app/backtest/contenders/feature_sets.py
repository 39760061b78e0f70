"""Features of the same events by every catalogue that contenders read, in one pass.

Events are decoded once; each catalogue has columns, fold and state of its own, so its features are those of a worker with this
catalogue. The worker's catalogue decides for all which events are late or duplicates: every contender is evaluated on the same
events.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from stream_app.errors import ConfigError, ContractError
from stream_app.events import Event
from stream_app.features.columns.event_columns import EventColumns
from stream_app.features.declarations import Catalogue
from stream_app.features.engine import FeatureEngine
from stream_app.features.fold_types import FoldResult, LatenessFlags
from stream_app.privacy import Pseudonymizer
from stream_app.replay.memory_state import MemoryState

WORKERS: Final = ""  # the name of the worker's own catalogue

_HOW: Final = 'write catalogue = "module:NAME", NAME being a stream_app.features.declarations.Catalogue in that module'


@dataclass(frozen=True, eq=False)
class FoldedFeatures:
    """B events by the worker's catalogue, and the features of every catalogue by its name."""

    columns: EventColumns
    by_catalogue: Mapping[str, FoldResult]

    @property
    def workers(self) -> FoldResult:
        """Return the features by the worker's catalogue."""
        return self.by_catalogue[WORKERS]


class FeatureSets:
    """Folds events into the state of every catalogue; `engines` are by the name of their catalogue, WORKERS among them."""

    def __init__(self, engines: Mapping[str, FeatureEngine], identity: Pseudonymizer) -> None:
        self.engines, self._identity = engines, identity
        self._state = {name: MemoryState(engine) for name, engine in engines.items()}

    def fold(self, events: Sequence[Event]) -> FoldedFeatures:
        """Fold the next B events of the log, in canonical order."""
        groups = [0] * len(events)
        columns = self.engines[WORKERS].columns(events, groups, self._identity)
        first = self._state[WORKERS].fold(columns)
        flags = LatenessFlags(first.late_by_ms, first.duplicate_of)
        results = {WORKERS: first}
        for name, state in self._state.items():
            if name != WORKERS:
                results[name] = state.fold(self.engines[name].columns(events, groups, self._identity), flags=flags)
        return FoldedFeatures(columns, results)


def engines_of(worker: FeatureEngine, names: Iterable[str]) -> dict[str, FeatureEngine]:
    """Return an engine of each catalogue by its name, the worker's first.

    Raises:
        ConfigError: There is no such catalogue, or its first entity kind, which decides lateness, differs.
    """
    engines = {WORKERS: worker}
    for name in names:
        if name not in engines:
            engines[name] = FeatureEngine(load_catalogue(name), allowed_lateness_ms=worker.allowed_lateness_ms)
            ours, theirs = ((kind.name, kind.sequence) for kind in (worker.kinds[0], engines[name].kinds[0]))
            if ours != theirs:
                raise ConfigError(
                    f"the first entity kind of catalogue {name} is {_described(theirs)}, the worker's is {_described(ours)}: it "
                    "decides lateness and duplicates, so candidates would be evaluated on different events. Make it the same"
                )
    return engines


def load_catalogue(name: str) -> Catalogue:
    """Import a catalogue by `module:NAME`; modules in the current folder are found too.

    Raises:
        ConfigError: There is no such module or name, it is not a catalogue, or its declarations contradict each other.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"the catalogue {name!r} is named wrongly: {_HOW}")
    try:
        with _folder_in_sight():
            catalogue = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as err:
        raise ConfigError(f"no catalogue {name}, in {Path.cwd()} or among installed packages: {err}; {_HOW}") from err
    except ContractError as err:
        raise ConfigError(f"the catalogue {name} is wrong: {err}") from err
    if not isinstance(catalogue, Catalogue):
        raise ConfigError(f"{name} is of type {type(catalogue).__name__}, no catalogue: {_HOW}")
    return catalogue


@contextmanager
def _folder_in_sight() -> Iterator[None]:
    """Let modules be found in the current folder, as all paths of a configuration are; installed ones come first."""
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _described(kind: tuple[str, bool]) -> str:
    return f"{kind[0]} {'with' if kind[1] else 'without'} its last interactions"
