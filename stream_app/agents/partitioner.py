"""Notices producers that choose partitions in different ways, by a sample of the records' keys."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stream_app.codec.key_partition import PartitionerSample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_app.codec.answers import SourceRecord
    from stream_app.metrics import Metrics

log = logging.getLogger(__name__)


class PartitionerWatch:
    """Counts the sampled records, and warns once if their producers differ.

    Args:
        partitions: Number of partitions of every source topic.
        metrics: Counts the samples, and users in two partitions.
    """

    def __init__(self, partitions: int, metrics: Metrics) -> None:
        self._sample = PartitionerSample(partitions)
        self._metrics = metrics
        self._warned = False

    def look(self, records: Iterable[tuple[str, SourceRecord]]) -> None:
        """Look at the records of a batch, each with its topic; their keys are neither logged nor kept beyond the process."""
        sample, changed = self._sample, False
        for topic, record in records:
            fits = sample.add(topic, record.partition, record.offset, record.key)
            if fits is not None:
                changed = True
                self._metrics.partitioner_samples.labels(topic, "murmur2" if fits else "other").inc()
        if changed and not self._warned and (fault := sample.fault()) is not None:
            self._warned = True
            self._metrics.partitioners_differ.set(1)
            log.warning(
                "producers choose partitions in different ways: %s. Such a user has two half histories; see 'Producers with "
                "different partitioners' in docs/runbook.md",
                fault,
            )
