"""Canonical replay on Apache Spark: the same fold, entity kind by entity kind, joined by event; the bytes of one process.

    files --read--> records --range by time, sort--> parts of the log --prepare--> events
    events --by user--> users' features
    events --by kind and entity--> shared kinds' features
    all of them --by part and event--> answer --> batches, which the driver yields in order of the log

A part of the log is a Spark partition of whole event times, so a duplicate and its original are in the same part. Entities are
sorted within partitions, not collected: the busiest one needs no more memory than any other (`GroupedFold`).
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from stream_app.config import Settings, spark_environ
from stream_app.errors import ConfigError
from stream_app.logs.ingest.mapping import LogMapping
from stream_app.logs.log_files import log_files
from stream_app.logs.log_issues import LogIssues
from stream_app.logs.log_source import expand
from stream_app.replay.canonical import ReplayBatch
from stream_app.replay.parallel.partitioning import shared_kinds, user_kinds
from stream_app.wiring import build_engine

_ROOT: Final = Path(__file__).resolve().parents[3]
_ARROW_ROWS: Final = 2_048  # a row of features is some kB


def replay_spark(
    settings: Settings, paths: Sequence[str | Path], mapping: LogMapping | None, problems: LogIssues, size: int, master: str
) -> Iterator[ReplayBatch]:
    """Replay a log on Spark; yields the batches of CanonicalReplay, in order of the log.

    Args:
        settings: Settings of a worker; the model's files are at the same path on every executor.
        paths: As in open_log; at the same path on every executor. Parquet is read by row groups, other files one by one.
        mapping: How rows become events; None: JSON lines, or event tables.
        problems: Collects the issues of the log.
        size: Records of a batch.
        master: Spark's.

    Raises:
        ConfigError: pyspark is not installed, or a file does not exist.
        InputFileError: The log has an issue, and `problems` is strict.
    """
    files = log_files(expand(paths), mapping, problems)
    with _session(master) as spark:
        from stream_app.replay.spark.spark_tasks import ReplayTask

        engine = build_engine(settings)
        task = ReplayTask(
            settings=pickle.dumps(settings),
            files={file.number: str(file.path.resolve()) for file in files},
            mapping=mapping,
            size=size,
            kinds=shared_kinds(engine),
            partition=_partition,
        )
        parts = 2 * spark.sparkContext.defaultParallelism  # twice as many as the cluster has cores
        plan = _Plan(spark, task, parts, user_kinds(engine), tuple(engine.widths()))
        pieces = [(file.number, *part) for file in files for part in file.parts()]
        try:
            yield from _in_order(plan.answers(plan.prepared(plan.read(pieces), problems)))
        finally:
            plan.unpersist()


def _in_order(answers: Any) -> Iterator[ReplayBatch]:  # noqa: ANN401 (a data frame)
    """Yield the batches part by part, with positions in the whole log."""
    start, end, part = 0, 0, -1
    for row in answers.toLocalIterator(prefetchPartitions=True):
        batch: ReplayBatch = pickle.loads(row["batch"])  # noqa: S301 (our executors made it)
        if row["part"] != part:
            part, start = row["part"], end
        end = start + batch.end
        yield replace(batch, first=start + batch.first, end=end)


def _partition() -> int:
    from pyspark import TaskContext

    context = TaskContext.get()
    assert context is not None, "only an executor works on a partition"
    return int(context.partitionId())


@contextmanager
def _session(master: str) -> Iterator[Any]:
    try:
        from pyspark.sql import SparkSession
    except ImportError as err:
        raise ConfigError(
            "a replay on Spark needs pyspark and Java 17: install the extra with `pip install 'millrace[spark]'`"
        ) from err
    local = master.startswith("local")
    builder = (
        SparkSession.builder.appName("millrace replay")
        .master(master)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", _ARROW_ROWS)
        .config("spark.sql.adaptive.coalescePartitions.enabled", "false")  # a part is a partition
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")  # the command has its own
        .config("spark.driver.maxResultSize", "0")
    )
    if local:
        builder = builder.config("spark.executorEnv.PYTHONPATH", str(_ROOT)).config("spark.driver.bindAddress", "127.0.0.1")
    with spark_environ(sys.executable, local=local):
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        try:
            yield spark
        finally:
            spark.stop()


class _Plan:
    """The steps as data frames; frames used more than once stay on the executors' disks until `unpersist`."""

    def __init__(self, spark: Any, task: Any, parts: int, users: Sequence[str], kinds: Sequence[str]) -> None:  # noqa: ANN401
        from pyspark.sql import functions

        self._spark, self._task, self._parts = spark, task, parts
        self._users, self._kinds = users, kinds
        self._f: Any = functions
        self._persisted: list[Any] = []

    def read(self, parts: Sequence[tuple[int, int, int]]) -> Any:  # noqa: ANN401
        """Read the parts of the files in parallel."""
        from stream_app.replay.spark.spark_tasks import READ

        frame = self._spark.createDataFrame(list(parts), "file int, first long, last long")
        return self._persist(frame.repartition(len(parts), "file", "first").mapInArrow(self._task.read, READ))

    def prepared(self, read: Any, problems: LogIssues) -> Any:  # noqa: ANN401
        """Sort the records, cut the log into parts, and decode them."""
        from stream_app.replay.spark.spark_tasks import prepared_schema

        for row in read.where(read.problems.isNotNull()).orderBy("file").toLocalIterator():
            problems.merge(pickle.loads(row["problems"]))  # noqa: S301 (our executors made it)
        records = read.where(read.record.isNotNull()).drop("problems")
        ordered = records.repartitionByRange(self._parts, "time_ms")
        ordered = ordered.sortWithinPartitions("time_ms", "file", "row", "number")
        return self._persist(ordered.mapInArrow(self._task.prepare, prepared_schema(self._kinds)))

    def answers(self, prepared: Any) -> Any:  # noqa: ANN401
        """Fold the kinds, join them by event, and answer."""
        from stream_app.replay.spark.spark_tasks import ANSWERS

        f = self._f
        users = self._folded_users(prepared)
        features = users.unionByName(self._folded_kinds(prepared, users))
        none, zero = f.lit(None).cast("binary"), f.lit(0).cast("long")
        records = prepared.select("part", "at", f.lit("").alias("kind"), "seq", "record", none.alias("features"))
        rows = records.unionByName(features.select("part", "at", "kind", zero.alias("seq"), none.alias("record"), "features"))
        # An event's record comes after the invalid records before it (`seq`), and before its features (`kind`).
        joined = rows.repartitionByRange(self._parts, "part").sortWithinPartitions("part", "at", "kind", "seq")
        answers = self._persist(joined.mapInArrow(self._task.answer, ANSWERS))
        answers.count()  # computes all parts in parallel; the driver then reads them in order
        return answers

    def unpersist(self) -> None:
        """Free the executors' disks."""
        for frame in self._persisted:
            frame.unpersist()

    def _folded_users(self, prepared: Any) -> Any:  # noqa: ANN401
        from stream_app.replay.spark.spark_tasks import FEATURES

        events = prepared.where("columns is not null")
        keys = [f"key_{kind}" for kind in self._users]
        by = keys[0]
        grouped = (
            events.select("part", "at", "columns", *keys).repartition(self._parts, by).sortWithinPartitions(by, "part", "at")
        )
        return self._persist(grouped.mapInArrow(self._task.users, FEATURES))

    def _folded_kinds(self, prepared: Any, users: Any) -> Any:  # noqa: ANN401
        from stream_app.replay.spark.spark_tasks import FEATURES

        f = self._f
        one_each = f.array(*(f.struct(f.lit(k).alias("kind"), f.col(f"key_{k}").alias("key")) for k in self._task.kinds))
        events = prepared.where("columns is not null").select("part", "at", "columns", f.explode(one_each).alias("entity"))
        events = events.select("part", "at", "columns", "entity.kind", "entity.key").where("length(key) > 0")
        flagged = users.where("late_by_ms > 0 or duplicate_of >= 0").select("part", "at", "late_by_ms", "duplicate_of")
        on_time = events.join(flagged, ["part", "at"], "left").where("late_by_ms is null or late_by_ms = 0")
        on_time = on_time.select(
            "part", "at", "columns", "kind", "key", f.coalesce("duplicate_of", f.lit(-1)).alias("duplicate_of")
        )
        grouped = on_time.repartition(self._parts, "kind", "key").sortWithinPartitions("kind", "key", "part", "at")
        return grouped.mapInArrow(self._task.shared, FEATURES)

    def _persist(self, frame: Any) -> Any:  # noqa: ANN401
        from pyspark import StorageLevel

        self._persisted.append(frame.persist(StorageLevel.DISK_ONLY))
        return self._persisted[-1]
