"""Builds a worker's parts from the settings. The one place that chooses adapters; nothing here runs."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from stream_app.agents.handler import ScoringHandler
from stream_app.agents.options import AgentOptions
from stream_app.agents.publisher import Publisher
from stream_app.clock import Clock, SystemClock
from stream_app.codec.answers import AnswerEncoder
from stream_app.codec.decode import Decoder
from stream_app.codec.identity import Identity
from stream_app.config import Settings
from stream_app.decision.decide import Decider
from stream_app.decision.rules import SHIPPED_RULES, RuleSet
from stream_app.errors import ConfigError
from stream_app.events import SOURCE_TOPICS
from stream_app.features.catalog import CATALOGUE
from stream_app.features.engine import FeatureEngine
from stream_app.inference.artifact import check_catalogue, load_items
from stream_app.inference.candidates import CandidateIndex
from stream_app.inference.onnx_scorer import OnnxScorer
from stream_app.inference.ranker import ModelRanker, PriorRanker
from stream_app.metrics import Metrics
from stream_app.pipeline import Pipeline, Ranker
from stream_app.store.ledger import Ledger
from stream_app.store.port import Store
from stream_app.store.redis_cluster import RedisClusterStore
from stream_app.store.redis_store import RedisOptions, RedisStore

__all__ = ["WORK_ROOT", "Worker", "agent_options", "build_engine", "build_pipeline", "build_store", "build_worker"]

WORK_ROOT: Final = Path(".millrace")  # below the current folder; Faust wants one of its own
_CANDIDATES: Final = 20  # two screens of a phone


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, ready to run."""

    options: AgentOptions
    handler: ScoringHandler


def build_engine(settings: Settings) -> FeatureEngine:
    """Build the feature engine over the shipped catalogue."""
    return FeatureEngine(CATALOGUE, allowed_lateness_ms=settings.features.allowed_lateness_ms)


def shared_kinds(engine: FeatureEngine) -> frozenset[str]:
    """Names of the entity kinds that are kept as a replica a partition group."""
    return frozenset(kind.name for kind in engine.kinds if kind.shared)


def build_store(settings: Settings, shared: frozenset[str]) -> Store:
    """Build the store that the settings name; `shared`: entity kinds kept as a replica a partition group.

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
        ConfigError: An engine that is not here.
        ContractError: The model does not fit the catalogue, or its files are damaged.
    """
    engine = build_engine(settings)
    store = build_store(settings, shared_kinds(engine))
    metrics = Metrics()
    owner = f"{socket.gethostname()}-{os.getpid()}"
    handler = ScoringHandler(
        pipeline=build_pipeline(settings, engine, store, SystemClock(), metrics),
        store=store,
        ledger=Ledger(),
        publisher=Publisher(settings.kafka.bootstrap, topic_prefix=settings.kafka.topic_prefix, client_id=f"millrace-{owner}"),
        metrics=metrics,
        topic_prefix=settings.kafka.topic_prefix,
        owner=owner,
    )
    return Worker(agent_options(settings), handler)


def build_pipeline(settings: Settings, engine: FeatureEngine, store: Store, clock: Clock, metrics: Metrics) -> Pipeline:
    """Build the way of one event over any store and clock; everything is compiled and warm when it returns."""
    names = engine.feature_names
    rules = RuleSet(SHIPPED_RULES, names)
    engine.warm()
    ranker: Ranker
    if settings.model.engine == "none":
        ranker, version, threshold = PriorRanker(), "none", 2.0  # no probability reaches it
        medians, scales = np.zeros(len(names), np.float32), np.ones(len(names), np.float32)
    else:
        if settings.model.engine == "tensorrt":
            raise ConfigError(
                "model.engine is 'tensorrt', but this version runs models with ONNX Runtime "
                "only; set it to 'auto' or 'onnxruntime'"
            )
        folder = Path(settings.model.path)
        scorer = OnnxScorer(folder)
        manifest = scorer.manifest
        check_catalogue(manifest, engine.catalogue_hash, names)
        scorer.self_test()
        ranked = ModelRanker(scorer, CandidateIndex(*load_items(folder, manifest)), _CANDIDATES)
        ranked.warm()
        ranker, version = ranked, scorer.version
        threshold = settings.model.fraud_threshold if settings.model.fraud_threshold >= 0 else manifest.fraud_threshold
        medians = np.asarray(manifest.feature_medians, np.float32)
        scales = np.asarray(manifest.feature_scales, np.float32)
    return Pipeline(
        decoder=Decoder(future_skew_ms=settings.features.future_skew_ms),
        identity=Identity(settings.privacy.id_key.reveal().encode()),
        engine=engine,
        store=store,
        ranker=ranker,
        decider=Decider(threshold=threshold, rules=rules, medians=medians, scales=scales, feature_names=names),
        encoder=AnswerEncoder(model_version=version, features_version=engine.catalogue_hash, threshold=min(threshold, 1.0)),
        clock=clock,
        metrics=metrics,
        model_thread=ThreadPoolExecutor(1, thread_name_prefix="model"),
    )


def agent_options(settings: Settings) -> AgentOptions:
    """Translate the settings for the Faust side."""
    worker, kafka = settings.worker, settings.kafka
    return AgentOptions(
        bootstrap=kafka.bootstrap,
        group=kafka.group,
        topics=tuple(settings.topic(name) for name in SOURCE_TOPICS),
        instance=worker.instance,
        session_timeout_ms=kafka.session_timeout_ms,
        fetch_pause_ms=worker.fetch_pause_ms,
        chunk_events=worker.chunk_events,
        buffer_chunks=worker.buffer_chunks,
        batch_events=worker.batch_events,
        in_flight=worker.in_flight,
        web_host=worker.web_host,
        web_port=worker.web_port,
        work_dir=WORK_ROOT / f"worker-{socket.gethostname()}-{os.getpid()}",
    )
