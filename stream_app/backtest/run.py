"""A backtest from end to end: scoring pass, labels, figures of every contender, changed decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_app.backtest.answer_metrics import class_figures, recommendation_figures
from stream_app.backtest.changes import ChangedDecision, DecidedEvents, DecidingContender, changes, earlier
from stream_app.backtest.config import DAY_MS, BacktestConfig
from stream_app.backtest.contenders.contender import open_contender
from stream_app.backtest.contenders.feature_sets import FeatureSets, engines_of
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

_CLASSES = {"intent": INTENTS, "next_action": NEXT_ACTIONS}


@dataclass(frozen=True, eq=False)
class BacktestOutcome:
    """Results of a backtest.

    Attributes:
        report: JSON values, all of the report's figures; NaN for an undefined one.
        changes: (before, after) -> the events whose decisions differ; each can be iterated once.
        decisions: columns of the evaluated events: event_id, user, event_time_ms, amount, fraud; and for each contender score,
            threshold, alert.
    """

    report: dict[str, Any]
    changes: Mapping[tuple[str, str], Callable[[], Iterator[ChangedDecision]]]
    decisions: Callable[[], dict[str, Any]]


class Backtest(AbstractContextManager["Backtest"]):
    """One backtest; a context manager, since it spools events to disk.

    `engine` has the worker's features, `runs_on` is an engine of `inference.engines` for models.

    Raises:
        ConfigError: The file or catalogue of a contender is missing, wrong, or does not fit.
        ContractError: A model is damaged, or rules name features that the catalogue does not have.
    """

    def __init__(self, config: BacktestConfig, engine: FeatureEngine, identity: Pseudonymizer, runs_on: str = "auto") -> None:
        self._config, self._identity = config, identity
        self._engines = engines_of(engine, (contender.catalogue for contender in config.candidates.values()))
        self._opened = {
            name: open_contender(contender, self._engines[contender.catalogue], runs_on)
            for name, contender in config.candidates.items()
        }
        self._spool = Spool()

    def __exit__(self, *_: object) -> None:
        """Delete the spooled events."""
        self._spool.close()

    def run(
        self,
        log: ReplayLog,
        progress: Callable[[int, int], None] = lambda _events, _time_ms: None,
        before: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> BacktestOutcome:
        """Read the log, evaluate the contenders, compare them.

        `progress` is called with the number of events read and the time of the last one. `before` are columns of the decisions of
        an earlier run, compared with those of contenders of the same names.

        Raises:
            InputFileError: The log has an issue, and its issues are strict.
            ConfigError: No event can be evaluated.
        """
        config, contenders = self._config, {name: each for name, each in self._opened.items() if each is not None}
        scored = ScoringPass(config, contenders, FeatureSets(self._engines, self._identity), self._spool).run(log, progress)
        in_time = scored.time_ms >= config.judge.begin_ms
        if not in_time.any():
            raise ConfigError(
                f"no event of the log is evaluated: of {scored.counts['events']:,} events none is from {config.judge.begin} to "
                f"{config.judge.end}; correct [judge] from and to"
            )
        report: dict[str, Any] = {
            "name": config.name,
            "counts": dict(scored.counts),
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
        evaluated, labels = self._evaluated(scored, in_time)
        decisions: dict[str, DecidedEvents] = {}
        if "fraud" in config.judge.tasks:
            decisions = decide(config, self._opened, scored, labels)
            self._evaluate_fraud(scored, evaluated, labels, decisions, report)
        self._evaluate_other_tasks(scored, report)
        facts: dict[str, NDArray[Any]] = {
            "time_ms": scored.time_ms,
            "kind": scored.kind,
            "amount": scored.amount,
            "label": labels.final,
        }
        changed = self._changes(decisions, facts, evaluated, before)
        return BacktestOutcome(report, changed, lambda: self._columns(decisions, facts, evaluated))

    @property
    def _baseline(self) -> str:
        return self._config.against or next(iter(self._config.candidates))

    # --- fraud -----------------------------------------------------------------------------------------------------------

    def _evaluated(self, scored: ScoredLog, in_time: NDArray[np.bool_]) -> tuple[NDArray[np.int64], LabelHistory]:
        """Return the rows (K,) on which fraud is evaluated, and the labels of all rows."""
        protocol = self._config.judge
        maturity_ms = None if protocol.maturity_days is None else round(protocol.maturity_days * DAY_MS)
        records = scored.labels.of("fraud")
        labels = LabelHistory.of(scored.time_ms, scored.kind, records, end_ms=scored.newest_ms, maturity_ms=maturity_ms)
        keep = in_time & (labels.final != UNKNOWN)
        if protocol.leave_out_known:
            keep &= ~blocked(protocol, scored.time_ms, scored.user, labels)
        if "fraud" in protocol.tasks and not keep.any():
            young = int((in_time & (labels.honest_from_ms < NEVER_MS) & (labels.honest_from_ms > scored.newest_ms)).sum())
            raise ConfigError(
                f"no fraud label is about an event from {protocol.begin} to {protocol.end}, so fraud cannot be evaluated: the "
                f"log has {len(records[0]):,} such labels of scored events, and ends before {young:,} events are old enough for "
                'labels to have arrived. Give labels in the log (topic "labels") and a log that goes on after [judge] to, lower '
                "maturity_days, or leave fraud out of [judge] tasks"
            )
        return np.flatnonzero(keep), labels

    def _evaluate_fraud(
        self,
        scored: ScoredLog,
        evaluated: NDArray[np.int64],
        labels: LabelHistory,
        decisions: Mapping[str, DecidedEvents],
        report: dict[str, Any],
    ) -> None:
        config = self._config
        case = FraudCase(
            scored.time_ms[evaluated],
            labels.final[evaluated],
            scored.amount[evaluated],
            labels.first_known_ms(1)[evaluated],
            BootstrapSamples(scored.user[evaluated], config.draws, config.seed),
            config.judge.daily_budget,
            config.costs,
            {name: (codes[evaluated], names) for name, (codes, names) in scored.segments.items()},
        )
        figures: dict[str, Figures] = {}
        for name, of in decisions.items():
            contender = self._opened[name]
            probabilities = contender.is_probability if contender is not None else True
            figures[name] = fraud_figures(case, of.score[evaluated], of.threshold[evaluated], is_probability=probabilities)
        for name, compared in self._with_differences(figures).items():
            report["candidates"][name] |= compared
        report["prevalence"] = float(case.label.mean())

    # --- other tasks ---------------------------------------------------------------------------------------------------------

    def _evaluate_other_tasks(self, scored: ScoredLog, report: dict[str, Any]) -> None:
        config = self._config
        for task, names in _CLASSES.items():
            labels = _class_labels(scored, task, config.judge.begin_ms)
            rows = np.flatnonzero(labels != UNKNOWN)
            draws = BootstrapSamples(scored.user[rows], config.draws, config.seed)
            predictions = scored.classes.get(task, {})
            figures = {name: class_figures(of[rows], labels[rows], names, draws) for name, of in predictions.items()}
            for name, compared in self._with_differences(figures).items():
                report["candidates"][name][task] = compared
        lists = {name: self._list_figures(scored, metrics) for name, metrics in scored.lists.items()}
        for name, compared in self._with_differences(lists).items():
            report["candidates"][name]["candidates"] = compared
        if lists:
            report["floors"] = {"candidates": {"the busiest items so far": self._list_figures(scored, scored.busiest).figures}}

    def _list_figures(self, scored: ScoredLog, metrics: RecommendationMetrics) -> Figures:
        rows = metrics.evaluated_rows()  # the same ones for all lists
        samples = BootstrapSamples(scored.user[rows], self._config.draws, self._config.seed)
        return recommendation_figures(metrics.figures(rows), samples, metrics.coverage)

    def _with_differences(self, of: Mapping[str, Figures]) -> dict[str, dict[str, Any]]:
        """Return the figures of each contender and their difference to the baseline, or to the first one without it."""
        base = self._baseline if self._baseline in of else next(iter(of), "")
        return {name: each.figures | (each.against(base, of[base]) if name != base else {}) for name, each in of.items()}

    def _changes(
        self,
        decisions: Mapping[str, DecidedEvents],
        facts: Mapping[str, NDArray[Any]],
        evaluated: NDArray[np.int64],
        before: Mapping[str, NDArray[Any]],
    ) -> dict[tuple[str, str], Callable[[], Iterator[ChangedDecision]]]:
        base, deciding = self._baseline, {name: self._deciding(name, of) for name, of in decisions.items()}
        pairs = {(base, name): (deciding[base], other) for name, other in deciding.items() if name != base}
        events = self._spool.names(evaluated)[0] if before else []
        for name, now in decisions.items():
            old = earlier(before, name, now, evaluated, events) if before else None
            if old is not None:
                pairs[f"{name} (run before)", name] = (self._deciding(name, old), deciding[name])
        return {names: partial(changes, *pair, facts, evaluated, self._spool) for names, pair in pairs.items()}

    def _deciding(self, name: str, decisions: DecidedEvents) -> DecidingContender:
        """Pair a contender with the feature norms behind its reasons: its own, else those of a model on the same catalogue."""
        settings, contender = self._config.candidates[name], self._opened[name]
        catalogue = self._config.candidates[settings.of[0]].catalogue if settings.kind == "blend" else settings.catalogue
        same = [self._opened[other] for other, of in self._config.candidates.items() if of.catalogue == catalogue]
        norms = next((each.norms for each in (contender, *same) if each is not None and each.norms is not None), None)
        return DecidingContender(contender, decisions, catalogue, self._engines[catalogue].feature_names, norms)

    def _catalogues(self) -> dict[str, str]:
        """Return the catalogue of each contender that does not read the worker's."""
        engines = {name: self._engines[each.catalogue] for name, each in self._config.candidates.items() if each.catalogue}
        return {
            name: f"{self._config.candidates[name].catalogue} ({engine.catalogue_hash}, {len(engine.feature_names)} features)"
            for name, engine in engines.items()
        }

    def _columns(
        self, decisions: Mapping[str, DecidedEvents], facts: Mapping[str, NDArray[Any]], evaluated: NDArray[np.int64]
    ) -> dict[str, Any]:
        events, users = self._spool.names(evaluated)
        columns: dict[str, Any] = {"event_id": events, "user": users, "event_time_ms": facts["time_ms"][evaluated]}
        columns |= {"amount": facts["amount"][evaluated], "fraud": facts["label"][evaluated].astype(np.int8)}
        for name, of in decisions.items():
            columns |= {f"{name}_score": of.score[evaluated].astype(np.float32), f"{name}_alert": of.alert[evaluated]}
            columns[f"{name}_threshold"] = of.threshold[evaluated]
        return columns


def _class_labels(scored: ScoredLog, task: str, begin_ms: int) -> NDArray[np.int64]:
    """Return the labels (N,) of a task: those of the log, else those derived from the rest of the session."""
    labels = scored.sessions[:, SessionLabel._fields.index(task)].copy()
    if task == "intent":
        rows, _, values = scored.labels.of(task)
        labels[rows] = values
    labels[scored.time_ms < begin_ms] = UNKNOWN
    return labels
