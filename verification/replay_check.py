"""A live run on real services, recorded and replayed: by its journal, by event time, on one process, on four, and on Spark.

The clickstream, card transactions and a simulated shop (with its late, repeated and malformed events) come in while two workers
run, one of which is killed (-9) on the way; what the model saw of each event is recorded. All topics then go to files, and
`millrace replay` replays them:

- in the order of the journal: features and answers must be those of the live run, to the bit;
- by event time, twice on one process, once on four, once on Spark: the four must be the same, file by file.

The last line is JSON. Exit status 1 if anything differs that must not; then the folders stay for inspection.

Keys: `events` answered live; `commits` of the journal; `journal_differences`, `repeat_differences`, `process_differences`,
`spark_differences`: events that differ (or files, where the same messages stand in another order); `spark` null where Java or
pyspark is missing; `canonical_vs_live_share` of the events differs in features or answers between the two orders, by time of
scoring alone not; `canonical_vs_live_features` the features that differ in most events, with the share of the events;
`canonical_vs_live_answers` the same of answers; `kills`; `data` real or simulated; `seconds`.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException

from devservices import real
from model.digest import file_sha256
from stream_app.features.catalog import CATALOGUE
from stream_app.logs.recording import RecordedRun
from stream_app.replay.compare import ReplayDifferences, compare
from stream_app.reporting.provenance import origin
from verification.disturbances import Disturbance
from verification.e2e import Run
from verification.harness.command import data_option, files_of, home_option, reporting
from verification.harness.namespace import RunNamespace
from verification.harness.processes import Fleet, die_on_sigterm, run_python
from verification.harness.results import print_figures, save_option

_FULL, _SHORT = 20_000, 3_000  # of each file
_LIMIT_S = 900.0
_SETTINGS = {
    "MILLRACE_FEATURES_RECORD": "true",
    "MILLRACE_MODEL_ENGINE": "onnxruntime",
    "MILLRACE_WORKER_BATCH_EVENTS": "256",  # many commits, so that those of the two workers interleave
}
_SHOWN = 15
_NAMES = [feature.name for feature in CATALOGUE.features]


class RecordedLive(Run):
    """A live run in which one worker is killed, and whose events also come late, twice or malformed."""

    def start_imports(self, imports: Fleet) -> None:
        """Import the files, and simulate a shop beside them."""
        super().start_imports(imports)
        count = str(self.limits["shop"])
        shares = (
            "--late-share",
            "0.02",
            "--out-of-order-share",
            "0.02",
            "--duplicate-share",
            "0.02",
            "--malformed-share",
            "0.005",
        )
        arguments = ["stream_app", "simulate", "--no-live", "--rate", "0", "--events", count, *shares]
        imports.start("simulate", arguments, self.space.settings())

    def disturbances(self, workers: Fleet, imports: Fleet) -> list[Disturbance]:
        """Kill one worker when a third is answered."""
        return [Disturbance("kill", 0.33, lambda: self.replace_worker(workers, "worker-0", kill=True))]


@dataclass(frozen=True)
class Replays:
    """Replays of one recording, each in a folder of its own."""

    space: RunNamespace
    folder: Path

    def recorded(self) -> Path:
        """Write the topics to files."""
        self._run("record", str(self.folder / "recorded"))
        return self.folder / "recorded"

    def by_journal(self) -> Path:
        """Replay in the journal's order."""
        return self._replay("journal", str(self.folder / "recorded"), "--order", "journal")

    def canonical(self, name: str, *options: str) -> Path:
        """Replay by event time."""
        return self._replay(name, str(self.folder / "recorded" / "log"), *options)

    def _replay(self, name: str, log: str, *options: str) -> Path:
        out = self.folder / name
        self._run("replay", log, "--out", str(out), *options)
        return out

    def _run(self, *arguments: str) -> None:
        run_python(["stream_app", *arguments], self.space.settings(), self.folder / "replay.log", _LIMIT_S)


def unequal(one: Path, other: Path) -> int:
    """Return how many events differ between two replays; if none, how many files are not the same bytes."""
    comparison = compare(one, other, _NAMES)
    if not comparison.same:
        return max(1, comparison.differing_events)
    files = sorted(path.name for path in one.glob("*.jsonl"))
    return sum(file_sha256(one / name) != file_sha256(other / name) for name in files)


def _largest(comparison: ReplayDifferences, topic_is_features: bool) -> dict[str, float]:
    chosen = Counter(
        {name: count for name, count in comparison.fields.items() if name.startswith("features: ") == topic_is_features}
    )
    return {name.removeprefix("features: "): round(count / comparison.events, 5) for name, count in chosen.most_common(_SHOWN)}


def figures(replays: Replays, *, with_spark: bool, say: Any) -> dict[str, Any]:  # noqa: ANN401 (a function of a line)
    """Record and replay; return what differs."""
    say("recording the topics")
    recorded = replays.recorded()
    say("replaying by the journal")
    journal = compare(recorded, replays.by_journal(), _NAMES)
    if not journal.same:
        say(f"the first difference: {journal.first}")
    say("replaying by event time: one process, again, four processes")
    one = replays.canonical("canonical")
    again = unequal(one, replays.canonical("again", "--batch", "777"))
    four = unequal(one, replays.canonical("four", "--processes", "4"))
    spark = None
    if with_spark:
        say("replaying on Spark")
        spark = unequal(one, replays.canonical("spark", "--engine", "spark", "--spark-master", "local-cluster[2,1,1024]"))
    say("comparing the two orders")
    orders = compare(recorded, one, _NAMES, ignore=("scored_time_ms",))
    return {
        "events": journal.events,
        "messages": journal.messages,
        "commits": len(RecordedRun(recorded).journal()),
        "features_recorded": journal.features,
        "journal_differences": journal.differing_events + journal.unequal_repeats,
        "repeat_differences": again,
        "process_differences": four,
        "spark_differences": spark,
        "canonical_vs_live_share": round(orders.differing_events / orders.events, 5),
        "canonical_vs_live_features": _largest(orders, topic_is_features=True),
        "canonical_vs_live_answers": _largest(orders, topic_is_features=False),
    }


def _good(comparison: dict[str, Any]) -> bool:
    names = ("journal_differences", "repeat_differences", "process_differences", "spark_differences")
    return comparison["features_recorded"] and not any(comparison[name] for name in names)


@click.command()
@data_option()
@click.option("--rows", type=click.IntRange(1), help=f"Rows of each of the two files; default {_FULL:,}.")
@click.option("--short", is_flag=True, help=f"{_SHORT:,} of each; made up where the files are absent, and said so.")
@click.option("--spark/--no-spark", default=None, help="Default: where pyspark and Java are, and not with --short.")
@save_option
@home_option
def main(data: Path, rows: int | None, short: bool, spark: bool | None, save: bool, home: Path) -> None:
    """Prove that a replay is the live run, to the bit; the last line is JSON.

    Example: python -m verification.replay_check --short
    """
    die_on_sigterm()
    begin, count = time.monotonic(), rows or (_SHORT if short else _FULL)
    with_spark = (not short and find_spec("pyspark") is not None and shutil.which("java") is not None) if spark is None else spark
    with reporting(KafkaException) as reporter:
        services = real.up(home, reporter.say)
        space = RunNamespace.fresh("rc-", services, home, _SETTINGS)
        files = files_of(data, space.folder / "data", count, count, reporter, short=short)
        run = RecordedLive(home, space, files, {"taobao": count, "cards": count, "shop": count}, reporter)
        schedule, _ = run.go()
        comparison = figures(Replays(space, space.folder), with_spark=with_spark, say=reporter.say)
    report = {
        **comparison, "kills": schedule.count("kill"), "workers": 2, "data": files.kind,
        "seconds": round(time.monotonic() - begin, 1), **origin(),
    }  # fmt: skip
    if _good(comparison):
        space.remove()
        for name in ("recorded", "journal", "canonical", "again", "four", "spark"):
            shutil.rmtree(space.folder / name, ignore_errors=True)
    else:
        click.echo(f"recording and replays are left in {space.folder}", err=True)
    print_figures("replay_check", report, save=save)
    if not _good(comparison):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
