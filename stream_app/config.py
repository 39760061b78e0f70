"""The settings: one frozen tree, built once from defaults, a TOML file and the environment, checked as a whole.

Order of precedence, lowest first: the defaults below; the local services' state file (only where a command asks for it,
and only when neither `kafka.bootstrap` nor `redis.url` is named elsewhere: who names one runs services of their own);
the TOML file (`MILLRACE_CONFIG`, else `./millrace.toml` if it is there); `MILLRACE_<SECTION>_<KEY>`. Everything that is
wrong is reported at once in one `ConfigError`. Nothing else reads the environment; only `cli`, `app` and `wiring`
receive `Settings`, and what lies below them gets plain values. Secrets print as stars. Durations are in milliseconds.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pydantic import ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from stream_app.config_errors import bounds_of, masked, model_fields, problem_lines
from stream_app.config_sources import read_sources, variable
from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = [
    "DEVELOPMENT_ID_KEY",
    "FeaturesSettings",
    "KafkaSettings",
    "ModelSettings",
    "PrivacySettings",
    "RedisSettings",
    "SettingDoc",
    "Settings",
    "WorkerSettings",
    "child_environ",
    "describe",
    "environ_from",
    "load_settings",
    "setting_docs",
    "spark_environ",
]

DEVELOPMENT_ID_KEY: Final = "development-only-key"
_NAME = r"[A-Za-z0-9._-]"  # what Kafka allows in topic and group names; also safe in keys and metrics
_BOOTSTRAP = r"[^\s,:\[\]]+:\d{1,5}(,[^\s,:\[\]]+:\d{1,5})*"
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=_STRICT)
class KafkaSettings:
    """Where the events come from and the answers go."""

    bootstrap: str = Field(default="127.0.0.1:9092", pattern=rf"^{_BOOTSTRAP}$")
    """Brokers to connect to first, `host:port`, comma separated."""
    group: str = Field(default="millrace", pattern=rf"^{_NAME}{{1,200}}$")
    """Consumer group of the workers."""
    partitions: int = Field(default=8, ge=1, le=1024)
    """Partitions of every topic, the same for all; one worker owns partition p of all sources. State is bound to it: choose it
    once."""
    session_timeout_ms: int = Field(default=10_000, ge=6_000, le=1_800_000)
    """A worker that is silent for so long loses its partitions. Brokers refuse less than 6 s by default."""
    client_api_version: str = Field(default="", pattern=r"^(\d+(\.\d+){1,3})?$")
    """Protocol version to speak, as `2.3`; empty: ask the broker. The embedded broker needs `2.3`."""
    replication: int = Field(default=1, ge=1, le=16)
    """Replicas of each partition that `millrace topics create` makes."""
    topic_prefix: str = Field(default="", pattern=rf"^{_NAME}{{0,100}}$")
    """Put before every topic name, as `staging.`."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class RedisSettings:
    """Where the state lives."""

    url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://\S+$", repr=False)  # it may hold a password
    """Server and database: `redis://`, `rediss://` (TLS) or `unix://`."""
    cluster: bool = False
    """Whether it is a Redis Cluster. Then `url` names some of its nodes, `redis://host:port,host:port`; it tells the others."""
    prefix: str = Field(default="mr", pattern=rf"^{_NAME}{{1,32}}$")
    """First part of every key."""
    timeout_ms: int = Field(default=5_000, ge=10, le=30_000)
    """How long to wait for an answer before the batch is tried again."""
    max_replicas: int = Field(default=32, ge=1, le=1_024)
    """Most replicas of other partition groups that are read for one shared entity (device, item, ...). More groups hold a
    popular one: its sums are then scaled up from those read. The same for all workers, or they disagree."""
    answers_kept_ms: int = Field(default=120_000, ge=0, le=86_400_000)
    """How long published answers stay in Redis, for an event that a producer sends twice: it gets the first answer's content.
    They cost as much memory as the topics of answers grow in that time. 0: not kept."""
    wait_replicas: int = Field(default=0, ge=0, le=16)
    """How many copies of the server must have a batch's commits (`WAIT`) before its answers are published. A failover to one of
    them then loses nothing that was acknowledged. 0: none."""
    wait_ms: int = Field(default=1_000, ge=1, le=30_000)
    """How long those copies may take before they are asked again. After a minute of this the worker stops; nothing of the batch
    is published."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class WorkerSettings:
    """How one worker process batches its work."""

    batch_events: int = Field(default=2_048, ge=1, le=8_192)
    """Most events scored in one step, reached under a backlog only. More: faster, but later answers."""
    batch_deadline_ms: int = Field(default=0, ge=0, le=10_000)
    """How long an event may wait in the worker for others to share its batch with, which closes then, or when it is full.
    Larger batches cost less for each event and answer later. 0: what waits goes at once."""
    in_flight: int = Field(default=3, ge=1, le=16)
    """Batches between decoding and publishing at one time."""
    fetch_pause_ms: int = Field(default=20, ge=0, le=10_000)
    """How long the broker gathers records before it answers a fetch."""
    buffer_chunks: int = Field(default=1_024, ge=1, le=1_000_000)
    """Fetched chunks that may wait in memory; then fetching stops."""
    chunk_events: int = Field(default=256, ge=1, le=65_536)
    """Most events of one partition handed over at once."""
    web_port: int = Field(default=0, ge=0, le=65_535)
    """Port of `/metrics` and `/healthz`; 0 opens none."""
    web_host: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:-]{1,253}$")
    """Address that `/metrics` and `/healthz` listen on."""
    instance: str = Field(default="", pattern=rf"^{_NAME}{{0,64}}$")
    """Static member id in the consumer group: a worker that comes back under it within the session timeout gets its partitions
    back without a rebalance. No two workers may share one. Empty: a dynamic member."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class ModelSettings:
    """Which model scores, and on what."""

    path: str = Field(default="model/artifacts/demo", pattern=r"^.+$")
    """Folder with `model.onnx` and `manifest.json`."""
    engine: Literal["auto", "onnxruntime", "onnxruntime-cuda", "tensorrt", "none"] = "auto"
    """What runs it. `auto`: TensorRT where library, GPU and a plan for both are there, else ONNX Runtime on the GPU where that
    can, else on the CPU. `none`: no model, for measurements."""
    precision: Literal["", "fp32", "tf32", "fp16", "bf16", "int8"] = ""
    """Which of an artefact's TensorRT plans to take; empty: the fastest that fits the machine."""
    max_score_ms: int = Field(default=5_000, ge=0, le=600_000)
    """How long the model may take for a batch. After that the batch is answered by rules alone, marked `degraded`, and so are
    those after it until the model answers in time again. 0: as long as it takes."""
    fraud_threshold: float = Field(default=-1.0, ge=-1.0, le=1.0)
    """Probability from which an event is an alert; negative: the one in the model's manifest."""
    registry: str = ""
    """Model registry that the worker follows (docs/models.md): a folder, or an object store as `s3://bucket/path`. Empty:
    `model.path` serves until the worker ends."""
    registry_poll_ms: int = Field(default=2_000, ge=100, le=3_600_000)
    """How often a worker looks at the registry."""
    gate_rows: int = Field(default=512, ge=1, le=100_000)
    """How many recorded rows a new champion answers before it is let in."""
    gate_fraud_delta: float = Field(default=0.05, ge=0.0, le=1.0)
    """A new champion is refused if its fraud probabilities differ by more than this in the mean."""
    gate_alert_flips: float = Field(default=0.02, ge=0.0, le=1.0)
    """A new champion is refused if more than this share of the rows is an alert for only one of the two."""
    gate_intent_flips: float = Field(default=0.5, ge=0.0, le=1.0)
    """A new champion is refused if more than this share of the rows gets another intent."""
    gate_candidate_overlap: float = Field(default=0.0, ge=0.0, le=1.0)
    """A new champion is refused if less than this share of the old one's candidates is among its own."""
    comparisons: str = ".millrace/comparisons"
    """Folder where a worker writes what challenger and shadow say beside the champion; empty: only metrics."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class FeaturesSettings:
    """Which event times still count."""

    allowed_lateness_ms: int = Field(default=86_400_000, ge=0, le=30 * 86_400_000)
    """An event this much older than its user's newest one goes to `late-events` and changes nothing."""
    future_skew_ms: int = Field(default=300_000, ge=0, le=366 * 86_400_000)
    """An event whose time is further than this ahead of its Kafka timestamp goes to `dead-letters`. One that is ahead moves all
    windows of its user, device, address ... with it: what comes after it with the right time is then out of order until that
    time has come. Windows keep spare tiles for 5 minutes of that; above, short windows read too low, and one event can keep
    rules on them quiet."""
    record: bool = False
    """Whether the worker writes what the model saw of each event to the topic `features`, so that a replay can be compared with
    it (`millrace diff`). It costs speed, and about 1 kB an event at the broker and in Redis."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class PrivacySettings:
    """How identifiers are hidden."""

    id_key: SecretStr = Field(default=SecretStr(DEVELOPMENT_ID_KEY), min_length=16)
    """Key of the hash that turns identifiers into state keys; at least 16 characters. A new key starts with empty state. The
    default is for development only."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Settings:
    """All sections, and where each value came from (`origins`: "kafka.bootstrap" -> "default", a file, a variable)."""

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    features: FeaturesSettings = FeaturesSettings()
    privacy: PrivacySettings = PrivacySettings()
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False, init=False)

    def topic(self, name: str) -> str:
        """Return the topic's name at the broker: `name` with `kafka.topic_prefix` before it."""
        return self.kafka.topic_prefix + name


@dataclasses.dataclass(frozen=True, slots=True)
class SettingDoc:
    """One setting as the documentation shows it; `key` is "section.name"."""

    key: str
    env: str
    type: str
    default: str
    bounds: str
    doc: str


def load_settings(
    environ: Mapping[str, str] | None = None, file: Path | None = None, services_file: Path | None = None
) -> Settings:
    """Build the settings from defaults < `services_file` < TOML `file` < `environ`.

    Args:
        environ: Variables to read; None: the process's own.
        file: TOML file that must exist; None: the one `MILLRACE_CONFIG` names, else `./millrace.toml` if there is one.
        services_file: State file of local services to fall back on; None, or no such file: none.

    Raises:
        ConfigError: Anything is unknown, mistyped, or out of range; the message lists all of it, with the fix.
    """
    kinds = {(section, name): info.annotation for section, name, info, _ in _items(Settings())}
    sources = read_sources(os.environ if environ is None else environ, file, services_file, kinds)
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for source in sources:
        problems += source.problems
        try:
            _settings_from(source.tree)
        except ValidationError as err:
            problems += problem_lines(err, Settings, source.written, source.style)
        else:
            for section, table in source.tree.items():
                values.setdefault(section, {}).update(table)
                origins |= {f"{section}.{name}": source.origin(section, name) for name in table}
    if problems:  # raised here, not above: pydantic's error holds the values, and so perhaps a secret
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(f"the settings have {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{listed}")
    settings = _settings_from(values)
    object.__setattr__(settings, "origins", origins)
    return settings


def environ_from(settings: Settings) -> dict[str, str]:
    """Return all settings as variables, secrets in clear, so that a child process gets the very same tree."""
    return {variable(section, name): _text(value) for section, name, _, value in _items(settings)}


def child_environ(settings: Settings) -> dict[str, str]:
    """Return this process's own environment with all settings in it, for a child process."""
    return {**os.environ, **environ_from(settings)}


@contextmanager
def spark_environ(python: str, *, local: bool) -> Iterator[None]:
    """Set what Spark's processes read from the environment, where it is not set, as long as the context lasts.

    Args:
        python: The interpreter of its workers.
        local: Whether all of Spark runs on this machine: then it talks to itself by the loopback address, whatever the machine's
            name resolves to (executors of a local cluster never came up otherwise).
    """
    wanted = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    if local:
        wanted |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "127.0.0.1"}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def describe(settings: Settings) -> str:
    """Return what was chosen and where it came from; a development key announces itself on a second line."""
    always = ("kafka.bootstrap", "redis.url", "model.path")
    parts = []
    for section, name, info, value in _items(settings):
        key = f"{section}.{name}"
        origin = settings.origins.get(key, "default")
        if origin != "default" or key in always:
            text = str(value) if info.annotation is SecretStr else _text(value)
            parts.append(f"{key}={masked(text)} ({origin})")
    line = "millrace: " + ", ".join(parts) + "; all else by default"
    if settings.privacy.id_key.get_secret_value() == DEVELOPMENT_ID_KEY:
        line += (
            "\nmillrace: privacy.id_key is the public development key: THIS IS NOT FOR PRODUCTION; set MILLRACE_PRIVACY_ID_KEY"
        )
    return line


def setting_docs() -> list[SettingDoc]:
    """Return every setting with its variable, type, default, bounds and meaning, in order."""
    return [
        SettingDoc(
            f"{section}.{name}",
            variable(section, name),
            _type_name(info),
            _text(value),
            _bounds(info),
            " ".join((info.description or "").split()),
        )
        for section, name, info, value in _items(Settings())
    ]


def _settings_from(tree: Mapping[str, Any]) -> Settings:
    # As JSON: pydantic's strict mode takes objects for sections there, and a whole number where any number is allowed.
    return TypeAdapter(Settings).validate_json(json.dumps(tree, default=str))


def _items(settings: Settings) -> Iterator[tuple[str, str, FieldInfo, Any]]:
    """Yield section, key, field and value of every setting."""
    for section in model_fields(Settings):
        for name, info in model_fields(Settings, [section]).items():
            yield section, name, info, getattr(getattr(settings, section), name)


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(info: FieldInfo) -> str:
    names = {SecretStr: "secret", bool: "bool", int: "int", float: "float"}
    return next((name for kind, name in names.items() if info.annotation is kind), "str")


def _bounds(info: FieldInfo) -> str:
    low, high = bounds_of(info)
    return f"{low} to {high}" if low is not None else " \\| ".join(f"`{choice}`" for choice in get_args(info.annotation))
