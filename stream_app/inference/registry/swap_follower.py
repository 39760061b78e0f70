"""A worker follows the registry: what it decides is loaded beside what serves, tested, and swapped in between two batches.

    see      the stages' revision has changed
    load     the artefact beside the one that serves: checksums, catalogue, self-test, warm-up
    gate     rows recorded a moment ago through the new one, held against what the old one answered to them
    swap     from the next batch on; the old one stays loaded for as long as it is the `previous` one

Any of them may fail: then the old one goes on serving, and the worker's status in the registry says why. What failed is tried
again, what the gate has refused is not. A thread of its own does it all; the model's thread and the event loop wait for nothing,
and no error ends it: what a store's client or an engine raises may be of any class.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from stream_app.clock import Clock
from stream_app.errors import ContractError, MillraceError
from stream_app.inference.engines.selection import tell_engine
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.registry.background import Background
from stream_app.inference.registry.document import StageAssignment, StageChange, Stages, WorkerStatus
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.swap import SwappableRanker
from stream_app.inference.registry.swap_gate import GateLimits, Recorder, recorded_samples, replay_through, why_refused
from stream_app.metrics import Metrics

__all__ = ["FollowOptions", "ModelFollower", "ModelLoader", "first_champion"]

log = logging.getLogger(__name__)

_STILL_HERE_S: Final = 15.0  # a worker that says nothing for four times as long is taken for dead by `millrace models`
_CLOSE_AFTER_S: Final = 60.0  # a model that serves no more may still be inside a batch that hangs or waits to be compared
_TRY_AGAIN_S: Final = 15.0  # a load costs seconds of a core; what passes by itself (a store that is away) takes longer than that

Outcome = Literal["served", "refused", "failed"]


class ModelLoader(Protocol):
    """See `stream_app.inference.loading.RankerLoader`."""

    def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
        """Load an artefact; blocking."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How a worker follows.

    Attributes:
        registry: What it follows.
        loader: How artefacts are loaded here.
        recorder: The last batches of the ranker.
        limits: From where on a new champion is refused.
        worker: This worker's name.
        poll_s: Seconds between two looks at the registry.
    """

    registry: ModelRegistry
    loader: ModelLoader
    recorder: Recorder
    limits: GateLimits
    worker: str
    poll_s: float


class _RefusedError(Exception):
    """The gate does not let a model in: its message says why."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    outcome: Outcome
    reason: str = ""
    figures: dict[str, float] | None = None


def first_champion(registry: ModelRegistry, loader: ModelLoader, metrics: Metrics) -> ModelRanker:
    """Load who serves when a worker starts: the champion; if it cannot be loaded, the previous one.

    Raises:
        ContractError: There is no champion, or neither of them can be loaded.
    """
    line_up = registry.stages().line_up
    if not line_up.champion:
        raise ContractError(
            f"the registry {registry.place} has no champion. Operator action: `millrace models add FOLDER`, then `millrace "
            "models promote VERSION`; or leave model.registry empty, and model.path says what serves."
        )
    try:
        return loader.load(registry.folder(line_up.champion), metrics)
    except MillraceError as error:
        if not line_up.previous:
            raise
        log.warning("champion %s cannot be loaded, the previous one serves: %s", line_up.champion, error)
        return loader.load(registry.folder(line_up.previous), metrics)


class ModelFollower(Background):
    """Keeps a `SwappableRanker` as the registry says, in a thread of its own; at its end the worker's status leaves the registry.

    Args:
        ranker: What it changes.
        options: How.
        clock: Dates its status.
        metrics: Where to count.
    """

    def __init__(self, ranker: SwappableRanker, options: FollowOptions, clock: Clock, metrics: Metrics) -> None:
        super().__init__("model follower", "is still loading; it ends with the process, and its status stays in the registry")
        self._ranker = ranker
        self._registry = options.registry
        self._loader = options.loader
        self._recorder = options.recorder
        self._limits = options.limits
        self._worker = options.worker
        self._poll_s = options.poll_s
        self._clock = clock
        self._metrics = metrics
        self._seen: StageChange | None = None  # dealt with last; numbers alone may repeat: stages deleted and made anew
        self._try_again = float("inf")  # when what failed is due
        self._verdict = _Verdict("served")
        self._told = float("-inf")
        self._loaded = {ranker.version: ranker.serving.champion}  # who can answer without being loaded
        self._shown = ranker.serving.champion.scorer  # whose engine `millrace_engine_info` shows
        self._leaving: list[tuple[float, ModelRanker]] = []

    def _run(self) -> None:
        while not self._ending.wait(self._poll_s):
            self.look()
        try:
            self._registry.leave(self._worker)
        except Exception as error:  # noqa: BLE001  # of any class, by the store's client; the worker ends all the same
            log.warning("the registry %s could not be told that this worker ends: %s", self._registry.place, _in_words(error))

    def look(self) -> None:
        """Look at the registry once, and do what it says; nothing is raised."""
        try:
            stages = self._registry.stages()
            if stages.history and (stages.history[-1] != self._seen or time.monotonic() >= self._try_again):
                self._follow(stages)
                self._seen = stages.history[-1]
                self._tell()
            elif time.monotonic() - self._told >= _STILL_HERE_S:
                self._tell()
        except Exception as error:  # noqa: BLE001  # of any class, by the store's client; the next look may work
            self._metrics.registry_failures.inc()
            place, version = self._registry.place, self._ranker.version
            log.warning("the registry %s cannot be followed, %s goes on: %s", place, version, _in_words(error))
        self._close_who_left()

    def _follow(self, stages: Stages) -> None:
        began, line_up = time.perf_counter(), stages.line_up
        self._verdict = _Verdict("served")
        if line_up.champion and line_up.champion != self._ranker.version:
            self._verdict = self._swap(line_up, forced=_is_forced(stages.history))
            outcome = "swapped" if self._verdict.outcome == "served" else self._verdict.outcome
            self._metrics.model_swaps.labels(outcome).inc()
            self._metrics.model_swap_seconds.observe(time.perf_counter() - began)
        if self._verdict.outcome == "served":
            self._seat_others(line_up)
        self._try_again = time.monotonic() + _TRY_AGAIN_S if self._verdict.outcome == "failed" else float("inf")
        self._keep_only(line_up)
        self._show()

    def _swap(self, line_up: StageAssignment, *, forced: bool) -> _Verdict:
        version, old, figures = line_up.champion, self._ranker.serving.champion, None
        try:
            new = self._load(version)
            if not forced:
                figures = self._ask_gate(new, old)
        except _RefusedError as refusal:
            log.warning("%s is refused, %s goes on: %s", version, old.version, refusal)
            reason, found = refusal.args
            return _Verdict("refused", reason, found)
        except Exception as error:  # noqa: BLE001  # of any class, by store or engine; the old one goes on
            log.warning("%s cannot be taken, %s goes on: %s", version, old.version, _in_words(error))
            return _Verdict("failed", _in_words(error))
        now = self._ranker.serving
        is_challenger = now.challenger is not None and now.challenger.version == version
        self._ranker.serve(replace(now, champion=new, challenger=None if is_challenger else now.challenger))
        log.info("%s serves in the place of %s", version, old.version)
        return _Verdict("served", figures=figures)

    def _ask_gate(self, new: ModelRanker, old: ModelRanker) -> dict[str, float]:
        batches = self._recorder.of(old.version)
        if not batches:  # nothing has come since the old one serves: what it was built with
            batches = [recorded_samples(self._registry.folder(old.version), old)]
        found = replay_through(new, old, batches, self._limits.rows)
        figures: dict[str, float] = msgspec.structs.asdict(found)
        why = why_refused(found, self._limits)
        if why:
            raise _RefusedError(f"over {found.rows} recorded rows {why}", figures)
        return figures

    def _seat_others(self, line_up: StageAssignment) -> None:
        """Load challenger and shadow; one that cannot be loaded is left out, and told."""
        now = self._ranker.serving
        challenger = self._seated(now.challenger, line_up.challenger, self._load)
        shadow = self._seated(now.shadow, line_up.shadow, lambda version: self._loader.load(self._registry.folder(version)))
        percent = line_up.percent if challenger is not None else 0.0
        self._ranker.serve(replace(now, challenger=challenger, percent=percent, shadow=shadow))
        if shadow is not now.shadow:
            self._leave(now.shadow)

    def _seated(self, now: ModelRanker | None, version: str, load: Callable[[str], ModelRanker]) -> ModelRanker | None:
        if version == (now.version if now is not None else ""):
            return now
        try:
            return load(version) if version else None
        except Exception as error:  # noqa: BLE001  # of any class, by store or engine; the champion answers without it
            log.warning("%s cannot be taken beside %s: %s", version, self._ranker.version, _in_words(error))
            reason = "; ".join(filter(None, (self._verdict.reason, _in_words(error))))
            self._verdict = replace(self._verdict, outcome="failed", reason=reason)
            return None

    def _load(self, version: str) -> ModelRanker:
        if version not in self._loaded:
            self._loaded[version] = self._loader.load(self._registry.folder(version), self._metrics)
        return self._loaded[version]

    def _keep_only(self, line_up: StageAssignment) -> None:
        """Let go of models that are in no stage; the previous one stays, for a rollback at once."""
        serving = self._ranker.serving
        kept = {line_up.previous, serving.champion.version}
        if serving.challenger is not None:
            kept.add(serving.challenger.version)
        for version in set(self._loaded) - kept:
            self._leave(self._loaded.pop(version))

    def _leave(self, model: ModelRanker | None) -> None:
        if model is not None:
            self._leaving.append((time.monotonic() + _CLOSE_AFTER_S, model))

    def _close_who_left(self) -> None:
        now = time.monotonic()
        for due, model in list(self._leaving):
            if due <= now:
                self._leaving.remove((due, model))
                try:
                    model.close()
                except Exception as error:  # noqa: BLE001  # of any class, by the engine; nobody uses it any more
                    log.warning("%s, which serves no more, did not close: %s", model.version, _in_words(error))

    def _tell(self) -> None:
        verdict, seen = self._verdict, self._seen
        self._registry.report(
            WorkerStatus(
                worker=self._worker,
                seen_ms=self._clock.now_ms(),
                revision=seen.revision if seen is not None else -1,
                at_ms=seen.at_ms if seen is not None else 0,
                serving=self._ranker.version,
                outcome=verdict.outcome,
                reason=verdict.reason,
                figures=verdict.figures or {},
            )
        )
        self._told = time.monotonic()

    def _show(self) -> None:
        serving, info = self._ranker.serving, self._metrics.model_info
        info.clear()
        info.labels(serving.champion.version, "champion").set(1)
        tell_engine(serving.champion.scorer, self._metrics, self._shown)
        self._shown = serving.champion.scorer
        if serving.challenger is not None:
            info.labels(serving.challenger.version, "challenger").set(1)
        if serving.shadow is not None:
            info.labels(serving.shadow.version, "shadow").set(1)


def _is_forced(history: Sequence[StageChange]) -> bool:
    """Whether the champion was forced at any time since it is the champion: a change of the shadow after that calls no gate."""
    champion = history[-1].line_up.champion
    return any(change.forced for change in takewhile(lambda change: change.line_up.champion == champion, reversed(history)))


def _in_words(error: Exception) -> str:
    """Say what went wrong; errors that are not ours say little without their class."""
    return str(error) if isinstance(error, MillraceError) else f"{type(error).__name__}: {error}"
