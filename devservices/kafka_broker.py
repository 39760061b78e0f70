"""Apache Kafka as one local process: broker and controller in one (KRaft), one replica of everything.

Jars come from Maven into `.services/kafka-<version>/`, data and settings live in `.services/kafka/`. The port may
change from start to start; the data does not depend on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from devservices.install import Progress, java, maven
from devservices.ports import free_port
from devservices.probe import kafka_answers
from devservices.state import ServerProgram
from stream_app.errors import ServiceError

VERSION = "4.1.1"  # as in pom.xml and docker-compose.yml; a test compares them
_HEAP = ("-Xms256m", "-Xmx512m")
_MAVEN_PATIENCE_S = 600
_FORMAT_PATIENCE_S = 120
# Any 16 bytes would do; a fixed id keeps data of an older start readable.
_CLUSTER_ID = "TWlsbHJhY2VMb2NhbEsxMQ"

# One node has one replica of everything. Two coordinator topics of 8 partitions start faster than Kafka's 50. No
# waiting for more members, so a worker alone has its partitions at once. A topic may allow messages above the broker's
# 1 MB (max.message.bytes), so the fetch limit leaves room for them. A killed broker is let in again only when its old
# session has ended (9 s): a shorter one would put a slow machine's broker out of service while it runs.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=8
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
replica.fetch.max.bytes=16777216
"""


@dataclass(frozen=True, slots=True)
class KafkaBroker:
    """The broker of the checkout whose service folder is `folder` (absolute)."""

    folder: Path
    name: str = "kafka"
    binary: str = "java"
    patience_s: float = 120.0  # a cold start takes 5 s on a quiet machine

    @property
    def config(self) -> Path:
        """Its settings file. It is an argument of the process, which identifies the process as ours."""
        return self.folder / "kafka" / "server.properties"

    @property
    def log(self) -> Path:
        """Where it logs to."""
        return self.folder / "kafka" / "kafka.log"

    @property
    def data(self) -> Path:
        """The folder of its topics."""
        return self.folder / "kafka" / "data"

    @property
    def _jars(self) -> Path:
        return self.folder / f"kafka-{VERSION}" / "lib"

    def answers(self, port: int) -> bool:
        """Return whether it answers a metadata request."""
        return kafka_answers(port)

    def prepare(self, progress: Progress, last: ServerProgram) -> ServerProgram:
        """Fetch the jars and format the storage, each if not done yet; return the Java of the `last` start, or another one.

        Raises:
            ServiceError: The topics are of a later Kafka than this one; nothing was touched. Or something could not be fetched.
        """
        self._check_topics(last.version)
        program = ServerProgram(last.path if os.access(last.path, os.X_OK) else java(progress), f"Kafka {VERSION}")
        if not self._jars.is_dir():
            self._fetch(maven(progress), progress)
        if not (self.data / "meta.properties").exists():
            progress(f"formatting Kafka's storage in {self.data}")
            self.configure(free_port(str(self.folder)), program)
            self._format(program.path)
        return program

    def configure(self, port: int, program: ServerProgram) -> list[str]:
        """Write the settings for `port`; return the command line."""
        (self.folder / "kafka" / "tmp").mkdir(parents=True, exist_ok=True)
        controller = free_port(f"{self.folder}:controller", frozenset({port}))
        self.config.write_text(_PROPERTIES.format(port=port, controller=controller, data=self.data))
        return [*self._java(program.path), *_HEAP, "kafka.Kafka", str(self.config)]

    def _check_topics(self, wrote: str) -> None:
        """Refuse topics of a later Kafka, which may hold what this one cannot read. Those of an earlier one it reads."""
        if (self.data / "meta.properties").exists() and _numbers(wrote) > _numbers(VERSION):
            raise ServiceError(
                f"the topics in {self.data} were written by {wrote}, a later version than Kafka {VERSION}, which this Millrace "
                "runs. Nothing was started or changed. Operator action: run the Millrace that wrote them, or give them up with "
                "`millrace services down --wipe`, which removes the keys of Redis too, and start again"
            )

    def _java(self, path: str) -> list[str]:
        return [
            path,
            "-XX:-UsePerfData",  # else each JVM keeps a file in /tmp
            f"-Djava.io.tmpdir={self.folder / 'kafka' / 'tmp'}",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
            "-Dorg.slf4j.simpleLogger.showThreadName=false",
            "-cp",
            f"{self._jars}/*",
        ]

    def _fetch(self, mvn: str, progress: Progress) -> None:
        progress(f"fetching Apache Kafka {VERSION} with Maven (about 45 MB)")
        home = self._jars.parent
        unfinished, repository = home / "lib.unfinished", home / "m2"
        home.mkdir(parents=True, exist_ok=True)
        pom = home / "pom.xml"
        pom.write_bytes(files("devservices").joinpath("pom.xml").read_bytes())
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [
            *(mvn, "-q", "-B", "-f", str(pom)),
            f"-Dmaven.repo.local={repository}",  # nothing is left outside the checkout
            f"-DoutputDirectory={unfinished}",
            "dependency:copy-dependencies",
        ]
        _run(command, _MAVEN_PATIENCE_S, f"Maven could not fetch Kafka {VERSION}; check the network and try again")
        unfinished.rename(self._jars)
        shutil.rmtree(repository, ignore_errors=True)

    def _format(self, java_path: str) -> None:
        command = [*self._java(java_path), "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self.config)]
        _run(command, _FORMAT_PATIENCE_S, f"Kafka could not format {self.data}; is the disk full or not writable?")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _run(command: list[str], patience_s: float, what_failed: str) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=patience_s)
    except subprocess.TimeoutExpired as err:
        msg = f"{what_failed} (no end after {patience_s:.0f} s)"
        raise ServiceError(msg) from err
    if done.returncode:
        msg = f"{what_failed} (exit {done.returncode}):\n{(done.stdout + done.stderr).strip()[-1500:]}"
        raise ServiceError(msg)
