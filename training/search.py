"""Search for better values of a configuration with `optuna`: each trial is a training, judged on the validation range.

Values are drawn by the tree-structured Parzen estimator (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS
2011), seeded; a trial that is worse than the median of the others after as many epochs is broken off. The test range is not
touched. With a folder, trials are kept there and a later search of the same goes on from them; only how many and how long may
differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stream_app.config_errors import closest
from stream_app.errors import ConfigError, ContractError
from stream_app.reporting.json_values import json_tree
from training.config import SearchRange, TrainingConfig
from training.data.batches import fingerprint
from training.data.dataset import Dataset
from training.evaluation.metrics import higher_is_better
from training.fit.checks import check_dataset
from training.fit.distillation import with_teacher
from training.fit.distributed import refuse_torchrun
from training.fit.loop import EpochReport, TrainingEvents, train
from training.fit.resume import check_same

if TYPE_CHECKING:
    import optuna

__all__ = ["SearchResult", "SearchTrial", "search"]

_DISTIL: Final = "training.distil"
_STUDY: Final = "search"
_ABOUT: Final = "about"
_TRIALS_FILE: Final = "trials.log"
_RESULT_FILE: Final = "search.json"
_WITHOUT_PRUNING: Final = 5  # trials that are trained to their end first, so that there is a median


@dataclass(frozen=True)
class SearchTrial:
    """One training of a search.

    Attributes:
        number: from 0, in the order they began.
        values: that were tried, by key of the configuration.
        value: what was reached on the validation range, higher is better; the last before it was broken off; NaN for none.
        state: `complete`, `pruned` (no better than others after as many epochs, or diverged), or `fail`.
    """

    number: int
    values: dict[str, Any]
    value: float
    state: str


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        best: the best trial's values, by key of the configuration: for `--set`, or for the file.
        value: what it reached on the validation range.
        trials: all of them, those of earlier searches in the same folder too.
    """

    best: dict[str, Any]
    value: float
    trials: tuple[SearchTrial, ...]


def search(
    dataset: Dataset, config: TrainingConfig, folder: Path | None = None, told: Callable[[SearchTrial], None] = lambda _: None
) -> SearchResult:
    """Search as `config.search` says.

    Args:
        dataset: what to learn from.
        config: its [search] says what to vary; all else stays.
        folder: where trials and result are kept; None keeps nothing.
        told: after each trial.

    Raises:
        ConfigError: [search] says nothing to vary, or names a task that is not trained; a value tried is refused; or torchrun
            started it.
        ContractError: The data cannot be learnt from, the trials in the folder are of other data or another configuration, or no
            trial came to its end.
    """
    refuse_torchrun("search")
    tasks = config.chosen_tasks(dataset.tasks)
    if not config.search.ranges:
        raise ConfigError(f"{config.name}: [search.ranges] is empty; write what to vary, such as training.learning_rate")
    names = [task.name for task in tasks]
    if config.search.task and config.search.task not in names:
        raise ConfigError(f"search.task = {config.search.task!r}: is not trained; {closest(config.search.task, names)}")
    check_dataset(dataset, tasks, judged=True)
    if config.training.distil or _DISTIL in config.search.ranges:
        dataset = with_teacher(dataset, tasks, replace(config.training, distil=1.0))  # one for all trials, whatever its share
    study = _study(config, dataset, folder)
    left = config.search.trials - len(study.trials)
    if left > 0:
        study.optimize(
            lambda trial: _reached(trial, dataset, config),
            n_trials=left,
            timeout=config.search.seconds or None,
            callbacks=[lambda _, trial: told(_trial(trial))],
        )
    trials = tuple(_trial(trial) for trial in study.trials)
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        raise ContractError(
            f"none of {len(trials)} trials came to its end. Operator action: narrow [search.ranges], or give more trials or time."
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
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_WITHOUT_PRUNING),
    )
    if folder is not None:
        about = _about(config, dataset)
        check_same(study.user_attrs.get(_ABOUT, about if not study.trials else {}), about, folder)
        study.set_user_attr(_ABOUT, about)
    return study


def _about(config: TrainingConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what must be the same for trials to be compared, as the file of trials holds it."""
    tree = config.tree()
    tree["search"] = {key: value for key, value in tree["search"].items() if key not in {"trials", "seconds"}}
    about: dict[str, Any] = json_tree({"config": tree, "data": fingerprint(dataset)})
    return about


def _reached(trial: optuna.Trial, dataset: Dataset, config: TrainingConfig) -> float:
    """Train with the values of a trial; return its best epoch's value."""
    import optuna

    changes = {key: _drawn(trial, key, among) for key, among in config.search.ranges.items()}
    tried = config.changed({**changes, "training.stop_on": "metric"})
    reached = [-math.inf]

    def told(report: EpochReport) -> None:
        reached.append(max(reached[-1], _value(report, dataset, tried)))
        trial.report(reached[-1], report.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        train(dataset, tried, None, TrainingEvents(epoch=told))
    except ContractError as diverged:  # the data have been checked: it is these values that do not do
        raise optuna.TrialPruned from diverged
    return reached[-1]


def _value(report: EpochReport, dataset: Dataset, config: TrainingConfig) -> float:
    tasks = [task for task in config.chosen_tasks(dataset.tasks) if config.search.task in {"", task.name}]
    values = [(report.metrics[task.name][task.metric], higher_is_better(task.metric)) for task in tasks]
    return sum(value if higher else -value for value, higher in values) / len(values)


def _drawn(trial: optuna.Trial, key: str, among: SearchRange) -> Any:  # noqa: ANN401  # of whatever type the key has
    if among.choices:
        return trial.suggest_categorical(key, among.choices)
    if isinstance(among.low, int) and isinstance(among.high, int):
        return trial.suggest_int(key, among.low, among.high, log=among.log)
    return trial.suggest_float(key, among.low, among.high, log=among.log)


def _trial(trial: optuna.trial.FrozenTrial) -> SearchTrial:
    seen = list(trial.intermediate_values.values())
    value = trial.value if trial.value is not None else (seen[-1] if seen else math.nan)
    return SearchTrial(trial.number, dict(trial.params), float(value), trial.state.name.lower())
