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
        # Gauge: always 1; its labels say what runs the model and why that: `tensorrt`, `onnxruntime-cuda` or `onnxruntime`.
        self.engine_info = Gauge("millrace_engine_info", "What runs the model", ["engine", "precision", "why"], registry=registry)
        # Counter: events answered by rules alone because the model failed or was too slow. Growing: look at the next three.
        self.degraded_events = Counter("millrace_degraded_events", "Events answered without the model", registry=registry)
        # Gauge: 1 while the model is not asked, because it failed three times in a row or was too slow once; it is tried again.
        self.degraded = Gauge("millrace_degraded", "Whether events are answered without the model", registry=registry)
        # Counter: calls of the model without a usable answer, by reason: `too_slow` (model.max_score_ms), `failed`.
        self.model_failures = Counter("millrace_model_failures", "Calls of the model that failed", ["reason"], registry=registry)
        # Gauge: calls of the model that were given up as too slow and have not come back. At 3 it is not tried again: restart.
        self.model_calls_hung = Gauge("millrace_model_calls_hung", "Calls of the model that hang", registry=registry)
        # Counter: engines on the GPU that were given up for the CPU, by reason: `out_of_memory`, `device_lost`, `hang`. The
        # worker goes on, slower; it takes the GPU again at its next start.
        self.engine_fallbacks = Counter(
            "millrace_engine_fallbacks", "Engines on the GPU given up for the CPU", ["reason"], registry=registry
        )
        # Gauge: always 1; which versions serve here, and as what: champion, challenger, shadow. Only with model.registry.
        self.model_info = Gauge("millrace_model_info", "Models in use", ["version", "stage"], registry=registry)
        # Counter: changes of the champion that the registry asked for, by outcome: `swapped`, `refused` by the gate, `failed` to
        # load. After the last two the old one serves on; the worker's status in the registry says why (`millrace models list`).
        self.model_swaps = Counter("millrace_model_swaps", "Changes of the champion", ["outcome"], registry=registry)
        # Histogram (s): from seeing a change of the champion to its end: load, self-test, gate, swap.
        self.model_swap_seconds = Histogram(
            "millrace_model_swap_seconds", "Time of one change of the champion", buckets=_SECONDS, registry=registry
        )
        # Counter: looks at the registry that failed. The worker goes on with the models it has.
        self.registry_failures = Counter("millrace_registry_failures", "Failed looks at the registry", registry=registry)
        # Counter: batches of which a challenger did not answer its part; the champion answered it.
        self.challenger_failures = Counter(
            "millrace_challenger_failures", "Batches in which the challenger failed", registry=registry
        )
        # Counter: rows that a second model (`stage`: challenger, shadow) was compared on, and those that were not, because it
        # failed or cannot keep up.
        self.comparisons = Counter("millrace_comparisons", "Rows compared with the champion's", ["stage"], registry=registry)
        self.comparisons_dropped = Counter("millrace_comparisons_dropped", "Rows not compared", ["stage"], registry=registry)
        # Counter: sum over the compared rows of how far the two lie apart (0 to 1 a row), by task; over the number of rows it is
        # the mean. fraud, click: absolute difference; intent, next_action: total variation; candidates: share not in common.
        self.comparison_deltas = Counter(
            "millrace_comparison_delta", "Sum of differences from the champion", ["stage", "task"], registry=registry
        )
        # Counter: compared rows that the two decide otherwise: alert, intent, next_action.
        self.comparison_flips = Counter(
            "millrace_comparison_flips", "Rows decided otherwise than by the champion", ["stage", "decision"], registry=registry
        )
