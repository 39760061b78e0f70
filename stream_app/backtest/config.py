"""The configuration of a backtest, a TOML file: the log, the contenders, the protocol and the costs; see `docs/backtest.md`.

One `ConfigError` lists every contradiction. Paths are relative to the folder that the command runs in; a packaged rules
file has a name without a folder.
"""

from __future__ import annotations

import math
import tomllib
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from stream_app.errors import ConfigError

TASKS: Final = ("fraud", "intent", "next_action", "candidates")
DAY_MS: Final = 86_400_000
_FOLDER: Final = "configs"


class EvaluationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The evaluated events, and the maturity of their labels.

    Attributes:
        begin: first evaluated moment (`from` in the file): a date or a time, UTC without a zone.
        end: first moment after the evaluation (`to`).
        tasks: evaluated tasks, of TASKS.
        daily_budget: users (cards) that the fraud team can review in a day.
        maturity_days: where only frauds have labels, an event this old without one counts as honest; None: the longest delay of
            a label in the log.
        leave_out_known: whether a day excludes users with a fraud known at its beginning.
        known_days: days before `begin` whose frauds count as known.
        session_gap_minutes: a longer pause ends a session without an id (intent, next_action, candidates).
        new_item_days: an item first seen less than this before the event is new (candidates).
    """

    begin: Any = msgspec.field(name="from")
    end: Any = msgspec.field(name="to")
    tasks: tuple[str, ...] = ("fraud",)
    daily_budget: int = 100
    maturity_days: float | None = None
    leave_out_known: bool = False
    known_days: int = 14
    session_gap_minutes: float = 30.0
    new_item_days: float = 1.0

    @property
    def begin_ms(self) -> int:
        """First evaluated moment, epoch ms."""
        return _epoch_ms(self.begin)

    @property
    def end_ms(self) -> int:
        """First moment after the evaluation, epoch ms."""
        return _epoch_ms(self.end)


class Costs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Costs of decisions, in the currency of the events' amounts.

    Attributes:
        review: cost of reviewing one alert.
        false_alarm: cost of an alert for an honest customer, beside the review.
        missed_share: lost share of a missed fraud's amount.
        missed: cost of a missed fraud beside its amount (fees of a chargeback).
    """

    review: float = 0.0
    false_alarm: float = 0.0
    missed_share: float = 1.0
    missed: float = 0.0


class ContenderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A contender (`[candidates.<name>]`).

    Attributes:
        kind: `model` an artefact's folder; `trees` a model file of LightGBM; `rules` a file of rules; `feature` one feature's
            value; `scores` a file of external scores by event id; `blend` the weighted mean of other candidates' scores, in
            log-odds.
        path: path of the artefact, the trees, the rules or the scores; `shipped`: the worker's rules.
        feature: name of the feature.
        low: whether low values are suspicious (`feature`).
        of: names of other candidates (`blend`).
        weights: one weight for each of `of`; empty: equal weights.
        without: features to set to their medians, patterns such as `device_*` (`model`): an ablation.
        catalogue: `module:NAME` of its feature catalogue; empty: the worker's.
        threshold: score from which an event is an alert; None: the model's, for rules the lowest that fires, else by budget.
        adapt: `budget`: each day uses the threshold that would have spent the daily budget over the preceding `lookback_days`;
            `precision`: the lowest threshold with this precision on `lookback_days` of events with mature labels.
        precision: see `adapt`.
        lookback_days: see `adapt`.
        note: text for the report.
    """

    kind: Literal["model", "trees", "rules", "feature", "scores", "blend"]
    path: str = ""
    feature: str = ""
    low: bool = False
    of: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    without: tuple[str, ...] = ()
    catalogue: str = ""
    threshold: float | None = None
    adapt: Literal["", "budget", "precision"] = ""
    precision: float = 0.8
    lookback_days: int = 14
    note: str = ""


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Segments of the events for counts of false positives: by `feature`, split at `edges`; or by `field` of the event.

    A value on an edge belongs to the upper segment.
    """

    feature: str = ""
    edges: tuple[float, ...] = ()
    field: str = ""


class BacktestConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole backtest.

    Attributes:
        judge: the evaluation.
        candidates: contenders by name; the others are compared with the first one, or with `against`.
        data: files, folders or patterns of the log; the command line may name others.
        mapping: a packaged mapping or a TOML file; empty: JSON lines.
        costs: see `Costs`.
        against: see `candidates`.
        draws: samples of the bootstrap.
        seed: seed of the bootstrap.
        segments: segments by name.
        published: published figures for comparison: name -> metric -> value.
        name: name of the report.
    """

    judge: EvaluationConfig
    candidates: dict[str, ContenderConfig]
    data: tuple[str, ...] = ()
    mapping: str = ""
    costs: Costs = Costs()
    against: str = ""
    draws: int = 500
    seed: int = 1
    segments: dict[str, Segment] = {}
    published: dict[str, dict[str, float]] = {}
    name: str = ""


def packaged_configs() -> list[str]:
    """Return the names of the configurations that come with Millrace."""
    folder = resources.files("stream_app.backtest") / _FOLDER
    names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in names if not name.startswith("rules-"))


def packaged_file(path: str) -> Path:
    """Return the file of this path, or, if it does not exist and the path has no folder, the packaged file."""
    own = Path(path)
    packaged = resources.files("stream_app.backtest") / _FOLDER / path
    return Path(str(packaged)) if own.name == path and not own.exists() and packaged.is_file() else own


def load_config(name_or_file: str) -> BacktestConfig:
    """Read and check a packaged configuration by name, or one from a file.

    Raises:
        ConfigError: The configuration is absent or wrong.
    """
    path = packaged_file(f"{name_or_file}.toml") if name_or_file in packaged_configs() else Path(name_or_file)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        config = msgspec.convert({"name": path.stem, **tree}, BacktestConfig, strict=False)
    except OSError as err:
        known = ", ".join(packaged_configs())
        raise ConfigError(f"no backtest {name_or_file!r}: neither a packaged one ({known}) nor a file ({err.strerror})") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise ConfigError(f"the backtest {path} is wrong: {err}. The format is described in docs/backtest.md") from err
    problems = problems_of(config)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"the backtest {path} is wrong:\n{listed}\nThe format is described in docs/backtest.md")
    return config


def problems_of(config: BacktestConfig) -> list[str]:
    """Return the contradictions of a configuration, one sentence each."""
    judge, problems = config.judge, []
    try:
        if judge.begin_ms >= judge.end_ms:
            problems.append(f"[judge] from {judge.begin} is not before to {judge.end}")
    except (ValueError, OverflowError) as err:
        problems.append(f"[judge] from and to are dates, such as 2018-08-08: {err}")
    unknown = [task for task in judge.tasks if task not in TASKS]
    if unknown or not judge.tasks:
        problems.append(f"[judge] tasks {', '.join(unknown) or 'is empty'}: known are {', '.join(TASKS)}")
    if judge.daily_budget < 1 or config.draws < 2 or judge.known_days < 0 or judge.session_gap_minutes <= 0:
        problems.append("daily_budget is at least 1, draws at least 2, known_days at least 0, session_gap_minutes more than 0")
    if not config.candidates:
        problems.append("there is no [candidates.<name>]: define at least one")
    if config.against and config.against not in config.candidates:
        problems.append(f"against {config.against!r} is no candidate; they are {', '.join(config.candidates)}")
    costs = msgspec.structs.astuple(config.costs)
    if not all(math.isfinite(cost) and cost >= 0 for cost in costs):
        problems.append("[costs] are not negative")
    for name, candidate in config.candidates.items():
        problems += [f"candidate {name!r}: {problem}" for problem in _candidate_problems(candidate, config)]
    for name, segment in config.segments.items():
        if bool(segment.feature) == bool(segment.field):
            problems.append(f"segment {name!r}: give either feature and edges, or field")
        if segment.feature and list(segment.edges) != sorted(set(segment.edges)):
            problems.append(f"segment {name!r}: edges rise")
    return problems


def _candidate_problems(candidate: ContenderConfig, config: BacktestConfig) -> list[str]:
    problems, kind = [], candidate.kind
    if kind in ("model", "trees", "rules", "scores") and not candidate.path:
        problems.append(f"kind {kind} has a path")
    if kind == "feature" and not candidate.feature:
        problems.append("kind feature names a feature")
    if kind == "blend":
        unknown = [name for name in candidate.of if name not in config.candidates or config.candidates[name].kind == "blend"]
        if len(candidate.of) < 2 or unknown:
            problems.append(f"kind blend is of two or more other candidates, no blends; {', '.join(unknown) or 'there are less'}")
        if candidate.weights and len(candidate.weights) != len(candidate.of):
            problems.append(f"{len(candidate.weights)} weights for {len(candidate.of)} candidates")
    if candidate.threshold is not None and candidate.adapt:
        problems.append("threshold and adapt exclude each other")
    if not 0 < candidate.precision <= 1 or candidate.lookback_days < 1:
        problems.append("precision is in (0, 1], lookback_days at least 1")
    if candidate.without and kind != "model":
        problems.append("without is for models")
    if candidate.catalogue and kind in ("scores", "blend"):
        problems.append(f"kind {kind} reads no features, so it has no catalogue")
    return problems


def _epoch_ms(moment: Any) -> int:  # noqa: ANN401 (a value of a configuration)
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    parsed = moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1_000)
