"""A backtest from end to end: the pass, the truth, every candidate's figures, what they decide differently."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.answer_metrics import class_figures, shown_figures
from stream_app.backtest.changes import ChangedDecision, DecidedEvents, DecidingContender, changes, earlier
from stream_app.backtest.config import DAY_MS, BacktestConfig
from stream_app.backtest.contenders.feature_sets import FeatureSets, engines_of
from stream_app.backtest.contenders.open import open_contender
from stream_app.backtest.decisions import blocked, decide
from stream_app.backtest.fraud_metrics import FraudCase, fraud_figures
from stream_app.backtest.scoring_pass import ScoredLog, ScoringPass
from stream_app.backtest.spool import Spool
from stream_app.errors import ConfigError
from stream_app.evaluation.bootstrap import BootstrapSamples, Figures
from stream_app.evaluation.label_history import NEVER_MS, UNKNOWN, LabelHistory
from stream_app.evaluation.recommendation_metrics import RecommendationMetrics
from stream_app.evaluation.session_labels import SessionLabel
from stream_app.events import INTENTS, NEXT_ACTIONS
from stream_app.features.engine import FeatureEngine
from stream_app.logs.log_source import ReplayLog
from stream_app.privacy import Pseudonymizer

__all__ = ["Backtest", "BacktestOutcome"]

_CLASSES = {"intent": INTENTS, "next_action": NEXT_ACTIONS}


@dataclass(frozen=True, eq=False)
class BacktestOutcome:
    """What a backtest comes to.

    Attributes:
        report: plain values, all of the report's figures; NaN where one cannot be told.
        changes: (before, after) -> the events whose decisions differ, once through.
        decisions: columns of the judged events: event_id, user, event_time_ms, amount, fraud; and for each candidate score,
            threshold, alert.
    """

    report: dict[str, Any]
    changes: Mapping[tuple[str, str], Callable[[], Iterator[ChangedDecision]]]
    decisions: Callable[[], dict[str, Any]]


class Backtest:
    """One backtest; use it as a context, it keeps events on disk.

    Args:
        config: What to do.
        engine: The worker's features.
        identity: Pseudonyms, as a worker's.
        runs_on: What models run on, an engine of `inference.engines`.

    Raises:
        ConfigError: A candidate's file or catalogue is not there, is wrong, or does not fit.
        ContractError: A model is damaged; rules about features that the catalogue does not have.
    """

    def __init__(self, config: BacktestConfig, engine: FeatureEngine, identity: Pseudonymizer, runs_on: str = "auto") -> None:
        self._config, self._identity = config, identity
        self._engines = engines_of(engine, (candidate.catalogue for candidate in config.candidates.values()))
        self._opened = {
            name: open_contender(candidate, self._engines[candidate.catalogue], runs_on)
            for name, candidate in config.candidates.items()
        }
        self._spool = Spool()

    def __enter__(self) -> Backtest:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete what was kept."""
        self._spool.__exit__(None, None, None)

    def run(
        self,
        log: ReplayLog,
        progress: Callable[[int, int], None] = lambda _events, _time_ms: None,
        before: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> BacktestOutcome:
        """Read the log, judge, compare.

        Args:
            log: In canonical order.
            progress: Told the number of events read, and the time of the last one.
            before: The decisions of an earlier run, by column, to be compared with those of candidates of the same names.

        Raises:
            InputFileError: Something is wrong with the log, and its problems are strict.
            ConfigError: Nothing is there to be judged.
        """
        config, asked = self._config, {name: each for name, each in self._opened.items() if each is not None}
        gathered = ScoringPass(config, asked, FeatureSets(self._engines, self._identity), self._spool).run(log, progress)
        in_time = gathered.time_ms >= config.judge.begin_ms
        if not in_time.any():
            raise ConfigError(
                f"no event of the log is judged: of {gathered.counts['events']:,} events none is from {config.judge.begin} to "
                f"{config.judge.end}; correct [judge] from and to"
            )
        report: dict[str, Any] = {
            "name": config.name,
            "counts": dict(gathered.counts),
            "problems": log.problems.summary(),
            "published": config.published,
            "versions": {
                name: each.version if each is not None else f"the mean of {', '.join(config.candidates[name].of)}, in log-odds"
                for name, each in self._opened.items()
            },
            "catalogues": self._catalogues(),
            "notes": {name: each.note for name, each in config.candidates.items() if each.note},
            "against": self._baseline,
            "candidates": {name: {} for name in config.candidates},
        }
        judged, truth = self._judged(gathered, in_time)
        decided: dict[str, DecidedEvents] = {}
        if "fraud" in config.judge.tasks:
            decided = decide(config, self._opened, gathered, truth)
            self._judge_fraud(gathered, judged, truth, decided, report)
        self._judge_answers(gathered, report)
        facts: dict[str, NDArray[Any]] = {
            "time_ms": gathered.time_ms,
            "kind": gathered.kind,
            "amount": gathered.amount,
            "label": truth.final,
        }
        changed = self._changes(decided, facts, judged, before)
        return BacktestOutcome(report, changed, lambda: self._columns(decided, facts, judged))

    @property
    def _baseline(self) -> str:
        return self._config.against or next(iter(self._config.candidates))

    # --- fraud -----------------------------------------------------------------------------------------------------------

    def _judged(self, gathered: ScoredLog, in_time: NDArray[np.bool_]) -> tuple[NDArray[np.int64], LabelHistory]:
        """Return the rows (K,) that fraud is judged on, and the truth of all."""
        judge = self._config.judge
        maturity_ms = None if judge.maturity_days is None else round(judge.maturity_days * DAY_MS)
        said = gathered.labels.of("fraud")
        truth = LabelHistory.of(
            gathered.time_ms, gathered.kind, said, silence=True, end_ms=gathered.newest_ms, maturity_ms=maturity_ms
        )
        keep = in_time & (truth.final != UNKNOWN)
        if judge.leave_out_known:
            keep &= ~blocked(judge, gathered.time_ms, gathered.user, truth)
        if "fraud" in judge.tasks and not keep.any():
            young = int((in_time & (truth.silent_ms < NEVER_MS) & (truth.silent_ms > gathered.newest_ms)).sum())
            raise ConfigError(
                f"no fraud label is about an event from {judge.begin} to {judge.end}, so nobody can be judged on fraud: the log "
                f"has {len(said[0]):,} such labels of events that count, and ends before {young:,} events are old enough for "
                'labels to have arrived. Give labels in the log (topic "labels") and a log that goes on after [judge] to, lower '
                "maturity_days, or leave fraud out of [judge] tasks"
            )
        return np.flatnonzero(keep), truth

    def _judge_fraud(
        self,
        gathered: ScoredLog,
        judged: NDArray[np.int64],
        truth: LabelHistory,
        decided: Mapping[str, DecidedEvents],
        report: dict[str, Any],
    ) -> None:
        config = self._config
        case = FraudCase(
            gathered.time_ms[judged],
            truth.final[judged],
            gathered.amount[judged],
            truth.first_known_ms(1)[judged],
            BootstrapSamples(gathered.user[judged], config.draws, config.seed),
            config.judge.daily_budget,
            config.costs,
            {name: (codes[judged], names) for name, (codes, names) in gathered.segments.items()},
        )
        figures: dict[str, Figures] = {}
        for name, of in decided.items():
            candidate = self._opened[name]
            claims = candidate.claims if candidate is not None else True
            figures[name] = fraud_figures(case, of.score[judged], of.threshold[judged], claims=claims)
        for name, found in self._compared(figures).items():
            report["candidates"][name] |= found
        report["prevalence"] = float(case.label.mean())

    # --- everything else ----------------------------------------------------------------------------------------------------

    def _judge_answers(self, gathered: ScoredLog, report: dict[str, Any]) -> None:
        config = self._config
        for task, names in _CLASSES.items():
            labels = _class_labels(gathered, task, config.judge.begin_ms)
            rows = np.flatnonzero(labels != UNKNOWN)
            draws = BootstrapSamples(gathered.user[rows], config.draws, config.seed)
            says = gathered.classes.get(task, {})
            figures = {name: class_figures(of[rows], labels[rows], names, draws) for name, of in says.items()}
            for name, found in self._compared(figures).items():
                report["candidates"][name][task] = found
        lists = {name: self._shown(gathered, shown) for name, shown in gathered.shown.items()}
        for name, found in self._compared(lists).items():
            report["candidates"][name]["candidates"] = found
        if lists:
            report["floors"] = {"candidates": {"the busiest items so far": self._shown(gathered, gathered.busiest).figures}}

    def _shown(self, gathered: ScoredLog, shown: RecommendationMetrics) -> Figures:
        rows = shown.judged()  # the same ones for all lists
        return shown_figures(
            shown.figures(rows), BootstrapSamples(gathered.user[rows], self._config.draws, self._config.seed), shown.coverage
        )

    def _compared(self, of: Mapping[str, Figures]) -> dict[str, dict[str, Any]]:
        """Return what the report says of each: its figures, and their difference to the baseline's, or else the first one's."""
        base = self._baseline if self._baseline in of else next(iter(of), "")
        return {name: each.figures | (each.against(base, of[base]) if name != base else {}) for name, each in of.items()}

    def _changes(
        self,
        decided: Mapping[str, DecidedEvents],
        facts: Mapping[str, NDArray[Any]],
        judged: NDArray[np.int64],
        before: Mapping[str, NDArray[Any]],
    ) -> dict[tuple[str, str], Callable[[], Iterator[ChangedDecision]]]:
        base = self._baseline
        party = self._party
        found = {(base, name): (party(base, decided[base]), party(name, decided[name])) for name in decided if name != base}
        events = self._spool.names(judged)[0] if before else []
        for name, now in decided.items():
            old = earlier(before, name, now, judged, events) if before else None
            if old is not None:
                found[f"{name} (run before)", name] = (party(name, old), party(name, now))
        return {names: partial(changes, *sides, facts, judged, self._spool) for names, sides in found.items()}

    def _party(self, name: str, decided: DecidedEvents) -> DecidingContender:
        """Return a candidate with what its reasons are told by: its own norms, else those of a model that reads the same."""
        candidate, who = self._config.candidates[name], self._opened[name]
        catalogue = self._config.candidates[candidate.of[0]].catalogue if candidate.kind == "blend" else candidate.catalogue
        same = [self._opened[other] for other, of in self._config.candidates.items() if of.catalogue == catalogue]
        norms = next((each.norms for each in (who, *same) if each is not None and each.norms is not None), None)
        return DecidingContender(who, decided, catalogue, self._engines[catalogue].feature_names, norms)

    def _catalogues(self) -> dict[str, str]:
        """Say of each candidate that reads another catalogue than the worker's, which."""
        engines = {name: self._engines[each.catalogue] for name, each in self._config.candidates.items() if each.catalogue}
        return {
            name: f"{self._config.candidates[name].catalogue} ({engine.catalogue_hash}, {len(engine.feature_names)} features)"
            for name, engine in engines.items()
        }

    def _columns(
        self, decided: Mapping[str, DecidedEvents], facts: Mapping[str, NDArray[Any]], judged: NDArray[np.int64]
    ) -> dict[str, Any]:
        events, users = self._spool.names(judged)
        columns: dict[str, Any] = {"event_id": events, "user": users, "event_time_ms": facts["time_ms"][judged]}
        columns |= {"amount": facts["amount"][judged], "fraud": facts["label"][judged].astype(np.int8)}
        for name, of in decided.items():
            columns |= {f"{name}_score": of.score[judged].astype(np.float32), f"{name}_alert": of.alert[judged]}
            columns[f"{name}_threshold"] = of.threshold[judged]
        return columns


def _class_labels(gathered: ScoredLog, task: str, begin_ms: int) -> NDArray[np.int64]:
    """Return the labels (N,) of a task: those that the log brings, else what the rest of the session tells."""
    labels = gathered.sessions[:, SessionLabel._fields.index(task)].copy()
    if task == "intent":
        rows, _, values = gathered.labels.of(task)
        labels[rows] = values
    labels[gathered.time_ms < begin_ms] = UNKNOWN
    return labels
