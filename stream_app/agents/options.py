"""The options of the agents as plain values; `stream_app.wiring` fills them from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """The options of a worker's Faust side.

    Attributes:
        bootstrap: `host:port` of a broker; several separated by commas.
        group: Consumer group.
        topics: Source topics; equal partition counts, so that one worker owns partition p of all of them.
        broker_describes: Whether the broker tells members of groups and ids of topics; the embedded one does not.
        protocol: Name of the way in which the group's members share partitions. The broker refuses a member that does not offer
            it, so that no program but a worker over the same topics and store joins.
        instance: Static group member id; empty = dynamic membership (leaves the group at once when it stops).
        client_id: Name shown in the broker's logs and quotas.
        session_timeout_ms: Time without a heartbeat after which the broker gives the worker's partitions away.
        rebalance_timeout_ms: How long a rebalance waits for draining members; above `drain_timeout_ms`.
        commit_interval_ms: Time between two offset commits.
        drain_timeout_ms: How long a revoke or a SIGTERM waits for the batches in flight.
        shutdown_timeout_ms: Limit of a stop after a crash or a signal; then the process ends hard.
        fetch_pause_ms: How long the broker collects records before it answers a fetch (unless `fetch_min_bytes` are there),
            since tiny chunks are costly. Collecting at the broker takes half the time of a pause here.
        fetch_min_bytes: With so many bytes the broker answers at once.
        chunk_events: Most weight of a chunk; a chunk holds at least one record. Weight counts records, or units of 4 KiB of
            keys and values if that is more (`ports.Chunk.weight`), so the limits bound bytes too.
        buffer_chunks: Most chunks in Faust's own buffer.
        buffer_events: Weight of waiting chunks, over all partitions, at which fetching pauses; it bounds memory (16,384 are
            64 MiB, plus one fetch).
        batch_events: Most weight of a batch (2,048 are 8 MiB); a batch holds at least one whole chunk.
        batch_deadline_ms: How long a chunk may wait for further ones before its batch closes; 0: waiting chunks leave at once.
        in_flight: Most batches in the handler at the same time.
        web_host: Address of the web server.
        web_port: Port of /healthz and /metrics; 0 = no web server.
        work_dir: Folder for Faust's own files; None = a temporary one, removed at exit.
    """

    bootstrap: str
    group: str
    topics: tuple[str, ...]
    broker_describes: bool = True
    protocol: str = "millrace"
    instance: str = ""
    client_id: str = "millrace"
    session_timeout_ms: int = 10_000
    rebalance_timeout_ms: int = 60_000
    commit_interval_ms: int = 1_000
    drain_timeout_ms: int = 5_000
    shutdown_timeout_ms: int = 20_000
    fetch_pause_ms: int = 10
    fetch_min_bytes: int = 65_536
    chunk_events: int = 256
    buffer_chunks: int = 1024
    buffer_events: int = 16_384
    batch_events: int = 2_048
    batch_deadline_ms: int = 0
    in_flight: int = 3
    web_host: str = "127.0.0.1"
    web_port: int = 0
    work_dir: Path | None = None
