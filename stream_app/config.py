"""The settings: one frozen tree, built once from defaults, a TOML file and the environment, checked as a whole.

Order of precedence, lowest first: the defaults below; the local services' state file (only where a command asks for it,
and only when neither `kafka.bootstrap` nor `redis.url` is named elsewhere: who names one runs services of their own);
the TOML file (`MILLRACE_CONFIG`, else `./millrace.toml` if it is there); `MILLRACE_<SECTION>_<KEY>`. Everything that is
wrong is reported at once in one `ConfigError`. Nothing else reads the environment; only `cli`, `app` and `wiring`
receive `Settings`, and what lies below them gets plain values. Secrets print as stars. Durations are in milliseconds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from stream_app.config_sources import Secret, SettingRule, SourcedValues, masked, read_all
from stream_app.errors import ConfigError

__all__ = [
    "DEVELOPMENT_ID_KEY",
    "FeaturesSettings",
    "KafkaSettings",
    "ModelSettings",
    "PrivacySettings",
    "RedisSettings",
    "Secret",
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

T = TypeVar("T")

DEVELOPMENT_ID_KEY: Final = "development-only-key"
_NAME = r"[A-Za-z0-9._-]"  # what Kafka allows in topic and group names; also safe in keys and metrics
_BOOTSTRAP = r"[^\s,:\[\]]+:\d{1,5}(,[^\s,:\[\]]+:\d{1,5})*"


def _key(default: T, doc: str, rule: SettingRule | None = None, *, shown: bool = True) -> T:
    # A dataclass field with its documentation and bounds; typed as its value, which is what a type checker should see.
    return field(default=default, repr=shown, metadata={"doc": doc, "rule": rule or SettingRule()})


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the events come from and the answers go."""

    bootstrap: str = _key(
        "127.0.0.1:9092", "Brokers to connect to first, `host:port`, comma separated.", SettingRule(pattern=_BOOTSTRAP)
    )
    group: str = _key("millrace", "Consumer group of the workers.", SettingRule(pattern=rf"{_NAME}{{1,200}}"))
    partitions: int = _key(
        8,
        "Partitions of every topic, the same for all; one worker owns partition p of all sources. State is bound to "
        "it: choose it once.",
        SettingRule(1, 1024),
    )
    session_timeout_ms: int = _key(
        10_000,
        "A worker that is silent for so long loses its partitions. Brokers refuse less than 6 s by default.",
        SettingRule(6_000, 1_800_000),
    )
    client_api_version: str = _key(
        "",
        "Protocol version to speak, as `2.3`; empty: ask the broker. The embedded broker needs `2.3`.",
        SettingRule(pattern=r"(\d+(\.\d+){1,3})?"),
    )
    replication: int = _key(1, "Replicas of each partition that `millrace topics create` makes.", SettingRule(1, 16))
    topic_prefix: str = _key("", "Put before every topic name, as `staging.`.", SettingRule(pattern=rf"{_NAME}{{0,100}}"))


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where the state lives."""

    url: str = _key(
        "redis://127.0.0.1:6379/0",
        "Server and database: `redis://`, `rediss://` (TLS) or `unix://`.",
        SettingRule(pattern=r"(rediss?|unix)://\S+"),
        shown=False,  # it may hold a password
    )
    cluster: bool = _key(
        False,
        "Whether it is a Redis Cluster. Then `url` names some of its nodes, `redis://host:port,host:port`; it tells the others.",
    )
    prefix: str = _key("mr", "First part of every key.", SettingRule(pattern=rf"{_NAME}{{1,32}}"))
    timeout_ms: int = _key(5_000, "How long to wait for an answer before the batch is tried again.", SettingRule(10, 30_000))
    max_replicas: int = _key(
        32,
        "Most replicas of other partition groups that are read for one shared entity (device, item, ...). More groups hold a "
        "popular one: its sums are then scaled up from those read. The same for all workers, or they disagree.",
        SettingRule(1, 1_024),
    )
    answers_kept_ms: int = _key(
        120_000,
        "How long published answers stay in Redis, for an event that a producer sends twice: it gets the first answer's content. "
        "They cost as much memory as the topics of answers grow in that time. 0: not kept.",
        SettingRule(0, 86_400_000),
    )
    wait_replicas: int = _key(
        0,
        "How many copies of the server must have a batch's commits (`WAIT`) before its answers are published. A failover to one "
        "of them then loses nothing that was acknowledged. 0: none.",
        SettingRule(0, 16),
    )
    wait_ms: int = _key(
        1_000,
        "How long those copies may take before they are asked again. After a minute of this the worker stops; nothing of the "
        "batch is published.",
        SettingRule(1, 30_000),
    )


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker process batches its work."""

    batch_events: int = _key(
        2_048,
        "Most events scored in one step, reached under a backlog only. More: faster, but later answers.",
        SettingRule(1, 8_192),
    )
    batch_deadline_ms: int = _key(
        0,
        "How long an event may wait in the worker for others to share its batch with, which closes then, or when it is full. "
        "Larger batches cost less for each event and answer later. 0: what waits goes at once.",
        SettingRule(0, 10_000),
    )
    in_flight: int = _key(3, "Batches between decoding and publishing at one time.", SettingRule(1, 16))
    fetch_pause_ms: int = _key(20, "How long the broker gathers records before it answers a fetch.", SettingRule(0, 10_000))
    buffer_chunks: int = _key(1_024, "Fetched chunks that may wait in memory; then fetching stops.", SettingRule(1, 1_000_000))
    chunk_events: int = _key(256, "Most events of one partition handed over at once.", SettingRule(1, 65_536))
    web_port: int = _key(0, "Port of `/metrics` and `/healthz`; 0 opens none.", SettingRule(0, 65_535))
    web_host: str = _key(
        "127.0.0.1", "Address that `/metrics` and `/healthz` listen on.", SettingRule(pattern=r"[0-9A-Za-z.:-]{1,253}")
    )
    instance: str = _key(
        "",
        "Static member id in the consumer group: a worker that comes back under it within the session timeout gets its "
        "partitions back without a rebalance. No two workers may share one. Empty: a dynamic member.",
        SettingRule(pattern=rf"{_NAME}{{0,64}}"),
    )


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model scores, and on what."""

    path: str = _key("model/artifacts/demo", "Folder with `model.onnx` and `manifest.json`.", SettingRule(pattern=r".+"))
    engine: str = _key(
        "auto",
        "What runs it. `auto`: TensorRT where library, GPU and a plan for both are there, else ONNX Runtime on the GPU where "
        "that can, else on the CPU. `none`: no model, for measurements.",
        SettingRule(choices=("auto", "onnxruntime", "onnxruntime-cuda", "tensorrt", "none")),
    )
    precision: str = _key(
        "",
        "Which of an artefact's TensorRT plans to take; empty: the fastest that fits the machine.",
        SettingRule(choices=("", "fp32", "tf32", "fp16", "bf16", "int8")),
    )
    max_score_ms: int = _key(
        5_000,
        "How long the model may take for a batch. After that the batch is answered by rules alone, marked `degraded`, and so are "
        "those after it until the model answers in time again. 0: as long as it takes.",
        SettingRule(0, 600_000),
    )
    fraud_threshold: float = _key(
        -1.0, "Probability from which an event is an alert; negative: the one in the model's manifest.", SettingRule(-1.0, 1.0)
    )
    registry: str = _key(
        "",
        "Model registry that the worker follows (docs/models.md): a folder, or an object store as `s3://bucket/path`. Empty: "
        "`model.path` serves until the worker ends.",
    )
    registry_poll_ms: int = _key(2_000, "How often a worker looks at the registry.", SettingRule(100, 3_600_000))
    gate_rows: int = _key(512, "How many recorded rows a new champion answers before it is let in.", SettingRule(1, 100_000))
    gate_fraud_delta: float = _key(
        0.05, "A new champion is refused if its fraud probabilities differ by more than this in the mean.", SettingRule(0.0, 1.0)
    )
    gate_alert_flips: float = _key(
        0.02,
        "A new champion is refused if more than this share of the rows is an alert for only one of the two.",
        SettingRule(0.0, 1.0),
    )
    gate_intent_flips: float = _key(
        0.5, "A new champion is refused if more than this share of the rows gets another intent.", SettingRule(0.0, 1.0)
    )
    gate_candidate_overlap: float = _key(
        0.0,
        "A new champion is refused if less than this share of the old one's candidates is among its own.",
        SettingRule(0.0, 1.0),
    )
    comparisons: str = _key(
        ".millrace/comparisons",
        "Folder where a worker writes what challenger and shadow say beside the champion; empty: only metrics.",
    )


@dataclass(frozen=True, slots=True)
class FeaturesSettings:
    """Which event times still count."""

    allowed_lateness_ms: int = _key(
        86_400_000,
        "An event this much older than its user's newest one goes to `late-events` and changes nothing.",
        SettingRule(0, 30 * 86_400_000),
    )
    future_skew_ms: int = _key(
        300_000,
        "An event whose time is further than this ahead of its Kafka timestamp goes to `dead-letters`. One that is ahead "
        "moves all windows of its user, device, address ... with it: what comes after it with the right time is then out "
        "of order until that time has come. Windows keep spare tiles for 5 minutes of that; above, short windows read too "
        "low, and one event can keep rules on them quiet.",
        SettingRule(0, 366 * 86_400_000),
    )
    record: bool = _key(
        False,
        "Whether the worker writes what the model saw of each event to the topic `features`, so that a replay can be compared "
        "with it (`millrace diff`). It costs speed, and about 1 kB an event at the broker and in Redis.",
    )


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """How identifiers are hidden."""

    id_key: Secret = _key(  # noqa: RUF009 (a field, and its default is immutable)
        Secret(DEVELOPMENT_ID_KEY),
        "Key of the hash that turns identifiers into state keys; at least 16 characters. A new key starts with empty "
        "state. The default is for development only.",
        SettingRule(pattern=r"[\s\S]{16,}"),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All sections, and where each value came from (`origins`: "kafka.bootstrap" -> "default", a file, a variable)."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    features: FeaturesSettings = field(default_factory=FeaturesSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def topic(self, name: str) -> str:
        """Return the topic's name at the broker: `name` with `kafka.topic_prefix` before it."""
        return self.kafka.topic_prefix + name


@dataclass(frozen=True, slots=True)
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
    found, problems = read_all(os.environ if environ is None else environ, file, services_file, _rules())
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        msg = f"the settings have {count}:\n" + "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigError(msg)
    return _settings_from(found)


def environ_from(settings: Settings) -> dict[str, str]:
    """Return all settings as variables, secrets in clear, so that a child process gets the very same tree."""
    return {
        _env_name(section, item.name): value.reveal() if isinstance(value, Secret) else _text(value)
        for section, item, value in _items(settings)
    }


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
    for section, item, value in _items(settings):
        key = f"{section}.{item.name}"
        origin = settings.origins.get(key, "default")
        if origin != "default" or key in always:
            parts.append(f"{key}={masked(_text(value))} ({origin})")
    line = "millrace: " + ", ".join(parts) + "; all else by default"
    if settings.privacy.id_key.reveal() == DEVELOPMENT_ID_KEY:
        line += (
            "\nmillrace: privacy.id_key is the public development key: THIS IS NOT FOR PRODUCTION; set MILLRACE_PRIVACY_ID_KEY"
        )
    return line


def setting_docs() -> list[SettingDoc]:
    """Return every setting with its variable, type, default, bounds and meaning, in order."""
    return [
        SettingDoc(
            f"{section}.{item.name}",
            _env_name(section, item.name),
            "secret" if isinstance(value, Secret) else type(value).__name__,
            DEVELOPMENT_ID_KEY if isinstance(value, Secret) else _text(value),
            item.metadata["rule"].text(),
            item.metadata["doc"],
        )
        for section, item, value in _items(Settings())
    ]


def _items(settings: Settings) -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    for section in dataclasses.fields(settings):
        if section.name != "origins":
            tree = getattr(settings, section.name)
            for item in dataclasses.fields(tree):
                yield section.name, item, getattr(tree, item.name)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _env_name(section: str, name: str) -> str:
    return f"MILLRACE_{section}_{name}".upper()


def _rules() -> dict[str, tuple[type, SettingRule]]:
    return {f"{section}.{item.name}": (type(value), item.metadata["rule"]) for section, item, value in _items(Settings())}


def _settings_from(found: Mapping[str, SourcedValues]) -> Settings:
    sections = {}
    for section in dataclasses.fields(Settings):
        if section.name != "origins":
            prefix = section.name + "."
            values = {key.removeprefix(prefix): item.value for key, item in found.items() if key.startswith(prefix)}
            sections[section.name] = dataclasses.replace(getattr(Settings(), section.name), **values)
    return Settings(**sections, origins={key: item.origin for key, item in found.items()})
