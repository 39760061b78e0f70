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
from stream_app.errors import ConfigError
from stream_app.reporting.validation_errors import closest, problem_lines

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
    """The training loop.

    Attributes:
        tasks: names of the declared tasks to train; empty: all.
        seed: seed of initial weights, of the order of batches, and of every random choice.
        epochs: greatest number of passes; training ends after `patience` passes without improvement.
        stop_on: `loss`: each task's validation loss relative to its first epoch; `metric`: each task's metric.
        batch: rows of a step, of all processes together.
        learning_rate: peak; it rises over the share `warm_up` of the steps and falls to zero over the rest (cosine).
        largest_gradient: norm to clip the gradient of a step at; 0: no clipping.
        balance: method that combines the tasks' losses, see `training.fit.balancing`: one of BALANCES, or `torchjd:<aggregator>`.
        max_norm_bound: greatest norm of one task's gradient on the shared parameters, with any balance; 0: no bound.
        dwa_temperature: for `dwa`: the higher, the more equal the weights.
        gradnorm_alpha: for `gradnorm`: strength of the push for slow tasks.
        gradnorm_rate: for `gradnorm`: learning rate of the weights.
        conflict_every: steps between two measurements of the cosine between the tasks' gradients; 0: never.
        full_softmax_items: up to this number of items retrieval uses a softmax over all, beyond it over those of the batch.
        spectral_start: whether item embeddings start as the leading singular vectors of the items' neighbourhoods, see
            `training.fit.spectral` (sequences).
        event_dropout: share of positions of a sequence to drop while training.
        sequence_crop: share of sequences to crop to a random number of their newest positions while training.
        text_word_dropout: share of tokens and n-grams to drop while training.
        distil: weight of a teacher's answers against the labels in the loss, see `training.fit.distillation`; 0: no teacher.
            Tasks of kind retrieval have no teacher.
        teacher_folds: folds of the training range; trees trained on the other folds answer a row.
        amp: whether matrix products on a GPU are in bfloat16; the CPU always computes in float32.
        device: `auto`: a GPU where there is one.
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
    """The evaluation after training.

    Attributes:
        protocol: protocol of `training.evaluation.evaluate`; empty: that of the source.
        metrics: names to report; empty: all.
        alert_precision: lowest precision of fraud alerts on the validation range of each segment; it determines the threshold.
        neighbour_weight: weight of the log of the items' neighbourhood beside the network's scores, see
            `training.evaluation.neighbours` (retrieval over sequences); 0: the network alone.
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
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low}: a range in the log begins above 0")
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SearchOptions:
    """The search for better values (`python -m training search`).

    Attributes:
        trials: greatest number of trainings.
        seconds: time after which no further training starts; 0: no limit.
        task: task whose metric on the validation range decides; empty: the mean of all tasks' metrics.
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
        """Return a copy with other values, by key such as `training.epochs`; text is parsed as TOML, or used as it is."""
        return config_from_tree(_merged(self.tree(), changes), self.name)

    def chosen_tasks(self, declared: tuple[Task, ...]) -> tuple[Task, ...]:
        """Return the tasks to train: the tasks of `declared` that [training] names, with the changes of [tasks.<name>].

        Raises:
            ConfigError: A task that the data set does not declare.
        """
        known = {task.name: task for task in declared}
        chosen = self.training.tasks or tuple(known)
        problems = [
            f"{where}: {name}: the data set has no such task; {closest(name, known)}"
            for where, names in (("training.tasks", chosen), ("tasks", self.tasks))
            for name in names
            if name not in known
        ]
        problems += [
            f"training.tasks: {name}: is given {known[name].given}, which is not trained; name {known[name].given} too"
            for name in chosen
            if name in known and known[name].given and known[name].given not in chosen
        ]
        if problems:
            raise _refusal(self.name, problems)
        return tuple(replace(task, **self.tasks.get(task.name, {})) for task in declared if task.name in chosen)


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
        changes: values instead of the file's, by key such as `training.epochs`; text is parsed as TOML, or used as it is.

    Raises:
        ConfigError: No such file, or wrong keys or values; the message lists them all.
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
        ConfigError: Keys or values are wrong; the message lists them all.
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
        source=tree.get("source", {}),  # unchanged: `training.data.sources` reads dates too
    )


def _refusal(name: str, problems: list[str]) -> ConfigError:
    return ConfigError(f"The configuration {name} is wrong:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tree` with `changes`, by dotted key; text is parsed as a TOML value, or used as it is."""
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
