"""Keys, packed requests and parsed replies of the Redis stores' scripts. No connection here."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_app.errors import ContractError
from stream_app.features.state.blobs import Blobs, Replicas
from stream_app.store.port import Claim, CommitResult, CommitStatus, GroupStep, StoreHealth

Numbers = NDArray[np.int64]

pack: Final = msgspec.msgpack.Encoder().encode


# --- names ---------------------------------------------------------------------------------------------------------------


def group_head(prefix: str, group: int) -> str:
    """Return the prefix of all keys of a partition group; the braces keep them on one shard."""
    return f"{prefix}:{{g{group}}}:"


def holders_head(prefix: str, kind: str) -> str:
    """Return the prefix of a shared kind's index entries; the identifier in hex follows."""
    return f"{prefix}:holders:{kind}:"


def answers_head(prefix: str, group: int) -> str:
    """Return the prefix of a group's payload keys; the commit number follows."""
    return f"{prefix}:{{g{group}}}:answers:"


def kind_of(key: bytes) -> str:
    """Return the entity kind of a blob's key."""
    return key.decode().split(":")[-2]


# --- requests ------------------------------------------------------------------------------------------------------------


def claim_call(prefix: str, group: int, owner: str) -> tuple[list[str], list[str]]:
    """Build KEYS and ARGV of CLAIM, for all tries of one claim: a try whose answer was lost must not fence the next one."""
    head = group_head(prefix, group)
    return [f"{head}meta", f"{head}commit", f"{head}outbox"], [owner, secrets.token_hex(8), answers_head(prefix, group)]


def published_call(
    prefix: str, group: int, epoch: str, commits: Sequence[int], kept_ms: int
) -> tuple[list[str], list[str | int]]:
    """Build KEYS and ARGV of PUBLISHED."""
    head = group_head(prefix, group)
    return [f"{head}meta", f"{head}outbox", f"{head}commit"], [epoch, answers_head(prefix, group), kept_ms, *commits]


def commit_call(prefix: str, step: GroupStep, kept_ms: int) -> tuple[list[str], list[bytes]]:
    """Build KEYS and ARGV of COMMIT."""
    head = group_head(prefix, step.group)
    keys = [f"{head}meta", f"{head}commit", f"{head}outbox"]
    blobs: list[bytes] = []
    for write in step.writes:
        start = f"{head}{write.kind}:"
        keys += [start + key.hex() for key in write.keys]
        blobs += write.blobs
    writes = [(str(write.ttl_ms), len(write.keys)) for write in step.writes]
    ranges = [(topic, str(start), str(end)) for topic, (start, end) in step.ranges.items()]
    packed = pack((step.epoch, ranges, step.published, step.after, str(kept_ms), answers_head(prefix, step.group), writes))
    return keys, [packed, step.payload, *blobs]


def announce_call(prefix: str, new: Iterable[tuple[str, int, int, Sequence[bytes]]]) -> tuple[bytes, str]:
    """Build the arguments of ANNOUNCE from (kind, group, ttl ms, keys)."""
    new = list(new)
    entries = [
        (holders_head(prefix, kind), group, str(ttl_ms), digits, count)
        for kind, group, ttl_ms, keys in new
        for digits, count in _same_length(keys)
    ]
    return pack(entries), "".join([b"".join(keys).hex() for *_, keys in new])


def _same_length(keys: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return runs of identifiers of equal length: (hex digits, count)."""
    if len(set(map(len, keys))) == 1:
        return [(2 * len(keys[0]), len(keys))]
    return [(2 * length, len(list(run))) for length, run in itertools.groupby(map(len, keys))]


# --- replies -------------------------------------------------------------------------------------------------------------


def build_replicas(blobs: Sequence[bytes | None], replicas: Numbers, counts: Numbers, held: Numbers) -> Replicas:
    """Build the replicas of N rows.

    Args:
        blobs: All values of the read.
        replicas: Their positions in `blobs`: the first `counts[0]` are the first row's, and so on.
        counts: (N,) how many replicas each row reads.
        held: (N,) how many other groups hold one.
    """
    of = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    values = [blobs[number] for number in replicas.tolist()]
    exists = np.fromiter(map(bool, values), np.bool_, len(values))  # an index entry lives longer than its replica
    return Replicas(Blobs.of(list(filter(None, values))), of[exists], held.astype(np.int32), counts.astype(np.int32))


def parse_result(answer: Sequence[bytes]) -> CommitResult:
    """Parse the reply of COMMIT."""
    status, commit, detail = answer
    return CommitResult(CommitStatus(status.decode()), int(commit), detail.decode())


def parse_claim(prefix: str, group: int, reply: Sequence[Any]) -> Claim:
    """Parse the reply of CLAIM.

    Raises:
        ContractError: A part of the group's position, or an unpublished answer, is missing.
    """
    epoch, meta, commit, waiting, payloads = reply
    fields = {name.decode(): value for name, value in _pairs(meta).items()}
    head = group_head(prefix, group)
    if not epoch:
        raise ContractError(
            f"group {group}: {head}commit says {commit.decode()} commits, {head}meta has the fields {sorted(fields)}: "
            "one of the two keys was deleted or evicted. Operator action: set maxmemory-policy to noeviction, then restore "
            "Redis from a copy, or delete all keys of this redis.prefix to decide everything that Kafka holds anew."
        )
    outbox = dict(sorted(zip(map(int, waiting), payloads, strict=True)))
    missing = [number for number, payload in outbox.items() if payload is None]
    if missing:
        raise ContractError(
            f"group {group}: {head}outbox names commits {missing} as not published, but {head}answers:{missing[0]} is gone: "
            "it was deleted or evicted. Operator action: set maxmemory-policy to noeviction, then restore Redis from a copy; or "
            f"delete the fields {missing} of {head}outbox: the answers of these commits (see the journal) may then be missing."
        )
    fronts = {name.removeprefix("front:"): int(value) for name, value in fields.items() if name.startswith("front:")}
    return Claim(epoch.decode(), fronts, int(commit), outbox)


def parse_texts(reply: Any) -> dict[str, str]:  # noqa: ANN401 - see _pairs
    """Parse a hash of texts."""
    return {name.decode(): value.decode() for name, value in _pairs(reply).items()}


def parse_health(info: Mapping[str, Any]) -> StoreHealth:
    """Build the health from INFO as redis-py parses it."""
    return StoreHealth(
        evicted=int(info["evicted_keys"]),
        used_bytes=int(info["used_memory"]),
        limit_bytes=int(info["maxmemory"]),
        policy=str(info["maxmemory_policy"]),
        replicas=int(info.get("connected_slaves", 0)),
    )


def _pairs(flat: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - a list in RESP2 and in scripts, a dict elsewhere
    if isinstance(flat, dict):
        return flat
    return dict(zip(flat[::2], flat[1::2], strict=True))
