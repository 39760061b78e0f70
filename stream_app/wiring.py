"""Builds a worker's parts from the settings. Only this module chooses adapters; nothing runs here.

The ranker chain of a live worker, outside in; each part implements `stream_app.pipeline.Ranker` around the next:

    DegradingRanker     inference/degrade.py             answers by rules alone while the model fails or is too slow
    -> SwappableRanker  inference/registry/swap.py       with a registry: champion, challenger's users, shadow
    -> ModelRanker      inference/ranker.py              one model call, then the best items for each user vector
       -> Scorer        inference/engines/selection.py   TensorRT or ONNX Runtime CUDA inside FallbackScorer, which moves to
                                                         the CPU when the GPU is lost; or ONNX Runtime on the CPU

Without a registry the DegradingRanker calls the ModelRanker directly. With `model.engine = "none"` the ranker is a PriorRanker.
A replay (`build_ranker`) uses the ModelRanker alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_app.agents.handler import ScoringHandler
from stream_app.agents.options import AgentOptions
from stream_app.agents.ownership import OwnershipTracker
from stream_app.agents.publisher import Publisher
from stream_app.clock import Clock, SystemClock
from stream_app.codec.answers import AnswerEncoder
from stream_app.codec.decode import Decoder
from stream_app.config import ModelSettings, Settings
from stream_app.decision.alert_entities import entities_reader
from stream_app.decision.decide import Decider
from stream_app.decision.rules import SHIPPED_RULES, RuleSet
from stream_app.events import SOURCE_TOPICS
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.inference.degrade import DegradingRanker
from stream_app.inference.engines.selection import show_engine
from stream_app.inference.loading import RankerLoader
from stream_app.inference.ranker import ModelRanker, PriorRanker
from stream_app.inference.registry.registry_factory import open_registry
from stream_app.inference.registry.shadow import Comparer, ComparisonLog
from stream_app.inference.registry.swap import Serving, SwappableRanker
from stream_app.inference.registry.swap_follower import FollowOptions, ModelFollower, first_champion
from stream_app.inference.registry.swap_gate import GateLimits, Recorder
from stream_app.metrics import Metrics
from stream_app.outputs import OutputBuilder
from stream_app.pipeline import Pipeline, Ranker
from stream_app.privacy import Pseudonymizer
from stream_app.store.port import Store
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_store import RedisOptions, RedisStore
from stream_app.work_folder import work_folder


@dataclass(frozen=True, slots=True)
class Worker:
    """The parts of a worker that is ready to run."""

    options: AgentOptions
    handler: ScoringHandler
    background: Sequence[AbstractContextManager[Any]]  # to be entered while it runs


@dataclass(frozen=True, slots=True)
class _Models:
    """The ranker of a live worker, and the threads beside it."""

    ranker: Ranker
    background: Sequence[AbstractContextManager[Any]]


def build_engine(settings: Settings) -> FeatureEngine:
    """Build the feature engine over the shipped catalogue."""
    return FeatureEngine(CATALOGUE, allowed_lateness_ms=settings.features.allowed_lateness_ms)


def shared_kinds(engine: FeatureEngine) -> frozenset[str]:
    """Return the entity kinds with one replica for each partition group."""
    return frozenset(kind.name for kind in engine.kinds if kind.shared)


def build_store(settings: Settings, shared: frozenset[str]) -> Store:
    """Build the store that the settings choose; `shared`: entity kinds with one replica for each partition group.

    Raises:
        ConfigError: A cluster's URL names a database, or no host.
    """
    chosen = settings.redis
    options = RedisOptions(
        timeout_ms=chosen.timeout_ms,
        max_replicas=chosen.max_replicas,
        answers_kept_ms=chosen.answers_kept_ms,
        wait_replicas=chosen.wait_replicas,
        wait_ms=chosen.wait_ms,
    )
    adapter = RedisClusterStore if chosen.cluster else RedisStore
    return adapter(chosen.url, prefix=chosen.prefix, groups=settings.kafka.partitions, shared_kinds=shared, options=options)


def build_worker(settings: Settings) -> Worker:
    """Build everything a live worker needs.

    Raises:
        EngineNotHereError: The engine of the settings cannot run the model on this machine.
        ContractError: The model does not fit the catalogue, or its files are damaged.
    """
    engine = build_engine(settings)
    store = build_store(settings, shared_kinds(engine))
    metrics = Metrics()
    owner = f"{socket.gethostname()}-{os.getpid()}"
    models = _live_models(settings, engine, metrics, owner)
    handler = ScoringHandler(
        pipeline=build_pipeline(settings, engine, store, SystemClock(), metrics, models.ranker),
        ownership=OwnershipTracker(settings.kafka.partitions),
        publisher=Publisher(settings.kafka.bootstrap, topic_prefix=settings.kafka.topic_prefix, client_id=f"millrace-{owner}"),
        metrics=metrics,
        topic_prefix=settings.kafka.topic_prefix,
        owner=owner,
        max_dead_share=settings.worker.max_dead_share,
    )
    return Worker(agent_options(settings), handler, models.background)


def build_loader(settings: Settings, engine: FeatureEngine) -> RankerLoader:
    """Build the loader of model artefacts."""
    return RankerLoader(
        catalogue_hash=engine.catalogue_hash,
        feature_names=engine.feature_names,
        engine=settings.model.engine,
        precision=settings.model.precision,
        threshold=settings.model.fraud_threshold,
    )


def build_ranker(settings: Settings, engine: FeatureEngine, metrics: Metrics) -> Ranker:
    """Load the model of the settings (of a registry its current champion) for a replay, which keeps it or stops.

    Raises:
        ContractError: The model does not fit the catalogue, its files are damaged, or the engine cannot run it here.
    """
    return PriorRanker() if settings.model.engine == "none" else _first_model(settings, engine, metrics)


def _first_model(settings: Settings, engine: FeatureEngine, metrics: Metrics) -> ModelRanker:
    loader, model = build_loader(settings, engine), settings.model
    if model.registry:
        first = first_champion(open_registry(model.registry, SystemClock(), settings.worker.folder), loader, metrics)
    else:
        first = loader.load(Path(model.path), metrics)
    show_engine(first.scorer, metrics)
    return first


def _comparisons(settings: Settings) -> Path:
    """Return the folder of comparisons; the default one lies in the work folder, wherever that is."""
    chosen = settings.model.comparisons
    return work_folder(settings.worker.folder) / "comparisons" if chosen == ModelSettings().comparisons else Path(chosen)


def _live_models(settings: Settings, engine: FeatureEngine, metrics: Metrics, owner: str) -> _Models:
    """Build the ranker chain of a live worker; see the module's docstring."""
    model = settings.model
    if model.engine == "none":
        return _Models(PriorRanker(), ())
    first = _first_model(settings, engine, metrics)
    if not model.registry:
        return _Models(DegradingRanker(first, model.max_score_ms / 1000, metrics), ())
    recorder = Recorder(model.gate_rows)
    comparer = Comparer(ComparisonLog(_comparisons(settings) / f"{owner}.jsonl" if model.comparisons else None), metrics)
    ranker = SwappableRanker(Serving(first), recorder, comparer, metrics)
    options = FollowOptions(
        registry=open_registry(model.registry, SystemClock(), settings.worker.folder),
        loader=build_loader(settings, engine),
        recorder=recorder,
        limits=GateLimits(
            rows=model.gate_rows,
            fraud_delta=model.gate_fraud_delta,
            alert_flips=model.gate_alert_flips,
            intent_flips=model.gate_intent_flips,
            candidate_overlap=model.gate_candidate_overlap,
        ),
        worker=owner,
        poll_s=model.registry_poll_ms / 1000,
    )
    follower = ModelFollower(ranker, options, SystemClock(), metrics)
    return _Models(DegradingRanker(ranker, model.max_score_ms / 1000, metrics), (comparer, follower))


def build_pipeline(
    settings: Settings, engine: FeatureEngine, store: Store, clock: Clock, metrics: Metrics, ranker: Ranker | None = None
) -> Pipeline:
    """Build the pipeline over any store and clock; everything is compiled and warm when it returns.

    Args:
        settings: The settings.
        engine: The features.
        store: The state.
        clock: The time of decisions.
        metrics: The counters.
        ranker: The model; None: load the one of the settings.
    """
    names = engine.feature_names
    rules = RuleSet(SHIPPED_RULES, names)
    identity = Pseudonymizer(settings.privacy.id_key.get_secret_value().encode())
    engine.warm()
    return Pipeline(
        decoder=Decoder(future_skew_ms=settings.features.future_skew_ms),
        identity=identity,
        engine=engine,
        store=store,
        ranker=ranker if ranker is not None else build_ranker(settings, engine, metrics),
        decider=Decider(rules=rules, feature_names=names),
        outputs=OutputBuilder(
            encoder=AnswerEncoder(
                features_version=engine.catalogue_hash,
                entities_of=entities_reader(settings.privacy.alert_entities, identity),
            ),
            clock=clock,
            metrics=metrics,
            allowed_lateness_ms=engine.allowed_lateness_ms,
            records_features=settings.features.record,
        ),
        model_thread=ThreadPoolExecutor(1, thread_name_prefix="model"),
    )


def agent_options(settings: Settings) -> AgentOptions:
    """Build the options of the Faust side from the settings."""
    worker, kafka = settings.worker, settings.kafka
    return AgentOptions(
        bootstrap=kafka.bootstrap,
        group=kafka.group,
        topics=tuple(settings.topic(name) for name in SOURCE_TOPICS),
        broker_describes=not kafka.client_api_version,
        protocol=f"millrace:{settings.redis.prefix}:{kafka.topic_prefix}",
        instance=worker.instance,
        session_timeout_ms=kafka.session_timeout_ms,
        fetch_pause_ms=worker.fetch_pause_ms,
        chunk_events=worker.chunk_events,
        buffer_chunks=worker.buffer_chunks,
        batch_deadline_ms=worker.batch_deadline_ms,
        batch_events=worker.batch_events,
        in_flight=worker.in_flight,
        web_host=worker.web_host,
        web_port=worker.web_port,
        work_dir=work_folder(worker.folder) / f"worker-{socket.gethostname()}-{os.getpid()}",
    )
