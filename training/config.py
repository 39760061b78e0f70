"""The configuration of a training: with the data, the code and the library versions it decides the outcome. No torch here.

A configuration is a TOML file, of `training/configs` by its name or anywhere by its path:

    [network]        preset, and any field of `model.presets.NetworkShape`
    [tasks.<name>]   any field of `model.tasks.Task` but `name` and `kind`, in place of what the data set declares
    [training]       `TrainingOptions`
    [evaluation]     `EvaluationOptions`
    [search]         `SearchOptions`; `[search.ranges]` has one line for each value to search
    [source]         `kind`, and keys that `training.data.sources` reads

One `ConfigError` reports every mistake: key, value, what is allowed.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, create_model, model_validator
from pydantic.dataclasses import dataclass

from model.presets import PRESETS, NetworkShape
from model.tasks import Task
from stream_app.config_errors import closest, problem_lines
from stream_app.errors import ConfigError

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
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _balance(name: str) -> str:
    if name not in BALANCES and not name.startswith("torchjd:"):
        raise ValueError(f"no such balance; one of {', '.join(BALANCES)}, torchjd:<aggregator>")
    return name


def _preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"no such preset; {closest(name, PRESETS)}")
    return name


def _number(value: Any) -> float | int:  # noqa: ANN401 (what a file holds)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")  # noqa: TRY004 (pydantic collects ValueError)
    return value


def _searchable(key: str) -> str:
    if key.split(".", maxsplit=1)[0] not in {"network", "training", "tasks"}:
        raise ValueError("what can be searched begins with network., training. or tasks.<name>.")
    return key


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network: a preset of `model.presets`, and fields of its shape in place of the preset's."""

    preset: str = "demo"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> NetworkShape:
        """Return the shape."""
        return replace(PRESETS[self.preset], **self.overrides)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
    seed: int = Field(default=1, ge=0, le=2**31)
    epochs: int = Field(default=3, ge=1, le=10_000)
    patience: int = Field(default=2, ge=1, le=10_000)
    stop_on: Literal["loss", "metric"] = "loss"
    batch: int = Field(default=1_024, ge=2, le=1_000_000)
    learning_rate: float = Field(default=1.5e-3, ge=1e-8, le=10.0)
    weight_decay: float = Field(default=0.05, ge=0.0, le=10.0)
    warm_up: float = Field(default=0.05, ge=0.0, le=0.9)
    largest_gradient: float = Field(default=5.0, ge=0.0, le=1e6)
    balance: Annotated[str, AfterValidator(_balance)] = "fixed"
    max_norm_bound: float = Field(default=0.0, ge=0.0, le=1e6)
    dwa_temperature: float = Field(default=2.0, ge=0.01, le=1e3)
    gradnorm_alpha: float = Field(default=1.5, ge=0.0, le=100.0)
    gradnorm_rate: float = Field(default=0.025, ge=0.0, le=10.0)
    conflict_every: int = Field(default=50, ge=0, le=10**9)
    full_softmax_items: int = Field(default=0, ge=0, le=10**9)
    spectral_start: bool = False
    event_dropout: float = Field(default=0.0, ge=0.0, le=0.95)
    sequence_crop: float = Field(default=0.0, ge=0.0, le=1.0)
    text_word_dropout: float = Field(default=0.0, ge=0.0, le=0.95)
    distil: float = Field(default=0.0, ge=0.0, le=1.0)
    teacher_folds: int = Field(default=5, ge=2, le=100)
    amp: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every_s: float = Field(default=300.0, ge=0.0, le=1e9)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
    alert_precision: float = Field(default=0.97, ge=0.0, le=1.0)
    neighbour_weight: float = Field(default=0.0, ge=0.0, le=100.0)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SearchRange:
    """Values to search: one of `choices`, or between `low` and `high` (whole numbers if both are), evenly in the log if so."""

    low: Annotated[float | int, PlainValidator(_number)] = 0
    high: Annotated[float | int, PlainValidator(_number)] = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _is_a_range(self) -> SearchRange:
        if not self.choices and not self.low < self.high:
            raise ValueError(f"low = {self.low}, high = {self.high}: give low below high, or choices")
        if not self.choices and self.log and self.low <= 0:
            raise ValueError(f"low = {self.low}: a range in the log begins above 0")
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SearchOptions:
    """The search for better values (`python -m training search`).

    Attributes:
        trials: trainings at most.
        seconds: after which no further training begins; 0 for no limit.
        task: whose metric on the validation range decides; empty for the mean of all tasks' metrics.
        ranges: key of this file, such as `training.learning_rate` or `network.dropout`, -> its range.
    """

    trials: int = Field(default=20, ge=1, le=100_000)
    seconds: float = Field(default=0.0, ge=0.0, le=1e9)
    task: str = ""
    ranges: dict[Annotated[str, AfterValidator(_searchable)], SearchRange] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole configuration; `tree()` gives back what `config_from_tree` reads."""

    name: str
    network: NetworkOptions = field(default_factory=NetworkOptions)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    source: Mapping[str, Any] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """Return the sections as plain values, as TOML or JSON has them."""
        return {
            "network": {"preset": self.network.preset, **self.network.overrides},
            "tasks": {name: dict(values) for name, values in self.tasks.items()},
            "training": asdict(self.training),
            "evaluation": asdict(self.evaluation),
            "search": asdict(self.search),
            "source": dict(self.source),
        }

    def changed(self, changes: Mapping[str, Any]) -> TrainingConfig:
        """Return it with other values, by key such as `training.epochs`; text is read as TOML, or taken as it is."""
        return config_from_tree(_merged(self.tree(), changes), self.name)

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
        if problems:
            raise _refusal(self.name, problems)
        return tuple(replace(task, **self.tasks.get(task.name, {})) for task in declared if task.name in wanted)


def _partial(model: type, *without: str, **more: Any) -> type[BaseModel]:  # noqa: ANN401 (what pydantic's create_model takes)
    # A model of the fields of a dataclass, none of them required. `_changes` returns those that a file has.
    fields: dict[str, Any] = {name: (hint, None) for name, hint in get_type_hints(model).items() if name not in without}
    return create_model(f"{model.__name__}Changes", __config__=_STRICT, **{**fields, **more})


def _changes(values: BaseModel, *without: str) -> dict[str, Any]:
    return values.model_dump(exclude_unset=True, exclude=set(without))


_NetworkChanges: Any = _partial(NetworkShape, preset=(Annotated[str, AfterValidator(_preset)], "demo"))
_TaskChanges: Any = _partial(Task, "name", "kind")


class _ConfigFile(BaseModel):
    model_config = _STRICT

    network: _NetworkChanges = _NetworkChanges()
    tasks: dict[str, _TaskChanges] = {}
    training: TrainingOptions = TrainingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    search: SearchOptions = SearchOptions()
    source: dict[str, Any] = {}


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
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read as TOML: {err}") from err
    return config_from_tree(_merged(tree, changes or {}), path.stem)


def config_from_tree(tree: Mapping[str, Any], name: str) -> TrainingConfig:
    """Return the configuration of `tree`, sections by name.

    Raises:
        ConfigError: Anything in it is wrong; the message lists all of it.
    """
    try:
        # As JSON: pydantic's strict mode takes lists for tuples there, and a whole number where any number is allowed.
        file = _ConfigFile.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as err:
        raise _refusal(name, problem_lines(err, _ConfigFile, tree)) from None
    return TrainingConfig(
        name=name,
        network=NetworkOptions(preset=file.network.preset, overrides=_changes(file.network, "preset")),
        tasks={task: _changes(changes) for task, changes in file.tasks.items()},
        training=file.training,
        evaluation=file.evaluation,
        search=file.search,
        source=tree.get("source", {}),  # as it is: `training.data.sources` reads dates too
    )


def _refusal(name: str, problems: list[str]) -> ConfigError:
    return ConfigError(f"The configuration {name} is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tree` with `changes`, by dotted key; text among them is read as a TOML value, or taken as it is."""
    result = copy.deepcopy(dict(tree))
    for key, value in changes.items():
        *sections, name = key.split(".")
        table = result
        for section in sections:
            if not isinstance(table.get(section), dict):
                table[section] = {}
            table = table[section]
        table[name] = _parsed(value) if isinstance(value, str) else value
    return result


def _parsed(text: str) -> Any:  # noqa: ANN401 (a TOML value)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
