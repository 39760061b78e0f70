"""The Redis Cluster of `millrace services cluster`: six true servers that are formed, killed, brought back and stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from devservices import cluster
from devservices.cluster import ClusterOptions, ClusterState
from devservices.ports import is_free
from stream_app.cli.serve.services import command
from stream_app.errors import ServiceError

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    cluster.down(tmp_path, wipe=True)


def silent(_line: str) -> None:
    return


def ports(state: ClusterState) -> list[int]:
    return [node.port for node in state.nodes]


def millrace(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["cluster", *arguments, "--root", str(root)])


def test_it_is_formed_survives_a_kill_and_a_restart_with_its_keys(root: Path) -> None:
    first = cluster.up(root, silent)
    assert first.ok
    assert [node.role for node in first.nodes] == ["primary"] * 3 + ["replica"] * 3
    assert sorted(slots for node in first.nodes for slots in node.slots) == [(0, 5460), (5461, 10921), (10922, 16383)]
    assert cluster.up(root, silent) == first, "a second up has nothing to do"
    with redis.RedisCluster.from_url(f"redis://127.0.0.1:{first.nodes[0].port}") as client:
        for number in range(30):
            client.set(f"key {number}", number)

    new = cluster.fail_over(root, 0)
    assert (new.number, new.slots) == (3, ((0, 5460),))
    assert not cluster.status(root).ok
    repaired = cluster.up(root, silent)
    assert repaired.ok
    assert (repaired.nodes[0].role, repaired.nodes[0].primary) == ("replica", new.port)

    assert len(cluster.down(root)) == 6
    assert cluster.down(root) == []
    assert all(is_free(port) for port in ports(first))
    again = cluster.up(root, silent)
    assert (again.ok, ports(again)) == (True, ports(first))
    with redis.RedisCluster.from_url(f"redis://127.0.0.1:{again.nodes[5].port}") as client:
        assert [int(str(client.get(f"key {number}").decode())) for number in range(30)] == list(range(30))


def test_one_that_was_never_finished_is_formed_anew_and_one_that_hangs_is_replaced(root: Path) -> None:
    started = cluster.up(root, silent, ClusterOptions(append_only=False, node_timeout_ms=1_000))
    record = root / ".services" / "cluster" / "cluster.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "formed": False}))
    again = cluster.up(root, silent)
    assert again.ok
    assert not {node.pid for node in again.nodes} & {node.pid for node in started.nodes}
    record.unlink()
    with pytest.raises(ServiceError, match=r"cluster\.json is missing or unreadable, but 6 nodes have data"):
        cluster.up(root, silent)
    assert [node.pid for node in cluster.status(root).nodes] == [node.pid for node in again.nodes], "nothing was touched"
    record.write_text(json.dumps({"ports": ports(again), "formed": True}))  # as the message says
    assert cluster.up(root, silent) == again


def test_a_slot_that_nobody_serves_is_said(root: Path) -> None:
    with pytest.raises(ServiceError, match="serves slot 7"):
        cluster.primary_of(root, 7)
    state = cluster.status(root)
    assert (state.ok, state.url, {node.condition for node in state.nodes}) == (False, "", {"stopped"})


def test_the_commands_end_with_one_line_of_json(root: Path) -> None:
    assert millrace(root, "status", "--json").exit_code == 1
    up = millrace(root, "up", "--json")
    assert (up.exit_code, up.output.count("\n")) == (0, 1)
    state = json.loads(up.output)
    assert state["url"].count("127.0.0.1:") == 6
    assert millrace(root, "status").exit_code == 0
    assert json.loads(millrace(root, "fail", "16383", "--json").output)["slots"] == [[10922, 16383]]
    assert millrace(root, "status", "--json").exit_code == 1
    down = millrace(root, "down", "--wipe", "--json")
    assert len(json.loads(down.output)["done"]) == 11, "five that ran and six folders"
    assert {node.pid for node in cluster.status(root).nodes} == {0}
