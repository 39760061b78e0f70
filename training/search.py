"""Hyper-parameter search with `optuna`: each trial is a training, evaluated on the validation range.

A seeded tree-structured Parzen estimator suggests values (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS
2011); a trial that is worse than the median of the others after as many epochs is pruned. The test range is not used. A folder
stores the trials, and a later search with the same configuration and data continues from them; only `trials` and `seconds` may
differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stream_app.errors import ConfigError, ContractError
from stream_app.reporting.json_values import json_tree
from stream_app.reporting.validation_errors import closest
from training.config import SearchRange, TrainingConfig
from training.data.batches import fingerprint
from training.data.dataset import Dataset
from training.evaluation.metrics import higher_is_better
from training.fit.checks import check_dataset
from training.fit.distillation import with_soft_labels
from training.fit.distributed import refuse_torchrun
from training.fit.loop import train
from training.fit.progress import EpochReport, TrainingCallbacks
from training.fit.resume import check_same

if TYPE_CHECKING:
    import optuna

_DISTIL: Final = "training.distil"
_STUDY: Final = "search"
_ORIGIN: Final = "about"
_TRIALS_FILE: Final = "trials.log"
_RESULT_FILE: Final = "search.json"
_STARTUP_TRIALS: Final = 5  # trials without pruning, so that there is a median


@dataclass(frozen=True)
class SearchTrial:
    """One training of a search.

    Attributes:
        number: from 0, in order of their start.
        values: tried values, by key of the configuration.
        value: best value on the validation range, higher is better; of a pruned trial the last one; NaN for none.
        state: `complete`, `pruned` (worse than the median after as many epochs, or diverged), or `fail`.
    """

    number: int
    values: dict[str, Any]
    value: float
    state: str


@dataclass(frozen=True)
class SearchResult:
    """Values of the best trial, its value on the validation range, and all trials, also of earlier searches in the folder."""

    best: dict[str, Any]
    value: float
    trials: tuple[SearchTrial, ...]


def search(
    dataset: Dataset, config: TrainingConfig, folder: Path | None = None, on_trial: Callable[[SearchTrial], None] = lambda _: None
) -> SearchResult:
    """Search the ranges of `config.search`; store trials and result in `folder` unless it is None; call `on_trial` for each.

    Raises:
        ConfigError: [search] names no key, or a task that is not trained; the configuration refuses a value; or torchrun started
            the search.
        ContractError: The data cannot be learnt from, the trials in the folder are of other data or another configuration, or no
            trial was completed.
    """
    refuse_torchrun("search")
    tasks = config.chosen_tasks(dataset.tasks)
    if not config.search.ranges:
        raise ConfigError(f"{config.name}: [search.ranges] is empty; write what to vary, such as training.learning_rate")
    names = [task.name for task in tasks]
    if config.search.task and config.search.task not in names:
        raise ConfigError(f"search.task = {config.search.task!r}: is not trained; {closest(config.search.task, names)}")
    check_dataset(dataset, tasks, needs_metrics=True)
    if config.training.distil or _DISTIL in config.search.ranges:
        dataset = with_soft_labels(dataset, tasks, replace(config.training, distil=1.0))  # the same for every share
    study = _study(config, dataset, folder)
    left = config.search.trials - len(study.trials)
    if left > 0:
        study.optimize(
            lambda trial: _objective(trial, dataset, config),
            n_trials=left,
            timeout=config.search.seconds or None,
            callbacks=[lambda _, trial: on_trial(_search_trial(trial))],
        )
    trials = tuple(_search_trial(trial) for trial in study.trials)
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        raise ContractError(
            f"none of {len(trials)} trials was completed. Operator action: narrow [search.ranges], or give more trials or time."
        )
    best = max(complete, key=lambda trial: trial.value)
    result = SearchResult(best.values, best.value, trials)
    if folder is not None:
        (folder / _RESULT_FILE).write_text(json.dumps(json_tree(asdict(result)), indent=1, allow_nan=False) + "\n")
    return result


def _study(config: TrainingConfig, dataset: Dataset, folder: Path | None) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / _TRIALS_FILE)))
    study = optuna.create_study(
        storage=storage,
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=config.training.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
    if folder is not None:
        origin = _origin(config, dataset)
        check_same(study.user_attrs.get(_ORIGIN, origin if not study.trials else {}), origin, folder)
        study.set_user_attr(_ORIGIN, origin)
    return study


def _origin(config: TrainingConfig, dataset: Dataset) -> dict[str, Any]:
    """Return the configuration and data that all trials of a study share, as the file of trials stores them."""
    tree = config.tree()
    tree["search"] = {key: value for key, value in tree["search"].items() if key not in {"trials", "seconds"}}
    origin: dict[str, Any] = json_tree({"config": tree, "data": fingerprint(dataset)})
    return origin


def _objective(trial: optuna.Trial, dataset: Dataset, config: TrainingConfig) -> float:
    """Train with the values of a trial; return the value of its best epoch."""
    import optuna

    changes = {key: _suggest(trial, key, search_range) for key, search_range in config.search.ranges.items()}
    trial_config = config.changed({**changes, "training.stop_on": "metric"})
    best = [-math.inf]

    def on_epoch(report: EpochReport) -> None:
        best.append(max(best[-1], _value(report, dataset, trial_config)))
        trial.report(best[-1], report.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        train(dataset, trial_config, None, TrainingCallbacks(epoch=on_epoch))
    except ContractError as diverged:  # check_dataset has passed, so the values are the cause
        raise optuna.TrialPruned from diverged
    return best[-1]


def _value(report: EpochReport, dataset: Dataset, config: TrainingConfig) -> float:
    tasks = [task for task in config.chosen_tasks(dataset.tasks) if config.search.task in {"", task.name}]
    values = [(report.metrics[task.name][task.metric], higher_is_better(task.metric)) for task in tasks]
    return sum(value if higher else -value for value, higher in values) / len(values)


def _suggest(trial: optuna.Trial, key: str, values: SearchRange) -> Any:  # noqa: ANN401  # the type of the key
    if values.choices:
        return trial.suggest_categorical(key, values.choices)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(key, values.low, values.high, log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def _search_trial(trial: optuna.trial.FrozenTrial) -> SearchTrial:
    epochs = list(trial.intermediate_values.values())
    value = trial.value if trial.value is not None else (epochs[-1] if epochs else math.nan)
    return SearchTrial(trial.number, dict(trial.params), float(value), trial.state.name.lower())
