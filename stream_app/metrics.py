"""Every metric of the worker, in one place; this list is their documentation.

Counters end in `_total`; times are seconds, as Prometheus wants them. /metrics serves them where worker.web_port is set.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The worker's metrics, registered once a process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        # Counter: source records applied, by topic. Flat while lag grows: the worker is stuck.
        self.events = Counter("millrace_events", "Source records applied", ["topic"], registry=registry)
        # Counter: answers acknowledged by the broker, by topic.
        self.answers = Counter("millrace_answers", "Answers published and acknowledged", ["topic"], registry=registry)
        # Counter: records that are no valid event. A jump means that a producer changed its format: read `dead-letters`.
        self.dead_letters = Counter("millrace_dead_letters", "Records sent to dead-letters", ["topic"], registry=registry)
        # Counter: valid events beyond the allowed lateness. A jump means a producer's clock or a stuck upstream queue.
        self.late_events = Counter("millrace_late_events", "Events sent to late-events", ["topic"], registry=registry)
        # Counter: events that their producer had sent before, by topic and by what they were answered with: the `first` answers'
        # content, or scored `again` because that is no longer kept. A jump means that a producer sends again what it has sent.
        self.duplicates = Counter(
            "millrace_duplicates", "Events sent twice by their producer", ["topic", "answered"], registry=registry
        )
        # Counter: records below the front, skipped because they were applied before (redelivery, rewind).
        self.skipped = Counter("millrace_skipped_records", "Records applied before and skipped", registry=registry)
        # Counter: group steps refused because another worker owns the group. More than a few a rebalance: two workers fight.
        self.fenced = Counter("millrace_fenced_steps", "Steps refused by the store's epoch", registry=registry)
        # Counter: answers published again from the outbox after an assignment.
        self.republished = Counter("millrace_republished_answers", "Answers published again from the outbox", registry=registry)
        # Histogram (s): one batch's time by hop: prepare, wait (for the batch before), score (read, fold, model, decide),
        # commit, publish.
        self.batch_seconds = Histogram(
            "millrace_batch_seconds", "Time of one batch by hop", ["hop"], buckets=_SECONDS, registry=registry
        )
        # Histogram: events in a batch. Always at the limit: the worker is saturated.
        self.batch_events = Histogram(
            "millrace_batch_events", "Events in a batch", buckets=(1, 4, 16, 64, 128, 256, 512, 1024, 2048), registry=registry
        )
        # Gauge: partition groups this worker owns.
        self.groups_owned = Gauge("millrace_groups_owned", "Partition groups owned", registry=registry)
        # Gauge (s): time since the last commit of state. Above a minute with lag: restart the worker, keep its log.
        self.last_commit_time = Gauge(
            "millrace_last_commit_timestamp_seconds", "Time of the last state commit", registry=registry
        )
        # Gauge (bytes): memory that the store uses, and that it may use (0: no limit), asked every 10 s by every worker. Near the
        # limit it refuses writes (`noeviction`), or evicts.
        self.store_memory = Gauge("millrace_store_memory_bytes", "Memory in use by the store", registry=registry)
        self.store_memory_limit = Gauge("millrace_store_memory_limit_bytes", "Memory the store may use", registry=registry)
        # Gauge: keys that the store has thrown out since its start for want of memory. Must be 0: each was somebody's history.
        self.store_evicted = Gauge("millrace_store_evicted_keys", "Keys evicted by the store since its start", registry=registry)
        # Counter: keys that were thrown out while this worker ran. Above 0: wake somebody; the features are wrong from now on.
        self.evictions_seen = Counter(
            "millrace_evictions_seen", "Keys evicted by the store while this worker ran", registry=registry
        )
        # Gauge: copies that follow the store now (the fewest of any server). Below what was set up: a failover may lose writes.
        self.store_replicas = Gauge("millrace_store_replicas", "Replicas of the store", registry=registry)
