"""Follow the model registry: load a new champion beside the serving one, test it, and swap it in between two batches.

    poll     compare the revision of the stages with the last one seen
    load     read the new artefact: checksums, catalogue, self-test, warm-up
    gate     score recently recorded rows with the new model, and compare with the old model's answers
    swap     serve the new model from the next batch on; the old one stays loaded while it is `previous`

If a step fails, the old model keeps serving, and the worker's status in the registry gives the reason. A failed load is tried
again; a model that the gate refused is not. A separate thread does all of it, so neither the model's thread nor the event loop
waits. No error ends that thread: clients of stores and engines raise errors of any class.
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
from stream_app.inference.engines.selection import show_engine
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.registry.background import Background
from stream_app.inference.registry.document import StageAssignment, StageChange, Stages, WorkerStatus
from stream_app.inference.registry.model_registry import ModelRegistry
from stream_app.inference.registry.swap import SwappableRanker
from stream_app.inference.registry.swap_gate import GateLimits, Recorder, recorded_samples, replay_through, why_refused
from stream_app.metrics import Metrics

log = logging.getLogger(__name__)

_HEARTBEAT_S: Final = 15.0  # `millrace models` takes a worker for dead after four times as long without a status
_CLOSE_AFTER_S: Final = 60.0  # a replaced model may still be used by a batch that hangs or waits for comparison
_RETRY_S: Final = 15.0  # a load costs seconds of a core; outages that end by themselves take longer than that

Outcome = Literal["served", "refused", "failed"]


class ModelLoader(Protocol):
    """See `stream_app.inference.loading.RankerLoader`."""

    def load(self, folder: Path, metrics: Metrics | None = None) -> ModelRanker:
        """Load an artefact; blocking."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How a worker of that name follows the registry: every `poll_s` seconds, with the gate's rows and limits."""

    registry: ModelRegistry
    loader: ModelLoader
    recorder: Recorder
    limits: GateLimits
    worker: str
    poll_s: float


class _RefusedError(Exception):
    """The gate refuses a model; the message is the reason."""


@dataclass(frozen=True, slots=True)
class _Result:
    outcome: Outcome
    reason: str = ""
    figures: dict[str, float] | None = None


def first_champion(registry: ModelRegistry, loader: ModelLoader, metrics: Metrics) -> ModelRanker:
    """Load the first model of a worker: the champion, or the previous one if the champion cannot be loaded.

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
    """Keeps a `SwappableRanker` in step with the registry, in a separate thread; deletes the worker's status at the end."""

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
        self._handled: StageChange | None = None  # the last one; its number alone may repeat after the stages were deleted
        self._retry_at = float("inf")
        self._result = _Result("served")
        self._reported_at = float("-inf")
        self._loaded = {ranker.version: ranker.serving.champion}
        self._reported_scorer = ranker.serving.champion.scorer  # its engine is in `millrace_engine_info`
        self._leaving: list[tuple[float, ModelRanker]] = []

    def _run(self) -> None:
        while not self._ending.wait(self._poll_s):
            self.look()
        try:
            self._registry.leave(self._worker)
        except Exception as error:  # noqa: BLE001  # the store's client raises any class; the worker ends all the same
            log.warning("this worker's status in the registry %s was not deleted: %s", self._registry.place, _in_words(error))

    def look(self) -> None:
        """Read the registry once and follow it; raises nothing."""
        try:
            stages = self._registry.stages()
            if stages.history and (stages.history[-1] != self._handled or time.monotonic() >= self._retry_at):
                self._follow(stages)
                self._handled = stages.history[-1]
                self._report()
            elif time.monotonic() - self._reported_at >= _HEARTBEAT_S:
                self._report()
        except Exception as error:  # noqa: BLE001  # the store's client raises any class; the next poll may work
            self._metrics.registry_failures.inc()
            place, version = self._registry.place, self._ranker.version
            log.warning("the registry %s cannot be followed, %s goes on: %s", place, version, _in_words(error))
        self._close_unused()

    def _follow(self, stages: Stages) -> None:
        began, line_up = time.perf_counter(), stages.line_up
        self._result = _Result("served")
        if line_up.champion and line_up.champion != self._ranker.version:
            self._result = self._swap(line_up, forced=_is_forced(stages.history))
            outcome = "swapped" if self._result.outcome == "served" else self._result.outcome
            self._metrics.model_swaps.labels(outcome).inc()
            self._metrics.model_swap_seconds.observe(time.perf_counter() - began)
        if self._result.outcome == "served":
            self._load_challenger_and_shadow(line_up)
        self._retry_at = time.monotonic() + _RETRY_S if self._result.outcome == "failed" else float("inf")
        self._unload_unused(line_up)
        self._update_info()

    def _swap(self, line_up: StageAssignment, *, forced: bool) -> _Result:
        version, old, figures = line_up.champion, self._ranker.serving.champion, None
        try:
            new = self._load(version)
            if not forced:
                figures = self._pass_gate(new, old)
        except _RefusedError as refusal:
            log.warning("%s is refused, %s goes on: %s", version, old.version, refusal)
            reason, gate_figures = refusal.args
            return _Result("refused", reason, gate_figures)
        except Exception as error:  # noqa: BLE001  # store and engine raise any class; the old model goes on
            log.warning("%s cannot be taken, %s goes on: %s", version, old.version, _in_words(error))
            return _Result("failed", _in_words(error))
        now = self._ranker.serving
        is_challenger = now.challenger is not None and now.challenger.version == version
        self._ranker.serve(replace(now, champion=new, challenger=None if is_challenger else now.challenger))
        log.info("%s serves in the place of %s", version, old.version)
        return _Result("served", figures=figures)

    def _pass_gate(self, new: ModelRanker, old: ModelRanker) -> dict[str, float]:
        batches = self._recorder.of(old.version)
        if not batches:  # no batch since the old model serves: take the rows that its artefact was built with
            batches = [recorded_samples(self._registry.folder(old.version), old)]
        deltas = replay_through(new, old, batches, self._limits.rows)
        figures: dict[str, float] = msgspec.structs.asdict(deltas)
        why = why_refused(deltas, self._limits)
        if why:
            raise _RefusedError(f"over {deltas.rows} recorded rows {why}", figures)
        return figures

    def _load_challenger_and_shadow(self, line_up: StageAssignment) -> None:
        """Load challenger and shadow; log and skip models that fail to load."""
        now = self._ranker.serving
        challenger = self._loaded_or_none(now.challenger, line_up.challenger, self._load)
        shadow = self._loaded_or_none(
            now.shadow, line_up.shadow, lambda version: self._loader.load(self._registry.folder(version))
        )
        percent = line_up.percent if challenger is not None else 0.0
        self._ranker.serve(replace(now, challenger=challenger, percent=percent, shadow=shadow))
        if shadow is not now.shadow:
            self._leave(now.shadow)

    def _loaded_or_none(self, now: ModelRanker | None, version: str, load: Callable[[str], ModelRanker]) -> ModelRanker | None:
        if version == (now.version if now is not None else ""):
            return now
        try:
            return load(version) if version else None
        except Exception as error:  # noqa: BLE001  # store and engine raise any class; the champion answers without it
            log.warning("%s cannot be taken beside %s: %s", version, self._ranker.version, _in_words(error))
            reason = "; ".join(filter(None, (self._result.reason, _in_words(error))))
            self._result = replace(self._result, outcome="failed", reason=reason)
            return None

    def _load(self, version: str) -> ModelRanker:
        if version not in self._loaded:
            self._loaded[version] = self._loader.load(self._registry.folder(version), self._metrics)
        return self._loaded[version]

    def _unload_unused(self, line_up: StageAssignment) -> None:
        """Unload models that are in no stage; the previous one stays loaded, for an immediate rollback."""
        serving = self._ranker.serving
        used = {line_up.previous, serving.champion.version}
        if serving.challenger is not None:
            used.add(serving.challenger.version)
        for version in set(self._loaded) - used:
            self._leave(self._loaded.pop(version))

    def _leave(self, model: ModelRanker | None) -> None:
        if model is not None:
            self._leaving.append((time.monotonic() + _CLOSE_AFTER_S, model))

    def _close_unused(self) -> None:
        now = time.monotonic()
        for due, model in list(self._leaving):
            if due <= now:
                self._leaving.remove((due, model))
                try:
                    model.close()
                except Exception as error:  # noqa: BLE001  # engines raise any class; the model is unused
                    log.warning("%s, which serves no more, did not close: %s", model.version, _in_words(error))

    def _report(self) -> None:
        result, handled = self._result, self._handled
        self._registry.report(
            WorkerStatus(
                worker=self._worker,
                seen_ms=self._clock.now_ms(),
                revision=handled.revision if handled is not None else -1,
                at_ms=handled.at_ms if handled is not None else 0,
                serving=self._ranker.version,
                outcome=result.outcome,
                reason=result.reason,
                figures=result.figures or {},
            )
        )
        self._reported_at = time.monotonic()

    def _update_info(self) -> None:
        serving, info = self._ranker.serving, self._metrics.model_info
        info.clear()
        info.labels(serving.champion.version, "champion").set(1)
        show_engine(serving.champion.scorer, self._metrics, self._reported_scorer)
        self._reported_scorer = serving.champion.scorer
        if serving.challenger is not None:
            info.labels(serving.challenger.version, "challenger").set(1)
        if serving.shadow is not None:
            info.labels(serving.shadow.version, "shadow").set(1)


def _is_forced(history: Sequence[StageChange]) -> bool:
    """Whether the champion was forced at any time since its promotion; a later change of the shadow keeps that."""
    champion = history[-1].line_up.champion
    return any(change.forced for change in takewhile(lambda change: change.line_up.champion == champion, reversed(history)))


def _in_words(error: Exception) -> str:
    """Return the message of an error; foreign errors need their class to be understood."""
    return str(error) if isinstance(error, MillraceError) else f"{type(error).__name__}: {error}"
