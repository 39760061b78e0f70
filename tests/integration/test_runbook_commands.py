"""Each command for Kafka and Redis in docs/runbook.md and docs/privacy.md runs on the real servers as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, TopicPartition

from tests.integration.transport_harness import create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.case("commands of the runbook")]

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMAND = re.compile(r"^(?:python -m kafka\.admin|redis-cli) [^#\n]*|`(redis-cli [^`]*)`", re.MULTILINE)


def commands() -> list[str]:
    # Blocks that begin with a comment are whole scripts: tests/chaos/test_restore.py runs them.
    pages = [
        re.sub(r"```sh\n# .*?```", "", (DOCS / name).read_text("utf-8"), flags=re.DOTALL) for name in ("runbook.md", "privacy.md")
    ]
    return sorted({" ".join((match[1] or match[0]).split()) for page in pages for match in COMMAND.finditer(page)})


def test_the_commands_are_found() -> None:
    assert len(commands()) >= 15
    assert sum("kafka.admin" in command for command in commands()) >= 2
    assert all("$REDIS" in command or "$KAFKA" in command for command in commands())


@pytest.mark.parametrize("command", commands())
def test_a_command_runs_as_it_is_written(
    command: str, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    [topic] = create_topics(kafka_bootstrap, topic_prefix, 1)
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": f"{topic_prefix}group"})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    consumer.close()
    with redis.Redis.from_url(redis_url) as client:
        client.hset(f"{redis_prefix}:{{g3}}:meta", "front:clicks", 1234)
        client.set(f"{redis_prefix}:{{g0}}:user:{redis_prefix}", b"blob")
    own = {
        "mr:": f"{redis_prefix}:",
        "old:": f"{redis_prefix}:",
        "-g millrace": f"-g {topic_prefix}group",
        "clicks:": f"{topic}:",
    }
    for theirs, ours in own.items():
        command = re.sub(rf"(?<![:\w]){theirs}", ours, command)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", command],
        env={**os.environ, "KAFKA": kafka_bootstrap, "REDIS": redis_url, "PATH": path},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    output = (done.stdout + done.stderr).replace("ERR This instance has cluster support disabled", "")
    assert done.returncode == 0, output
    assert not re.search(r"\b(ERR|WRONGTYPE|NOAUTH|usage:|too many values|Error)\b", output), output
