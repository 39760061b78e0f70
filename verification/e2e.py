"""Run the main job on real services with faults, and check every answer and every stored counter.

The real clickstream and card transactions are imported while two workers run; one is killed (-9), the broker is restarted, the
other worker gets SIGTERM; each comes back. When all events have answers, every output topic is read from its beginning
(`verification.harness.answer_audit`), and every key of the store is compared with what `verification.oracle` computes from the
raw files.

The last line is JSON. Exit status 1 if an answer is missing, a repeated one differs, or state differs; then topics and
keys stay for inspection, and the report above the JSON shows the first examples.

Keys: `events` source records; `answers` distinct ids by topic; `missing` answers; `duplicates` ids published more than
once; `duplicates_differing` those with other bytes; `needless` answers to nothing; `id_faults`, `unreadable`;
`state_keys_compared`, `state_values_compared`, `state_differences` (keys); `sequences_compared`, all entry by entry, of
which `sequences_of_one_topic` have one possible order; `sessions_compared`, of which those `sessions_of_known_order` whole and
the others by their last event's time; `import_faults` rows of a user that are not once in the source
topics; `store_faults` position, outbox and index of replicas; `journal_faults` offsets that are not committed exactly
once; `commits`; `late`, `dead_letters`; `kills`, `sigterms`, `broker_restarts` (done while answers were still to come),
`disturbed_at` (share of the answers seen), `worker_restarts` (crashes), `clean_exits` (after SIGTERM, of 3); `data` real
or simulated; `seconds`, verification included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from confluent_kafka import KafkaException

from devservices import real
from stream_app.events import SOURCE_TOPICS
from stream_app.reporting.progress import Reporter
from stream_app.reporting.provenance import origin
from verification.disturbances import Disturbance, Schedule
from verification.harness.command import data_option, files_of, home_option, reporting
from verification.harness.namespace import PARTITIONS, RunNamespace
from verification.harness.offsets import Meter
from verification.harness.processes import Fleet, FleetError, die_on_sigterm, log_tail
from verification.harness.raw_files import RawFiles
from verification.harness.results import print_figures, save_option
from verification.stored_state import read_fronts
from verification.verify import AuditVerdict, verify

_WORKERS = ("worker-0", "worker-1")
_ALL_TAOBAO, _CARDS, _SHORT = 110_300, 200_000, 8_000
_POLL_S = 0.05  # short: the disturbances must meet a run that is still going on
_IDLE_LIMIT_S = 120.0  # without one new answer; a takeover after kill -9 takes the session timeout, 10 s
_IMPORT_LIMIT_S = 600.0


@dataclass(slots=True)
class Run:
    """One run in its own space, on the services of `home`."""

    home: Path
    space: RunNamespace
    files: RawFiles
    limits: dict[str, int]
    reporter: Reporter
    started: float = field(default_factory=time.monotonic)
    clean_exits: int = 0

    def go(self) -> tuple[Schedule, int]:
        """Import and score everything, disturbed on the way; return the disturbances and how often workers crashed.

        Raises:
            FleetError: An import failed, workers crash in a loop, or no answer came for two minutes.
        """
        self.space.create_topics()
        with Fleet(self.space.folder) as workers, Fleet(self.space.folder) as imports:
            for name in _WORKERS:
                workers.start(name, ["stream_app", "worker"], self._settings(name))
            self.start_imports(imports)
            schedule = Schedule(self.disturbances(workers, imports))
            self._watch(workers, imports, schedule)
            self.clean_exits += sum(workers.terminate(name) for name in _WORKERS)
            return schedule, workers.self_exits

    def disturbances(self, workers: Fleet, imports: Fleet) -> list[Disturbance]:
        """Return the disturbances of the run."""
        return [
            Disturbance("kill", 0.15, lambda: self.replace_worker(workers, "worker-0", kill=True)),
            Disturbance("broker restart", 0.45, lambda: self._restart_broker(imports)),
            Disturbance("sigterm", 0.70, lambda: self.replace_worker(workers, "worker-1", kill=False)),
        ]

    def _settings(self, name: str) -> dict[str, str]:
        return {**self.space.settings(), "MILLRACE_WORKER_INSTANCE": name}

    def start_imports(self, imports: Fleet) -> None:
        """Start what produces the events."""
        for mapping, path in (("taobao", self.files.taobao), ("cards", self.files.cards)):
            limit = ["--limit", str(self.limits[mapping])]
            arguments = ["stream_app", "import", str(path), "--mapping", mapping, "--restart", *limit]
            imports.start(f"import-{mapping}", arguments, self.space.settings())

    def replace_worker(self, workers: Fleet, name: str, *, kill: bool) -> None:
        """End a worker, at once or in order, and start it again."""
        if kill:
            workers.kill(name)
        else:
            self.clean_exits += workers.terminate(name)
        workers.restart(name)

    def _restart_broker(self, imports: Fleet) -> None:
        # The imports end first: what is proven here is the workers.
        deadline = time.monotonic() + _IMPORT_LIMIT_S
        while not self._imported(imports):
            if time.monotonic() > deadline:
                raise FleetError(f"the imports did not end within {_IMPORT_LIMIT_S:.0f} s; see {self.space.folder}")
            time.sleep(_POLL_S)
        real.restart_kafka(self.home, progress=self.reporter.say)

    def _imported(self, imports: Fleet) -> bool:
        """Return whether both imports have ended, and well."""
        for name in imports.names():
            status = imports.ended(name)
            if status is None:
                continue
            if status != 0:
                log = imports.log(name)
                raise FleetError(f"{name} ended with status {status}; the end of {log}:\n{log_tail(log)}")
            imports.forget(name)
        return not imports.names()

    def _watch(self, workers: Fleet, imports: Fleet, schedule: Schedule) -> None:
        """Poll until every event has its answers, injecting the disturbances that are due."""
        meter, total = self.space.meter(), sum(self.limits.values())
        labels = self.space.topic("intent-labels")
        last, moved = 0, time.monotonic()
        while True:
            imported = self._imported(imports)
            workers.tend()
            answered = meter.count(labels)
            if answered is not None and answered != last:
                last, moved = answered, time.monotonic()
            self.reporter.at("answered", min(last, total), total)
            due = schedule.step(last / total)
            if due is not None:
                self.reporter.say(f"{due.what} at {last:,} of {total:,} answers")
                moved = time.monotonic()
            elif imported and not schedule.waiting and self._settled(meter, last):
                return
            if time.monotonic() - moved > _IDLE_LIMIT_S:
                raise FleetError(self._stuck(meter, last, total))
            time.sleep(_POLL_S)

    def _settled(self, meter: Meter, answered: int) -> bool:
        """Return whether every record is applied by the store, and there are as many answers.

        Repeats count as answers, but what is applied and not yet published is in a worker's hands and comes before it
        ends.
        """
        topic, redis_url = self.space.topic, self.space.services.redis.url
        candidates = meter.count(topic("recommendation-candidates"))
        refused = meter.count(topic("dead-letters"), topic("late-events"))
        if candidates is None or refused is None:
            return False
        ends = meter.ends([topic(name) for name in SOURCE_TOPICS])
        fronts = read_fronts(redis_url, self.space.name, PARTITIONS)
        applied = {(topic(name.removeprefix(self.space.topic_prefix)), group): at for (name, group), at in fronts.items()}
        behind = any(applied.get(where, 0) < end for where, end in ends.items())
        return not behind and min(answered, candidates) + refused >= sum(ends.values())

    def _stuck(self, meter: Meter, answered: int, total: int) -> str:
        sources = meter.ends([self.space.topic(name) for name in SOURCE_TOPICS])
        labels = meter.ends([self.space.topic("intent-labels")])
        lines = []
        for group in range(PARTITIONS):
            events = sum(end for (_, partition), end in sources.items() if partition == group)
            answers = sum(end for (_, partition), end in labels.items() if partition == group)
            lines.append(f"  partition {group}: {events:,} events, {answers:,} labels")
        logs = "\n".join(f"{name}:\n{log_tail(self.space.folder / f'{name}.log')}" for name in _WORKERS)
        return (
            f"no new answer for {_IDLE_LIMIT_S:.0f} s at {answered:,} of {total:,} events:\n"
            + "\n".join(lines)
            + f"\nThe ends of the workers' logs, in {self.space.folder}:\n{logs}"
        )


def report(run: Run, schedule: Schedule, self_exits: int, verdict: AuditVerdict) -> dict[str, Any]:
    """Return the figures of the run."""
    return {
        **verdict.figures(),
        "kills": schedule.count("kill"),
        "sigterms": schedule.count("sigterm"),
        "broker_restarts": schedule.count("broker restart"),
        "disturbed_at": dict(schedule.done),
        "worker_restarts": self_exits,
        "clean_exits": run.clean_exits,
        "workers": len(_WORKERS),
        "data": run.files.kind,
        "engine": run.space.extra["MILLRACE_MODEL_ENGINE"],
        "seconds": round(time.monotonic() - run.started, 1),
        **origin(),
    }


@click.command()
@data_option()
@click.option("--taobao", type=click.IntRange(1), help=f"Rows of the clickstream; default {_ALL_TAOBAO:,}.")
@click.option("--cards", type=click.IntRange(1), help=f"Card transactions, the earliest ones; default {_CARDS:,}.")
@click.option("--short", is_flag=True, help=f"{_SHORT:,} of each; made up where the files are absent, and said so.")
@click.option("--engine", default="auto", show_default=True, help="MILLRACE_MODEL_ENGINE of the workers; `none`: no model.")
@click.option("--keep", is_flag=True, help="Leave topics and keys in place when all is well, too.")
@save_option
@home_option
def main(  # noqa: PLR0913, PLR0917  # one for each option
    data: Path,
    taobao: int | None,
    cards: int | None,
    short: bool,
    engine: str,
    keep: bool,
    save: bool,
    home: Path,
) -> None:
    """Prove on real Kafka and Redis that nothing is lost and nothing counted twice; the last line is JSON.

    Example: python -m verification.e2e --short
    """
    die_on_sigterm()
    limits = {"taobao": taobao or (_SHORT if short else _ALL_TAOBAO), "cards": cards or (_SHORT if short else _CARDS)}
    with reporting(KafkaException) as reporter:
        services = real.up(home, reporter.say)
        space = RunNamespace.fresh("e2e-", services, home, {"MILLRACE_MODEL_ENGINE": engine})
        files = files_of(data, space.folder / "data", limits["taobao"], limits["cards"], reporter, short=short)
        run = Run(home, space, files, limits, reporter)
        schedule, self_exits = run.go()
        reporter.say("all answered; reading everything back")
        verdict = verify(space, files, limits)
    for line in verdict.examples():
        click.echo(line, err=True)
    if verdict.good and not keep:
        space.remove()
    elif not verdict.good:
        click.echo(f"topics {space.topic_prefix}* and keys {space.name}:* are left for inspection", err=True)
    print_figures("e2e", report(run, schedule, self_exits, verdict), save=save)
    if not verdict.good:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
