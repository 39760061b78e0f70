"""A real Redis Cluster on 127.0.0.1: three primaries with a replica each, six `redis-server` processes.

Its files are in `.services/cluster/` of a checkout: a folder for each node, and `cluster.json` with their ports. The single Redis
of `real` is independent of it. Nodes are found by command line (see `process`) and stopped by pid. A silent primary is replaced
after a short time, so that a failover takes some seconds.

Roles are read from the cluster: after a failover `up` starts the killed node, which comes back as a replica.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from devservices import process
from devservices.cluster_view import NODES, ClusterView, form, introduce, owner, views, whole
from devservices.install import Progress
from devservices.ports import free_port, is_free
from devservices.probe import redis_answers
from devservices.redis_binary import choose_redis
from devservices.redis_server import DURABLE, IN_MEMORY, redis_conf
from devservices.state import write_atomically
from stream_app.errors import ServiceError

_BINARY: Final = "redis-server"
# Nodes speak with each other on port + 10000 (the default, and the only way before Redis 7). Above 32767 the system hands out
# ports to outgoing connections.
_BUS: Final = 10_000
_TOO_HIGH: Final = frozenset(range(32_768 - _BUS, 32_768))
_START_PATIENCE_S: Final = 60.0
_WHOLE_PATIENCE_S: Final = 60.0
_FAILOVER_PATIENCE_S: Final = 60.0
_PORT_PATIENCE_S: Final = 5.0

_CLUSTER_CONF: Final = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout {node_timeout_ms}
min-replicas-to-write {min_replicas}
min-replicas-max-lag 2
# A replica gets its copy at once, and a broken link is seen within seconds.
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-ping-replica-period 1
"""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Settings of the nodes that `up` starts; a running node keeps the settings of its start.

    Attributes:
        append_only: Keep an append-only file (`everysec`); without, a node that is killed comes back empty.
        node_timeout_ms: A primary that is silent for so long is replaced by its replica.
        min_replicas: A primary refuses writes (NOREPLICAS) while fewer replicas than this are linked.
    """

    append_only: bool = True
    node_timeout_ms: int = 2_000
    min_replicas: int = 0


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node now: `pid` 0 when it does not run; `slots` as (first, last); `primary` is the port that a replica copies."""

    number: int
    condition: Literal["running", "not answering", "stopped"]
    port: int
    pid: int
    role: Literal["primary", "replica", "unknown"]
    primary: int
    slots: Sequence[tuple[int, int]]
    log: str


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The whole cluster. `ok`: every node answers, every slot is served, every replica is linked, and all agree on it."""

    url: str  # names every node, so that any of them may be away when a worker starts
    ok: bool
    nodes: Sequence[ClusterNode]

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class _ClusterRecord:
    """What `cluster.json` holds: ports by number, whether the cluster was ever whole, the redis-server of its nodes."""

    ports: Mapping[int, int] = field(default_factory=dict)
    formed: bool = False
    program: str = ""


@dataclass(frozen=True, slots=True)
class _NodeStart:
    """How `up` starts a node."""

    program: str
    options: ClusterOptions


@dataclass(frozen=True, slots=True)
class _Home:
    """Where a node keeps its things; `folder` is absolute."""

    number: int
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "redis.conf"

    @property
    def log(self) -> Path:
        return self.folder / "redis.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def pid(self) -> int:
        return process.find(_BINARY, self.config) or 0

    def stop(self, *, kill: bool = False) -> int:
        pid = self.pid()
        if pid:
            process.stop(pid, _BINARY, self.config, kill=kill)
        return pid


def up(root: Path, progress: Progress, options: ClusterOptions | None = None) -> ClusterState:
    """Start the cluster of the checkout `root`, form it if it is new; return when every node answers and is linked.

    Raises:
        ServiceError: A node did not start, or the nodes did not come together. What was started stays, for a next try. Or there
            is data, and no readable record of the cluster that it belongs to, or no redis-server of its version; nothing was
            touched.
    """
    with _locked(root):
        homes, known = _homes(root), _recorded(root)
        if known is None:
            _check_new(root, homes)
        record = known or _ClusterRecord()
        if not record.formed:  # it was never finished, so nobody has anything in it
            _record(root, record)  # so that a next try knows this too
            for home in homes:
                home.stop(kill=True)
                shutil.rmtree(home.data, ignore_errors=True)
        # The nodes that run and those that are started are of one version, that of the data.
        program = choose_redis([home.data for home in homes], record.program, progress).path
        ports = _start_all(homes, record.ports, _NodeStart(program, options or ClusterOptions()), progress)
        _record(root, _ClusterRecord(ports, record.formed, program))
        if record.formed:
            introduce(ports)
        else:
            progress("cluster: forming it")
            form(ports)
        if not process.wait_until(lambda: whole(views(ports)), _WHOLE_PATIENCE_S):
            raise ServiceError(f"the cluster is not whole after {_WHOLE_PATIENCE_S:.0f} s; {_complaint(homes, ports)}")
        _record(root, _ClusterRecord(ports, True, program))
        return _state(homes, ports)


def down(root: Path, *, wipe: bool = False) -> list[str]:
    """Stop every node; with `wipe` remove their data too. Return a line for each thing done."""
    done = []
    with _locked(root):
        for home in _homes(root):
            pid = home.stop()
            if pid:
                done.append(f"cluster node {home.number}: pid {pid} stopped")
            if wipe and home.folder.exists():
                shutil.rmtree(home.folder)
                done.append(f"cluster node {home.number}: removed {home.folder}")
        if wipe:
            _record_path(root).unlink(missing_ok=True)
    return done


def status(root: Path) -> ClusterState:
    """Look at all nodes, now. Changes nothing."""
    return _state(_homes(root), (_recorded(root) or _ClusterRecord()).ports)


def primary_of(root: Path, slot: int) -> ClusterNode:
    """Return the node that reports to serve `slot`.

    Raises:
        ServiceError: None that answers does.
    """
    for node in status(root).nodes:
        if node.role == "primary" and any(first <= slot <= last for first, last in node.slots):
            return node
    raise ServiceError(f"no node of the cluster serves slot {slot}; look with `millrace services cluster status`")


def kill(root: Path, number: int) -> int:
    """End node `number` with SIGKILL, as a crash would; return the pid it had, 0 if it did not run."""
    with _locked(root):
        return _homes(root)[number].stop(kill=True)


def fail_over(root: Path, slot: int) -> ClusterNode:
    """Kill the primary of `slot` with SIGKILL; return the replica that has taken over. `up` brings the killed one back.

    Raises:
        ServiceError: No replica took over in time.
    """
    old = primary_of(root, slot)
    kill(root, old.number)
    return wait_for_failover(root, slot, old)


def wait_for_failover(root: Path, slot: int, old: ClusterNode) -> ClusterNode:
    """Return the new primary of `slot` when every node but `old` knows it and serves again.

    Raises:
        ServiceError: No replica took over in time.
    """
    homes, ports = _homes(root), (_recorded(root) or _ClusterRecord()).ports
    left = {number: port for number, port in ports.items() if number != old.number}

    def replaced() -> bool:
        return all(each is not None and each.ok and owner(each, slot) not in {0, old.port} for each in views(left).values())

    if not process.wait_until(replaced, _FAILOVER_PATIENCE_S):
        raise ServiceError(
            f"no replica took over slot {slot} from the node on port {old.port} within {_FAILOVER_PATIENCE_S:.0f} s; "
            f"{_complaint(homes, ports)}"
        )
    return primary_of(root, slot)


# --- processes ----------------------------------------------------------------------------------------------------------


def _start_all(homes: Sequence[_Home], ports: Mapping[int, int], start: _NodeStart, progress: Progress) -> dict[int, int]:
    """Start the nodes that do not run, all at once; return the ports of all nodes."""
    at, started = dict(ports), []
    for home in homes:
        if home.pid() and redis_answers(at.get(home.number, 0)):
            continue
        home.stop(kill=True)  # it does not answer, or its port is unknown
        at[home.number] = _port_for(home, at)
        process.spawn(_command(home, at[home.number], start), home.log)
        started.append(home)
    for home in started:
        port = at[home.number]
        if not process.wait_until(lambda: redis_answers(port), _START_PATIENCE_S):  # noqa: B023  # called at once
            raise ServiceError(f"cluster node {home.number} did not answer on 127.0.0.1:{port}; {_complaint(homes, at)}")
        progress(f"cluster node {home.number}: started on 127.0.0.1:{port}, pid {home.pid()}")
    return at


def _port_for(home: _Home, ports: Mapping[int, int]) -> int:
    """Return the port it had, or a new one; its bus port is free too."""
    port = ports.get(home.number, 0)
    # A killed process lets go of its ports a moment after it is gone from the process list.
    if port and process.wait_until(lambda: is_free(port) and is_free(port + _BUS), _PORT_PATIENCE_S):
        return port
    taken = _TOO_HIGH | set(ports.values())
    while not is_free((port := free_port(str(home.config), taken)) + _BUS):
        taken |= {port}
    return port


def _command(home: _Home, port: int, start: _NodeStart) -> list[str]:
    home.data.mkdir(parents=True, exist_ok=True)
    options = start.options
    of_cluster = _CLUSTER_CONF.format(node_timeout_ms=options.node_timeout_ms, min_replicas=options.min_replicas)
    home.config.write_text(redis_conf(port, home.data, DURABLE if options.append_only else IN_MEMORY) + of_cluster)
    return [start.program, str(home.config)]


def _complaint(homes: Sequence[_Home], ports: Mapping[int, int]) -> str:
    nodes = "; ".join(f"node {each.number} is {each.condition}, {each.role}" for each in _state(homes, ports).nodes)
    tails = [f"{home.log}:\n{home.log.read_text(errors='replace')[-400:]}" for home in homes if home.log.exists()]
    return "\n".join([nodes, "the ends of the logs:", *tails])


def _state(homes: Sequence[_Home], ports: Mapping[int, int]) -> ClusterState:
    of_nodes = views(ports)
    nodes = [_node(home, ports.get(home.number, 0), of_nodes.get(home.number)) for home in homes]
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports.values())
    return ClusterState(f"redis://{addresses}/0" if addresses else "", whole(of_nodes), nodes)


def _node(home: _Home, port: int, view: ClusterView | None) -> ClusterNode:
    pid = home.pid()
    if view is None or not pid:
        return ClusterNode(home.number, "not answering" if pid else "stopped", port, pid, "unknown", 0, (), str(home.log))
    itself = view.itself
    primary = view.nodes[itself.primary].port if itself.primary in view.nodes else 0
    role: Literal["primary", "replica"] = "replica" if itself.primary else "primary"
    return ClusterNode(home.number, "running", port, pid, role, primary, itself.slots, str(home.log))


# --- files --------------------------------------------------------------------------------------------------------------


def _homes(root: Path) -> list[_Home]:
    folder = root.resolve() / ".services" / "cluster"
    return [_Home(number, folder / f"node-{number}") for number in range(NODES)]


def _record_path(root: Path) -> Path:
    return root / ".services" / "cluster" / "cluster.json"


def _record(root: Path, record: _ClusterRecord) -> None:
    ports = [record.ports.get(number, 0) for number in range(NODES)]
    write_atomically(_record_path(root), json.dumps({"ports": ports, "formed": record.formed, "program": record.program}) + "\n")


def _recorded(root: Path) -> _ClusterRecord | None:
    """Return what is known of the cluster; None if there is no readable record. One of an earlier release names no program."""
    try:
        record = json.loads(_record_path(root).read_text())
        ports, formed = [int(port) for port in record["ports"]], bool(record["formed"])
        program = str(record.get("program", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = {number: port for number, port in enumerate(ports) if port}
    return _ClusterRecord(known, formed, program) if len(ports) == NODES else None


def _check_new(root: Path, homes: Sequence[_Home]) -> None:
    """Refuse to form a cluster where the data of another one may be."""
    full = [home.data for home in homes if home.data.exists() and any(home.data.iterdir())]
    if full:
        raise ServiceError(
            f"{_record_path(root)} is missing or unreadable, but {len(full)} nodes have data ({full[0]}, ...); nothing was "
            'touched. To keep the data, write {"ports": [...], "formed": true} there, with the ports that stand in '
            f"node-0/redis.conf to node-{NODES - 1}/redis.conf beside it. To begin anew, run "
            "`millrace services cluster down --wipe`, then `up`"
        )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the cluster's lock. Waits for another holder, however long: an `up` whose nodes do not start takes minutes."""
    path = _record_path(root).with_name("lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
