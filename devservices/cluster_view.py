"""Read the view that each node of a local Redis Cluster has of the cluster, and send the commands that join the nodes.

No process is started or stopped here. Nodes have numbers, and are reached at 127.0.0.1 on their ports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from devservices import process
from stream_app.errors import ServiceError

_PRIMARIES: Final = 3  # a majority of them must live to replace one: fewer cannot
NODES: Final = 2 * _PRIMARIES
_SLOTS: Final = 16_384
_TIMEOUT_S: Final = 5.0
_ACQUAINTANCE_S: Final = 60.0
_TROUBLE: Final = frozenset({"fail", "fail?", "handshake", "noaddr"})


@dataclass(frozen=True, slots=True)
class SeenNode:
    """One node as another knows it: `primary` is the id of the one it copies, "" for a primary; `slots` as (first, last)."""

    port: int
    flags: frozenset[str]
    primary: str
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One node's view: its id, whether it serves, whether its copy is complete (a primary's always is), the nodes it knows."""

    id: str
    ok: bool
    linked: bool
    nodes: Mapping[str, SeenNode]  # by id

    @property
    def itself(self) -> SeenNode:
        """The node's entry of itself."""
        return self.nodes[self.id]


def views(ports: Mapping[int, int]) -> dict[int, ClusterView | None]:
    """Return the view of every node (number -> port); None for a node that does not answer."""
    return {number: view(port) for number, port in ports.items()}


def view(port: int) -> ClusterView | None:
    """Return the view of the node on `port`; None if it does not answer."""
    try:
        with _client(port) as client:
            info, known = client.execute_command("CLUSTER INFO"), client.execute_command("CLUSTER NODES")
            copy = client.info("replication")
    except (redis.RedisError, OSError):
        return None
    nodes = {each["node_id"]: _seen(address, each) for address, each in known.items()}
    itself = next(id_ for id_, seen in nodes.items() if "myself" in seen.flags)
    linked = copy["role"] == "master" or copy.get("master_link_status") == "up"
    return ClusterView(itself, info["cluster_state"] == "ok", linked, nodes)


def _seen(address: str, each: Mapping[str, Any]) -> SeenNode:
    slots = tuple((int(part[0]), int(part[-1])) for part in each["slots"])
    primary = "" if each["master_id"] == "-" else each["master_id"]
    return SeenNode(int(address.rpartition(":")[2]), frozenset(each["flags"].split(",")), primary, slots)


def whole(told_by: Mapping[int, ClusterView | None]) -> bool:
    """Return whether all nodes serve, all replicas are linked, and all agree on who has which slots."""
    found = [each for each in told_by.values() if each is not None and each.ok and each.linked]
    told = {tuple(sorted((id_, seen.primary, seen.slots) for id_, seen in each.nodes.items())) for each in found}
    trouble = any(seen.flags & _TROUBLE for each in found for seen in each.nodes.values())
    return len(found) == NODES and len(told) == 1 and not trouble


def owner(of: ClusterView, slot: int) -> int:
    """Return the port of the primary that serves `slot`, 0 if none is known."""
    return next((seen.port for seen in of.nodes.values() if any(first <= slot <= last for first, last in seen.slots)), 0)


def form(ports: Mapping[int, int]) -> None:
    """Give new nodes their slots, make them known to each other, and let the second three copy the first three.

    Raises:
        ServiceError: They do not come together.
    """
    ids = []
    for number in range(NODES):
        with _client(ports[number]) as client:
            ids.append(client.execute_command("CLUSTER MYID").decode())
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)  # else two of them would quarrel about one epoch
            if number < _PRIMARIES:
                first, end = (_SLOTS * part // _PRIMARIES for part in (number, number + 1))
                client.execute_command("CLUSTER ADDSLOTS", *range(first, end))
    introduce(ports)
    for number in range(_PRIMARIES, NODES):
        with _client(ports[number]) as client:
            client.execute_command("CLUSTER REPLICATE", ids[number - _PRIMARIES])


def introduce(ports: Mapping[int, int]) -> None:
    """Make every node known to every other, also one whose port has changed; nothing is sent when they know each other.

    Raises:
        ServiceError: They do not come together.
    """
    for at, port in _strangers(ports):
        with _client(at) as client:
            client.execute_command("CLUSTER MEET", "127.0.0.1", port)
    if not process.wait_until(lambda: not _strangers(ports), _ACQUAINTANCE_S):
        raise ServiceError(
            f"nodes of the cluster do not know each other after {_ACQUAINTANCE_S:.0f} s (port, port): {_strangers(ports)}; "
            "run `millrace services cluster down --wipe`, then `up`"
        )


def _strangers(ports: Mapping[int, int]) -> list[tuple[int, int]]:
    """Return pairs of ports: a node, and a node that it does not know."""
    known = {
        ports[number]: {seen.port for seen in each.nodes.values() if not seen.flags & _TROUBLE}
        for number, each in views(ports).items()
        if each is not None
    }
    return [(at, port) for at in ports.values() for port in ports.values() if port not in known.get(at, ())]


@contextmanager
def _client(port: int) -> Iterator[Any]:  # redis-py's own commands of a cluster are untyped
    once = Retry(NoBackoff(), 0)  # who asks here asks again by itself, and must see soon that a node is gone
    with redis.Redis(host="127.0.0.1", port=port, socket_timeout=_TIMEOUT_S, retry=once) as client:
        yield client
