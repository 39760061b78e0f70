"""The settings: one frozen tree, built once from defaults, a TOML file and the environment, and validated by pydantic.

Sources, the lowest first: the defaults below; the state file of the local services (only for commands that name it, and only
when no other source sets `kafka.bootstrap` or `redis.url`); the TOML file (`MILLRACE_CONFIG`, else `./millrace.toml` if it
exists); the variables `MILLRACE_<SECTION>_<KEY>`. One `ConfigError` lists every problem. No other module reads the environment;
only `cli`, `app` and `wiring` receive `Settings`, and the modules below them take plain values. Secrets print as stars. Durations
are in milliseconds. The text below a setting is its documentation in docs/configuration.md.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from stream_app.config_sources import read_sources, variable
from stream_app.errors import ConfigError
from stream_app.reporting.validation_errors import bounds_of, masked, model_fields, problem_lines

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

DEVELOPMENT_ID_KEY: Final = "development-only-key"
_NAME = r"[A-Za-z0-9._-]"  # Kafka's rule for names of topics and groups; also safe in keys and metrics
_BOOTSTRAP = r"[^\s,:\[\]]+:\d{1,5}(,[^\s,:\[\]]+:\d{1,5})*"
_HOST = r"(\[[^\[\]@/?#\s]+\]|[^\[\]@/?#\s,:]*)(:\d{1,5})?"
_REDIS_URL = re.compile(
    rf"(rediss?://([^\[\]/?#\s]*@)?{_HOST}(,{_HOST})*(/\d*)?|unix://([^\[\]/?#\s]*@)?/[^?#\s]+)(\?\w+=[^&#\s]*(&\w+=[^&#\s]*)*)?"
)
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, use_attribute_docstrings=True)


def _redis_url(url: str) -> str:
    if not _REDIS_URL.fullmatch(url):
        raise ValueError(
            "must be redis://user:password@host:port/database, rediss:// for TLS, or unix:///path?db=0; inside user and password "
            "write @ as %40, # as %23, / as %2F, ? as %3F, : as %3A, % as %25"
        )
    return url


@dataclass(frozen=True, slots=True, config=_STRICT)
class KafkaSettings:
    """The broker, the consumer group and the topics."""

    bootstrap: str = Field(default="127.0.0.1:9092", pattern=rf"^{_BOOTSTRAP}$")
    """Brokers to connect to first, `host:port`, comma separated."""
    group: str = Field(default="millrace", pattern=rf"^{_NAME}{{1,200}}$")
    """Consumer group of the workers."""
    partitions: int = Field(default=8, ge=1, le=1024)
    """Partitions of every topic, the same for all: one worker owns partition p of all source topics. Stored state depends on it,
    so choose it once."""
    session_timeout_ms: int = Field(default=10_000, ge=6_000, le=1_800_000)
    """A worker without a heartbeat for so long loses its partitions. Brokers refuse less than 6 s by default."""
    client_api_version: str = Field(default="", pattern=r"^(\d+(\.\d+){1,3})?$")
    """Version of Kafka's protocol, as `2.3`; empty: negotiate with the broker. The embedded broker needs `2.3`."""
    replication: int = Field(default=1, ge=1, le=16)
    """Replicas of each partition that `millrace topics create` makes."""
    topic_prefix: str = Field(default="", pattern=rf"^{_NAME}{{0,100}}$")
    """Prefix of every topic name, as `staging.`."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class RedisSettings:
    """The Redis that stores the state."""

    # not shown: it may hold a password
    url: Annotated[str, AfterValidator(_redis_url)] = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Server and database: `redis://`, `rediss://` (TLS) or `unix://`."""
    cluster: bool = False
    """Whether it is a Redis Cluster. Then `url` names some nodes, `redis://host:port,host:port`; the cluster names the others."""
    prefix: str = Field(default="mr", pattern=rf"^{_NAME}{{1,32}}$")
    """First part of every key."""
    timeout_ms: int = Field(default=5_000, ge=10, le=30_000)
    """Timeout of a command; after it the batch is retried."""
    max_replicas: int = Field(default=32, ge=1, le=1_024)
    """Most replicas of other partition groups to read for one shared entity (device, item, ...). Where more groups hold the
    entity, its sums are scaled up from the replicas read. All workers need the same value, or they disagree."""
    answers_kept_ms: int = Field(default=120_000, ge=0, le=86_400_000)
    """How long published answers stay in Redis. An event that a producer sends twice within this time gets the first answer's
    content. They take as much memory as the answer topics grow in that time. 0: answers are not stored."""
    wait_replicas: int = Field(default=0, ge=0, le=16)
    """Replicas of the server that must acknowledge a batch's commits (`WAIT`) before its answers are published. A failover to one
    of them then loses no acknowledged write. 0: none."""
    wait_ms: int = Field(default=1_000, ge=1, le=30_000)
    """Timeout of one `WAIT`, which the worker repeats. After a minute it stops, and publishes no answer of the batch."""

    def with_prefix(self, prefix: str) -> RedisSettings:
        """Return a copy with another prefix, which is not validated: `millrace replay --prefix` takes any text."""
        copied = copy.copy(self)
        object.__setattr__(copied, "prefix", prefix)
        return copied


@dataclass(frozen=True, slots=True, config=_STRICT)
class WorkerSettings:
    """The batches and the web port of one worker process."""

    batch_events: int = Field(default=2_048, ge=1, le=8_192)
    """Most events of a batch; only a backlog fills it. Higher: more throughput and more latency."""
    batch_deadline_ms: int = Field(default=0, ge=0, le=10_000)
    """How long an event may wait for its batch to fill. Larger batches cost less for each event and answer later. 0: a batch
    takes the events that wait at this moment."""
    in_flight: int = Field(default=3, ge=1, le=16)
    """Most batches between decoding and publishing at one time."""
    fetch_pause_ms: int = Field(default=20, ge=0, le=10_000)
    """How long the broker collects records before it answers a fetch (`fetch.max.wait.ms`)."""
    buffer_chunks: int = Field(default=1_024, ge=1, le=1_000_000)
    """Most fetched chunks in memory; at this limit the consumer pauses."""
    chunk_events: int = Field(default=256, ge=1, le=65_536)
    """Most events of one partition in a chunk."""
    web_port: int = Field(default=9_464, ge=0, le=65_535)
    """Port of `/metrics`, `/healthz` (live) and `/readyz` (ready); where it is taken, one of the next 31, which the log names.
    0 opens none."""
    web_host: str = Field(default="127.0.0.1", pattern=r"^[0-9A-Za-z.:-]{1,253}$")
    """Address that these pages listen on."""
    max_dead_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """The worker ends before it commits a batch if more than this share of the last 2,000 records of a topic (at least 100)
    are no valid events: a fault of a release then drains no topic into `dead-letters`. 0: no limit, so that a producer stops
    no worker. Replays have none."""
    folder: str = ""
    """Folder for files of the worker and of commands: of the running worker, fetched models, comparisons, the progress of
    imports. Empty: `.millrace` in the current folder, or a temporary folder where that cannot be written."""
    instance: str = Field(default="", pattern=rf"^{_NAME}{{0,64}}$")
    """Static member id in the consumer group: a worker that restarts with it within the session timeout keeps its partitions
    without a rebalance. Each worker needs its own. Empty: a dynamic member."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class ModelSettings:
    """The model, its engine and the registry."""

    path: str = Field(default="model/artifacts/demo", pattern=r"^.+$")
    """Folder with `model.onnx` and `manifest.json`."""
    engine: Literal["auto", "onnxruntime", "onnxruntime-cuda", "tensorrt", "none"] = "auto"
    """Engine that runs the model. `auto`: TensorRT where the library, a GPU and a plan for both exist, else ONNX Runtime on the
    GPU where possible, else on the CPU. `none`: no model, for measurements."""
    precision: Literal["", "fp32", "tf32", "fp16", "bf16", "int8"] = ""
    """Precision of the TensorRT plan; empty: the fastest plan of the artefact that fits the machine."""
    max_score_ms: int = Field(default=5_000, ge=0, le=600_000)
    """Time limit of the model for a batch. Beyond it the rules alone answer the batch and those after it, marked `degraded`,
    until the model is in time again. 0: no limit."""
    fraud_threshold: float = Field(default=-1.0, ge=-1.0, le=1.0)
    """Probability from which an event is an alert; negative: the threshold in the model's manifest."""
    registry: str = ""
    """Model registry that the worker follows (docs/models.md): a folder, or an object store as `s3://bucket/path`. Empty:
    `model.path` serves until the worker ends."""
    registry_poll_ms: int = Field(default=2_000, ge=100, le=3_600_000)
    """How often a worker looks at the registry."""
    gate_rows: int = Field(default=512, ge=1, le=100_000)
    """Recorded rows that a new champion must answer before it serves."""
    gate_fraud_delta: float = Field(default=0.05, ge=0.0, le=1.0)
    """A new champion is refused if its fraud probabilities differ by more than this on average."""
    gate_alert_flips: float = Field(default=0.02, ge=0.0, le=1.0)
    """A new champion is refused if more than this share of the rows is an alert for only one of the two."""
    gate_intent_flips: float = Field(default=0.5, ge=0.0, le=1.0)
    """A new champion is refused if the intent changes in more than this share of the rows."""
    gate_candidate_overlap: float = Field(default=0.0, ge=0.0, le=1.0)
    """A new champion is refused if it keeps less than this share of the old champion's candidates."""
    comparisons: str = ".millrace/comparisons"
    """Folder for the answers of challenger and shadow beside the champion's; empty: only metrics."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class FeaturesSettings:
    """Limits of event times, and the recording of features."""

    allowed_lateness_ms: int = Field(default=86_400_000, ge=0, le=30 * 86_400_000)
    """An event this much older than its user's newest one goes to `late-events` and changes no state."""
    future_skew_ms: int = Field(default=300_000, ge=0, le=366 * 86_400_000)
    """An event whose time is further than this ahead of its Kafka timestamp goes to `dead-letters`. An accepted event from the
    future moves all windows of its user, device, address ... forward: later events with the right time are out of order until
    that time comes. Windows have spare tiles for 5 minutes of it; with a higher limit short windows read too low, and one such
    event can silence the rules on them."""
    record: bool = False
    """Whether the worker writes the model's input for each event to the topic `features`, so that `millrace diff` can compare a
    replay with it. It costs throughput, and about 1 kB an event at the broker and in Redis."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class PrivacySettings:
    """The key that hides identifiers, and what fraud alerts tell of them."""

    id_key: SecretStr = Field(default=SecretStr(DEVELOPMENT_ID_KEY), min_length=16)
    """Secret key of the hash that turns identifiers into state keys; at least 16 characters. Another key means empty state. The
    default is for development only."""
    alert_entities: Literal["none", "digest", "raw"] = "digest"
    """What a fraud alert tells of its event's session, device, ip, payment instrument and shipping address. `digest`: keyed
    digests, which link alerts of the same device without naming it. `raw`: as the event had them. `none`: nothing."""


@dataclass(frozen=True, slots=True, config=_STRICT)
class Settings:
    """All sections.

    Attributes:
        origins: The source of each value that is no default, a file or a variable, by "section.key".
    """

    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    model: ModelSettings = ModelSettings()
    features: FeaturesSettings = FeaturesSettings()
    privacy: PrivacySettings = PrivacySettings()
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False, repr=False, init=False)

    def topic(self, name: str) -> str:
        """Return the name of a topic at the broker, with `kafka.topic_prefix`."""
        return self.kafka.topic_prefix + name


@dataclasses.dataclass(frozen=True, slots=True)
class SettingDoc:
    """A setting for the documentation; `key` is "section.name"."""

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
        file: TOML file that must exist; None: `MILLRACE_CONFIG`, else `./millrace.toml` if it exists.
        services_file: State file of the local services; it may be absent.

    Raises:
        ConfigError: Keys are unknown or values wrong; the message lists every problem with the fix.
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
    """Return all settings as variables, secrets in clear, so that a child process has the same settings."""
    return {variable(section, name): _text(value) for section, name, _, value in _items(settings)}


def child_environ(settings: Settings) -> dict[str, str]:
    """Return the environment of this process with all settings, for a child process."""
    return {**os.environ, **environ_from(settings)}


@contextmanager
def spark_environ(python: str, *, local: bool) -> Iterator[None]:
    """Set the variables of Spark's processes that are not set yet, while the context lasts.

    Args:
        python: The interpreter of its workers.
        local: Whether all of Spark runs on this machine. Then it uses the loopback address, whatever the machine's name resolves
            to (without it, executors of a local cluster never start).
    """
    variables = {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}
    if local:
        variables |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "127.0.0.1"}
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def describe(settings: Settings) -> str:
    """Return a line with the values that are no defaults and their sources; a second line warns of the development key."""
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
    """Return every setting with its variable, type, default, bounds and documentation, in order."""
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
