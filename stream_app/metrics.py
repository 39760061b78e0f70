"""Every metric of the worker, in one place; this list is the documentation of the metrics.

Counters end in `_total`; times are seconds, as Prometheus wants them. /metrics on worker.web_port serves them.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The worker's metrics; create it once for each process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        # Counter: source records applied, by topic. Flat while lag grows: the worker is stuck.
        self.events = Counter("millrace_events", "Source records applied", ["topic"], registry=registry)
        # Counter: answers acknowledged by the broker, by topic.
        self.answers = Counter("millrace_answers", "Answers published and acknowledged", ["topic"], registry=registry)
        # Counter: invalid records, by topic and by reason: `no_value`, `too_large`, `not_json`, `missing_field`, `out_of_bounds`,
        # `wrong_type`, `key`, `future`. A jump means that a producer changed its format: read `dead-letters`.
        self.dead_letters = Counter(
            "millrace_dead_letters", "Records sent to dead-letters", ["topic", "reason"], registry=registry
        )
        # Counter: valid events beyond the allowed lateness. A jump means a wrong producer clock or a stuck upstream queue.
        self.late_events = Counter("millrace_late_events", "Events sent to late-events", ["topic"], registry=registry)
        # Counter: events that an earlier record of their user in the same batch would have made late, had the batch not been
        # folded by event time. Cut otherwise, the log would have so many late events more.
        self.in_time_by_batch = Counter(
            "millrace_in_time_by_batch", "Events in time by the order within their batch", ["topic"], registry=registry
        )
        # Counter: records of one user in 16, by the way their partition was chosen: `murmur2`, as Java's clients do, or `other`.
        self.partitioner_samples = Counter(
            "millrace_partitioner_samples", "Sampled records by partitioner", ["topic", "partitioner"], registry=registry
        )
        # Gauge: 1 after records have shown that producers choose partitions in different ways: users have two half histories.
        self.partitioners_differ = Gauge(
            "millrace_partitioners_differ", "Whether producers' partitioners differ", registry=registry
        )
        # Counter: duplicates, by topic and by their answers: those of the `first` delivery, or scored `again` because the store
        # no longer keeps the first ones. A jump means that a producer repeats its events.
        self.duplicates = Counter("millrace_duplicates", "Events sent again", ["topic", "answered"], registry=registry)
        # Counter: records below the front, skipped because they are already applied (redelivery, rewind).
        self.skipped = Counter("millrace_skipped_records", "Records skipped because they are already applied", registry=registry)
        # Counter: group steps refused because another worker owns the group. More than a few a rebalance: two workers compete.
        self.fenced = Counter("millrace_fenced_steps", "Steps refused: another worker owns the group", registry=registry)
        # Counter: answers published again from the outbox after an assignment.
        self.republished = Counter("millrace_republished_answers", "Answers published again from the outbox", registry=registry)
        # Histogram (s): time of one batch by hop: prepare, wait (for the commits of previous batches), score (read, fold, score,
        # decide), commit, publish.
        self.batch_seconds = Histogram(
            "millrace_batch_seconds", "Time of one batch by hop", ["hop"], buckets=_SECONDS, registry=registry
        )
        # Histogram: events in a batch. Always at the limit: the worker is saturated.
        self.batch_events = Histogram(
            "millrace_batch_events", "Events in a batch", buckets=(1, 4, 16, 64, 128, 256, 512, 1024, 2048), registry=registry
        )
        # Gauge: partition groups that this worker owns.
        self.groups_owned = Gauge("millrace_groups_owned", "Partition groups owned", registry=registry)
        # Gauge: records in the logs of the owned partitions not applied yet, as of the newest batch. Rising: see the lag.
        self.waiting = Gauge("millrace_waiting_records", "Records of owned partitions not applied yet", registry=registry)
        # Gauge (s): time of the last commit of state. More than a minute ago with lag: restart the worker, keep its log.
        self.last_commit_time = Gauge(
            "millrace_last_commit_timestamp_seconds", "Time of the last state commit", registry=registry
        )
        # Gauge (bytes): memory in use by the store, and its limit (0: none), read every 10 s by every worker. Near the limit the
        # store refuses writes (`noeviction`) or evicts keys.
        self.store_memory = Gauge("millrace_store_memory_bytes", "Memory in use by the store", registry=registry)
        self.store_memory_limit = Gauge("millrace_store_memory_limit_bytes", "Memory the store may use", registry=registry)
        # Gauge: keys that the store has evicted for lack of memory since its start. Must be 0: each was the state of an entity.
        self.store_evicted = Gauge("millrace_store_evicted_keys", "Keys evicted by the store since its start", registry=registry)
        # Counter: keys evicted while this worker ran. Above 0: wake an operator; features are wrong from now on.
        self.evictions_seen = Counter(
            "millrace_evictions_seen", "Keys evicted by the store while this worker ran", registry=registry
        )
        # Gauge: connected Redis replicas (the fewest of any server). Fewer than configured: a failover may lose writes.
        self.store_replicas = Gauge("millrace_store_replicas", "Replicas of the store", registry=registry)
        # Gauge: always 1; its labels name the engine of the model (`tensorrt`, `onnxruntime-cuda`, `onnxruntime`) and why.
        self.engine_info = Gauge("millrace_engine_info", "Engine of the model", ["engine", "precision", "why"], registry=registry)
        # Counter: events answered by rules alone because the model failed or was too slow. Growing: look at the next three.
        self.degraded_events = Counter("millrace_degraded_events", "Events answered without the model", registry=registry)
        # Gauge: 1 while rules alone answer, because the model failed three times in a row or was too slow once; it is retried.
        self.degraded = Gauge("millrace_degraded", "Whether events are answered without the model", registry=registry)
        # Counter: model calls without a usable answer, by reason: `too_slow` (model.max_score_ms), `failed`.
        self.model_failures = Counter("millrace_model_failures", "Calls of the model that failed", ["reason"], registry=registry)
        # Gauge: model calls that timed out and have not returned. At 3 the model is not retried: restart the worker.
        self.model_calls_hung = Gauge("millrace_model_calls_hung", "Calls of the model that hang", registry=registry)
        # Counter: GPU engines replaced by the CPU, by reason: `out_of_memory`, `device_lost`, `hang`. The worker goes on,
        # slower; it uses the GPU again after its next start.
        self.engine_fallbacks = Counter(
            "millrace_engine_fallbacks", "GPU engines replaced by the CPU", ["reason"], registry=registry
        )
        # Gauge: always 1; labels: loaded versions and their stage (champion, challenger, shadow). Only with model.registry.
        self.model_info = Gauge("millrace_model_info", "Models in use", ["version", "stage"], registry=registry)
        # Counter: champion changes that the registry requested, by outcome: `swapped`, `refused` by the gate, `failed` to load.
        # After the last two the old champion stays; the worker's status in the registry says why (`millrace models list`).
        self.model_swaps = Counter("millrace_model_swaps", "Changes of the champion", ["outcome"], registry=registry)
        # Histogram (s): one change of the champion: load, self-test, gate, swap.
        self.model_swap_seconds = Histogram(
            "millrace_model_swap_seconds", "Time of one change of the champion", buckets=_SECONDS, registry=registry
        )
        # Counter: failed reads of the registry. The worker keeps its models.
        self.registry_failures = Counter("millrace_registry_failures", "Failed reads of the registry", registry=registry)
        # Counter: batches in which a challenger failed; the champion answered its rows.
        self.challenger_failures = Counter(
            "millrace_challenger_failures", "Batches in which the challenger failed", registry=registry
        )
        # Counter: rows compared between the champion and a second model (`stage`: challenger, shadow), and rows not compared
        # because that model failed or is too slow.
        self.comparisons = Counter("millrace_comparisons", "Rows compared with the champion", ["stage"], registry=registry)
        self.comparisons_dropped = Counter("millrace_comparisons_dropped", "Rows not compared", ["stage"], registry=registry)
        # Counter: sum over the compared rows of the difference of the two models (0 to 1 a row), by task; divided by the number
        # of rows it is the mean. fraud, click: absolute difference; intent, next_action: total variation; candidates: share not
        # in common.
        self.comparison_deltas = Counter(
            "millrace_comparison_delta", "Sum of differences from the champion", ["stage", "task"], registry=registry
        )
        # Counter: compared rows with different decisions: alert, intent, next_action.
        self.comparison_flips = Counter(
            "millrace_comparison_flips", "Rows decided differently from the champion", ["stage", "decision"], registry=registry
        )
