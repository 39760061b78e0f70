"""Answer by rules alone while the model fails or is too slow.

    the model answers in time                  -> the model's answers
    the model raises, or returns NaN           -> this batch is degraded; after the third in a row, later batches too
    no answer after `max_score_ms`             -> this batch and later ones are degraded
    degraded, and a retry is due               -> the current batch goes to the model in the background (a probe) and is answered
                                                  by rules; if the probe is in time, the model answers the next batch

A hanging call cannot be cancelled: its thread is abandoned and its late result discarded. While three calls of the serving models
hang, no further call starts. After a swap (a rollback, for example) the new models are tried at once, with three calls of their
own. So at most three threads hang per set of models that has served. A ContractError is a fault of the deployment, not of the
model: it ends the worker.

Time in which the whole process stood still (SIGSTOP, a suspended machine) is not the model's and does not count.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from stream_app.clock import RunningTime
from stream_app.errors import ContractError, MillraceError
from stream_app.inference.breaker import Breaker
from stream_app.inference.ranker import zero_answers
from stream_app.metrics import Metrics
from stream_app.ranked import ModelNorms, RankedBatch

log = logging.getLogger(__name__)

_NEVER: Final = 2.0  # no probability reaches it: a degraded answer is an alert by rules alone
_MOST_HUNG: Final = 3
_LOOK_S: Final = 0.05  # between two looks at the clock while a call runs, or a quarter of a shorter time limit
_WARN_LOST_S: Final = 1.0

Inputs = Mapping[str, NDArray[Any]]


class Degradable(Protocol):
    """A `stream_app.pipeline.Ranker` that may fail."""

    @property
    def norms(self) -> ModelNorms:
        """Threshold and feature norms of the champion."""
        ...

    @property
    def serves(self) -> str:
        """The versions of all models that score the next batch; the text changes with each swap."""
        ...

    def rank(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        """Score B events; a second thread may call it while one hangs inside."""
        ...


def rules_only(rows: int, norms: ModelNorms) -> RankedBatch:
    """Return degraded answers for `rows` rows: zeros and no candidates. `norms` are those of the failed model."""
    return replace(zero_answers(rows, replace(norms, threshold=_NEVER)), degraded=True)


class _Call(Future[RankedBatch]):
    """One call of the models whose versions are `serves`."""

    def __init__(self, serves: str) -> None:
        super().__init__()
        self.serves = serves


class DegradingRanker:
    """See `stream_app.pipeline.Ranker`; one thread at a time.

    Args:
        inner: The ranker that may fail.
        max_score_s: Time limit for a batch in seconds; 0: none.
        metrics: Counts failures and degraded events.
        clock: Monotonic seconds.
    """

    def __init__(
        self, inner: Degradable, max_score_s: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._max_score_s = max_score_s
        self._metrics = metrics
        self._clock = clock
        self._breaker = Breaker(clock)
        self._degraded_rows = 0  # since the breaker opened
        self._probe: tuple[_Call, RunningTime] | None = None
        self._hung: list[_Call] = []
        self._serves = inner.serves

    @property
    def version(self) -> str:
        """The champion's version."""
        return self._inner.norms.version

    def rank(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        """Score B events, or answer them by rules alone; see `stream_app.pipeline.Ranker`."""
        self._notice_swap()
        self._finish_probe()
        if self._breaker.opened_at is None:
            try:
                ranked = self._ask(inputs, users)
            except ContractError:
                raise
            except Exception as error:  # noqa: BLE001 - for any error an answer by rules is better than none
                self._failed(error)
            else:
                self._breaker.succeeded()
                return ranked
        elif self._probe is None and self._breaker.probe_is_due() and self._may_start():
            own = {name: values.copy() for name, values in inputs.items()}  # the probe outlives this call
            # Its time is looked at once a batch: one long gap may have been a pause, two are the model's.
            self._probe = self._start(own, users), RunningTime(self._max_score_s / 2, self._clock)
        self._metrics.degraded_events.inc(len(users))
        self._degraded_rows += len(users)
        return rules_only(len(users), self._inner.norms)

    def _ask(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        if not self._max_score_s:
            return self._call(inputs, users)
        if self._hung and not self._may_start():  # the model was replaced while it hung, and serves again
            raise TimeoutError
        call = self._start(inputs, users)
        if self._finishes(call):
            return call.result()
        self._abandon(call)
        raise TimeoutError

    def _finishes(self, call: _Call) -> bool:
        """Wait until the call is done, or has had `max_score_s` of this process's running time."""
        look_s = min(_LOOK_S, self._max_score_s / 4)
        running = RunningTime(2 * look_s)
        while not call.done() and (left_s := self._max_score_s - running.seconds()) > 0:
            with suppress(TimeoutError):
                call.exception(min(left_s, look_s))
        if running.lost_s > _WARN_LOST_S:
            log.warning(
                "this process stood still for %.1f s while it asked the model: not counted against the model", running.lost_s
            )
        return call.done()

    def _call(self, inputs: Inputs, users: Sequence[bytes]) -> RankedBatch:
        try:
            return self._inner.rank(inputs, users)
        except TimeoutError as error:  # must not be mistaken for the time limit of this class
            raise RuntimeError("the model raised a time-out of its own") from error

    def _start(self, inputs: Inputs, users: Sequence[bytes]) -> _Call:
        """Call the model in a new daemon thread: a hanging call must block neither the process's end nor the next call."""
        call = _Call(self._serves)

        def run() -> None:
            try:
                call.set_result(self._call(inputs, users))
            except BaseException as error:  # noqa: BLE001 - the caller receives it
                call.set_exception(error)

        threading.Thread(target=run, name="model call", daemon=True).start()
        return call

    def _abandon(self, call: _Call) -> None:
        self._hung.append(call)
        self._may_start()

    def _may_start(self) -> bool:
        """Whether fewer than `_MOST_HUNG` calls of the serving models hang."""
        self._hung = [call for call in self._hung if not call.done()]
        self._metrics.model_calls_hung.set(len(self._hung))
        return sum(call.serves == self._serves for call in self._hung) < _MOST_HUNG

    def _notice_swap(self) -> None:
        serves = self._inner.serves
        if serves == self._serves:
            return
        self._serves = serves
        self._breaker.replaced()
        if self._probe is not None:  # a probe of the old models; its result is of no use
            (call, _), self._probe = self._probe, None
            self._abandon(call)

    def _finish_probe(self) -> None:
        """Handle the result of a finished probe, or abandon one that exceeds the time limit."""
        if self._probe is None:
            return
        call, running = self._probe
        if not call.done():
            if self._max_score_s and running.seconds() > self._max_score_s:
                self._probe = None
                self._abandon(call)
                self._failed(TimeoutError())
            return
        self._probe = None
        error = call.exception()
        if isinstance(error, ContractError):
            raise error
        if error is not None:
            self._failed(error)
            return
        opened_at = self._breaker.opened_at
        self._breaker.succeeded()
        self._metrics.degraded.set(0)
        log.warning(
            "the model answers again, after %.1f s in which %d events were answered by rules alone",
            self._clock() - (opened_at or 0.0),
            self._degraded_rows,
        )
        self._degraded_rows = 0

    def _failed(self, error: BaseException) -> None:
        too_slow = isinstance(error, TimeoutError)
        was_closed = self._breaker.opened_at is None
        self._breaker.failed(too_slow=too_slow)
        self._metrics.model_failures.labels("too_slow" if too_slow else "failed").inc()
        what = f"the model has not answered in {self._max_score_s * 1000:.0f} ms" if too_slow else f"the model failed: {error}"
        trace = None if isinstance(error, MillraceError | TimeoutError) else error  # messages of our errors need no trace
        if self._breaker.opened_at is None:
            log.error("%s; this batch is answered by rules alone", what, exc_info=trace)
            return
        self._metrics.degraded.set(1)
        if was_closed:
            log.error("%s; all is answered by rules alone until it answers again", what, exc_info=trace)
        else:
            log.warning("tried again: %s; next try in %.0f s", what, self._breaker.wait_s)
