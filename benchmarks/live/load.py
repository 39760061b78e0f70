"""A load generator: sends encoded events at a steady rate, and reports how well it held it.

Runs as a process of its own (`python -m benchmarks.live.load`), so that it shares no interpreter with what is measured. All
events are encoded before the first one is sent. The last line is JSON: `sent`, `seconds`, `rate`, and `lag_ms` (how
much later than planned events were handed to the client: p50, p99, max). If it cannot hold the rate, `rate` is below
the requested one.
"""

from __future__ import annotations

import json
import time

import click
import numpy as np
from confluent_kafka import Producer

from benchmarks.live.workload import Record, Workload
from verification.harness.offsets import QUIET

_FULL_WAIT_S = 0.05


def producer(bootstrap: str) -> Producer:
    """Return a client for many small records: short linger, all acknowledgements, room for a burst."""
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 2,
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
            **QUIET,
            "partitioner": "murmur2_random",  # as Java's and kafka-python's default: the same user, the same partition
        }
    )


def fill(bootstrap: str, prefix: str, workload: Workload, count: int) -> float:
    """Append `count` events as fast as they go; return events per second."""
    client = producer(bootstrap)
    began = time.monotonic()
    for record in workload.records(count):
        _send(client, prefix, record)
    if client.flush(60.0):
        raise click.ClickException("the broker did not acknowledge the backlog within 60 s; see its log under .services")
    return count / (time.monotonic() - began)


def _send(client: Producer, prefix: str, record: Record) -> None:
    topic, key, value = record
    while True:
        try:
            client.produce(prefix + topic, value, key=key)
        except BufferError:  # the client's queue is full: let it send
            client.poll(_FULL_WAIT_S)
        else:
            return


def steady(bootstrap: str, prefix: str, rate: float, seconds: float, seed: int) -> dict[str, float | dict[str, float]]:
    """Send `rate` events a second for `seconds`; return the rate that was reached."""
    count = int(rate * seconds)
    encoding_s = count / 50_000  # about what encoding takes: the events' own times are near the times they are sent at
    start_ms = time.time_ns() // 1_000_000 + int(1000 * encoding_s)
    records = list(Workload(start_ms, 1000 / rate, seed).records(count))
    client = producer(bootstrap)
    client.list_topics(timeout=10.0)  # connected before the clock starts
    lags = np.empty(count)
    began = time.monotonic()
    for i, record in enumerate(records):
        ahead = began + i / rate - time.monotonic()
        if ahead > 0.001:
            client.poll(0)
            time.sleep(ahead)
            ahead = began + i / rate - time.monotonic()
        lags[i] = max(-ahead, 0.0)
        _send(client, prefix, record)
    took = time.monotonic() - began
    client.flush(60.0)
    p50, p99, highest = (round(float(x) * 1000, 1) for x in (*np.percentile(lags, [50, 99]), lags.max()))
    return {
        "sent": count,
        "seconds": round(took, 2),
        "rate": round(count / took, 1),
        "lag_ms": {"p50": p50, "p99": p99, "max": highest},
    }


@click.command()
@click.option("--bootstrap", required=True, help="The broker, host:port.")
@click.option("--prefix", required=True, help="What stands before the topics' names.")
@click.option("--rate", type=float, required=True, help="Events a second.")
@click.option("--seconds", type=float, required=True, help="For how long.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(bootstrap: str, prefix: str, rate: float, seconds: float, seed: int) -> None:
    """Send events at a steady rate."""
    click.echo(json.dumps(steady(bootstrap, prefix, rate, seconds, seed)))


if __name__ == "__main__":
    main()
