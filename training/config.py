"""Everything that decides the outcome of a training but the data, the code and the library versions. No torch here.

A configuration is a TOML file, of `training/configs` by its name or anywhere by its path:

    [network]        preset, and any field of `model.presets.NetworkShape`
    [tasks.<name>]   any field of `model.tasks.Task` but `name` and `kind`, in place of what the data set declares
    [training]       `TrainingOptions`
    [evaluation]     `EvaluationOptions`
    [search]         `SearchOptions`; `[search.ranges]` has one line for each value to search
    [source]         `kind`, and keys that `training.data.sources` reads

What is wrong is reported at once in one `ConfigError`: key, value, what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from model.presets import PRESETS, NetworkShape
from model.tasks import Task
from stream_app.errors import ConfigError
from training.config_reading import OptionRule, Reader, closest, read_file

__all__ = [
    "EvaluationOptions",
    "NetworkOptions",
    "SearchOptions",
    "SearchRange",
    "TrainingConfig",
    "TrainingOptions",
    "config_from_tree",
    "config_names",
    "load_config",
]

_FOLDER: Final = Path(__file__).parent / "configs"
BALANCES: Final = ("fixed", "uncertainty", "dwa", "gradnorm", "pcgrad")  # and `torchjd:<aggregator>`
_SHARE: Final = OptionRule(0.0, 0.95)
_OVERRIDABLE: Final = {name for name in (f.name for f in fields(Task)) if name not in {"name", "kind"}}


def _ruled(default: Any, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
    return field(default=default, metadata={"rule": OptionRule(low, high, choices)})


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network: a preset of `model.presets`, and fields of its shape in place of the preset's."""

    preset: str = "demo"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> NetworkShape:
        """Return the shape."""
        return replace(PRESETS[self.preset], **self.overrides)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How it is trained.

    Attributes:
        tasks: names of the tasks to train, of those the data set declares; empty for all.
        seed: of initial weights, of the order of batches, and of all that is drawn.
        epochs: at most so many passes; fewer when nothing gets better for `patience` of them.
        stop_on: `loss` looks at each task's validation loss against its first epoch, `metric` at each task's own metric.
        batch: rows a step, of all processes together.
        learning_rate: the highest; it rises over the first `warm_up` of all steps and falls to zero over the rest (cosine).
        largest_gradient: norm at which the gradient of a step is cut; 0 for never.
        balance: how the tasks' losses are brought together, see `training.fit.balancing`: one of BALANCES, or
            `torchjd:<aggregator>`.
        max_norm_bound: largest norm of one task's gradient on the shared parameters, with any balance; 0 for none.
        dwa_temperature: of `dwa`: the higher, the more equal the weights.
        gradnorm_alpha: of `gradnorm`: how strongly a task that learns slowly is pulled up.
        gradnorm_rate: of `gradnorm`: learning rate of the weights.
        conflict_every: steps between two measurements of the cosine between the tasks' gradients; 0 for never.
        full_softmax_items: retrieval is told from all items when there are at most so many, else from those of the batch.
        spectral_start: whether item embeddings begin as the leading singular vectors of the items' neighbourhoods, see
            `training.fit.spectral` (sequences).
        event_dropout: share of the positions of a sequence that are left out while training.
        sequence_crop: share of sequences that are cut to a random number of their newest positions while training.
        text_word_dropout: share of tokens and n-grams that are left out while training.
        distil: share of what is learnt that is a teacher's answer and not the label itself, see `training.fit.distillation`;
            0 = no teacher. Tasks of kind retrieval have none.
        teacher_folds: parts of the training range; a row is answered by trees that were grown on the other parts.
        amp: whether matrix products are in bfloat16 where there is a GPU; the CPU always computes in float32.
        device: `auto` takes a GPU where there is one.
        checkpoint_every_s: seconds between two checkpoints within an epoch; each epoch ends with one.
    """

    tasks: tuple[str, ...] = ()
    seed: int = _ruled(1, 0, 2**31)
    epochs: int = _ruled(3, 1, 10_000)
    patience: int = _ruled(2, 1, 10_000)
    stop_on: str = _ruled("loss", choices=("loss", "metric"))
    batch: int = _ruled(1_024, 2, 1_000_000)
    learning_rate: float = _ruled(1.5e-3, 1e-8, 10.0)
    weight_decay: float = _ruled(0.05, 0.0, 10.0)
    warm_up: float = _ruled(0.05, 0.0, 0.9)
    largest_gradient: float = _ruled(5.0, 0.0, 1e6)
    balance: str = "fixed"
    max_norm_bound: float = _ruled(0.0, 0.0, 1e6)
    dwa_temperature: float = _ruled(2.0, 0.01, 1e3)
    gradnorm_alpha: float = _ruled(1.5, 0.0, 100.0)
    gradnorm_rate: float = _ruled(0.025, 0.0, 10.0)
    conflict_every: int = _ruled(50, 0, 10**9)
    full_softmax_items: int = _ruled(0, 0, 10**9)
    spectral_start: bool = False
    event_dropout: float = field(default=0.0, metadata={"rule": _SHARE})
    sequence_crop: float = _ruled(0.0, 0.0, 1.0)
    text_word_dropout: float = field(default=0.0, metadata={"rule": _SHARE})
    distil: float = _ruled(0.0, 0.0, 1.0)
    teacher_folds: int = _ruled(5, 2, 100)
    amp: bool = True
    device: str = _ruled("auto", choices=("auto", "cpu", "cuda"))
    checkpoint_every_s: float = _ruled(300.0, 0.0, 1e9)


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How it is judged.

    Attributes:
        protocol: of `training.evaluation.evaluate`; empty for the one that the source brings.
        metrics: names to report; empty for all.
        alert_precision: least precision of fraud alerts on the validation range of each segment; decides the threshold.
        neighbour_weight: weight of the log of the items' neighbourhood beside the network's scores, see
            `training.evaluation.neighbours` (retrieval over sequences); 0 = the network alone.
    """

    protocol: str = ""
    metrics: tuple[str, ...] = ()
    alert_precision: float = _ruled(0.97, 0.0, 1.0)
    neighbour_weight: float = _ruled(0.0, 0.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class SearchRange:
    """Values to search: one of `choices`, or between `low` and `high` (whole numbers if both are), evenly in the log if so."""

    low: float | int = 0
    high: float | int = 0
    log: bool = False
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The search for better values (`python -m training search`).

    Attributes:
        trials: trainings at most.
        seconds: after which no further training begins; 0 for no limit.
        task: whose metric on the validation range decides; empty for the mean of all tasks' metrics.
        ranges: key of this file, such as `training.learning_rate` or `network.dropout`, -> its range.
    """

    trials: int = _ruled(20, 1, 100_000)
    seconds: float = _ruled(0.0, 0.0, 1e9)
    task: str = ""
    ranges: Mapping[str, SearchRange] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole configuration; `tree()` gives back what `config_from_tree` reads."""

    name: str
    network: NetworkOptions = NetworkOptions()
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    search: SearchOptions = SearchOptions()
    source: Mapping[str, Any] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """Return the sections as plain values, as TOML or JSON has them."""
        return {
            "network": {"preset": self.network.preset, **self.network.overrides},
            "tasks": {name: dict(values) for name, values in self.tasks.items()},
            "training": asdict(self.training),
            "evaluation": asdict(self.evaluation),
            "search": asdict(self.search) | {"ranges": {key: asdict(value) for key, value in self.search.ranges.items()}},
            "source": dict(self.source),
        }

    def changed(self, changes: Mapping[str, Any]) -> TrainingConfig:
        """Return it with other values, by key such as `training.epochs`; text is read as TOML, or taken as it is."""
        return config_from_tree(Reader.merged(self.tree(), changes), self.name)

    def chosen_tasks(self, declared: tuple[Task, ...]) -> tuple[Task, ...]:
        """Return the tasks to train: those of `declared` that [training] names, with what [tasks.<name>] says.

        Raises:
            ConfigError: A task that the data set does not declare.
        """
        known = {task.name: task for task in declared}
        wanted = self.training.tasks or tuple(known)
        problems = [
            f"{where}: {name}: the data set has no such task; {closest(name, known)}"
            for where, names in (("training.tasks", wanted), ("tasks", self.tasks))
            for name in names
            if name not in known
        ]
        problems += [
            f"training.tasks: {name}: is given {known[name].given}, which is not trained; name {known[name].given} too"
            for name in wanted
            if name in known and known[name].given and known[name].given not in wanted
        ]
        _refuse(problems, self.name)
        return tuple(replace(task, **self.tasks.get(task.name, {})) for task in declared if task.name in wanted)


def config_names() -> list[str]:
    """Return the names of the configurations that come with the program."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_config(name: str | Path, changes: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Read a configuration.

    Args:
        name: one of `config_names()`, or the path of a TOML file.
        changes: values in place of the file's, by key such as `training.epochs`; text is read as TOML, or taken as it is.

    Raises:
        ConfigError: No such file, or anything in it is wrong; the message lists all of it.
    """
    path = _FOLDER / f"{name}.toml" if str(name) in config_names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"{name}: no such configuration; give a TOML file, or one of {', '.join(config_names())}")
    return config_from_tree(Reader.merged(read_file(path), changes or {}), path.stem)


def config_from_tree(tree: Mapping[str, Any], name: str) -> TrainingConfig:
    """Return the configuration of `tree`, sections by name.

    Raises:
        ConfigError: Anything in it is wrong; the message lists all of it.
    """
    reader = Reader([])
    reader.sections(tree, [section.name for section in fields(TrainingConfig) if section.name != "name"])
    network = dict(reader.table(tree, "network"))
    preset = str(network.pop("preset", "demo"))
    if preset not in PRESETS:
        reader.problems.append(f"network.preset = {preset!r}: no such preset; {closest(preset, PRESETS)}")
    config = TrainingConfig(
        name=name,
        network=NetworkOptions(preset=preset, overrides=reader.values(NetworkShape, network, "network")),
        tasks={
            task: reader.values(Task, values, f"tasks.{task}", only=_OVERRIDABLE)
            for task, values in reader.tables(tree, "tasks").items()
        },
        training=TrainingOptions(**reader.values(TrainingOptions, reader.table(tree, "training"), "training")),
        evaluation=EvaluationOptions(**reader.values(EvaluationOptions, reader.table(tree, "evaluation"), "evaluation")),
        search=_search(reader, tree),
        source=reader.table(tree, "source"),
    )
    if config.training.balance not in BALANCES and not config.training.balance.startswith("torchjd:"):
        reader.problems.append(
            f"training.balance = {config.training.balance!r}: no such balance; one of {', '.join(BALANCES)}, torchjd:<aggregator>"
        )
    _refuse(reader.problems, name)
    return config


def _search(reader: Reader, tree: Mapping[str, Any]) -> SearchOptions:
    given = dict(reader.table(tree, "search"))
    ranges = reader.tables(given, "ranges", "search.ranges")
    given.pop("ranges", None)
    read = {}
    for key, values in ranges.items():
        found = SearchRange(**reader.values(SearchRange, values, f"search.ranges.{key}"))
        read[key] = found
        if not found.choices and not found.low < found.high:
            reader.problems.append(
                f"search.ranges.{key}: low = {found.low}, high = {found.high}: give low below high, or choices"
            )
        elif found.log and found.low <= 0:
            reader.problems.append(f"search.ranges.{key}: low = {found.low}: a range in the log begins above 0")
        if key.split(".")[0] not in {"network", "training", "tasks"}:
            reader.problems.append(f"search.ranges.{key}: what can be searched begins with network., training. or tasks.<name>.")
    return SearchOptions(**reader.values(SearchOptions, given, "search"), ranges=read)


def _refuse(problems: list[str], name: str) -> None:
    if problems:
        msg = f"The configuration {name} is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(msg)
