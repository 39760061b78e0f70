"""What a person sees of a training while it runs, on standard error; standard output is for the one line of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click

from model.tasks import Task
from stream_app.reporting.progress import Reporter
from training.evaluation.baselines import baselines_of
from training.fit.progress import EpochReport, TrainingCallbacks


class TrainingConsole:
    """Progress and figures; `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, sentence: str) -> None:
        """Show one line."""
        if not self._quiet:
            click.echo(sentence, err=True)

    @contextmanager
    def training(self, title: str) -> Iterator[TrainingCallbacks]:
        """Show the progress of its steps, and a line for each epoch, while the block runs."""
        if self._quiet:
            yield TrainingCallbacks()
            return
        with Reporter() as reporter:
            yield TrainingCallbacks(
                step=lambda done, steps: reporter.at(title, done, steps, "steps"),
                epoch=lambda report: reporter.say(_line(report)),
            )

    def figures(
        self, tasks: Sequence[Task], metrics: Mapping[str, Mapping[str, float]], floors: Mapping[str, Mapping[str, float]]
    ) -> None:
        """Show each task's own metric and the best of its floors."""
        for task in tasks:
            value = metrics[task.name].get(task.metric, float("nan"))
            text = ", ".join(f"{way} {floor:.4f}" for way, floor in baselines_of(floors.get(task.name, {}), task.metric).items())
            self.say(f"{task.name}: {task.metric} {value:.4f}{f'  (floors: {text})' if text else ''}")


def _line(report: EpochReport) -> str:
    losses = "  ".join(f"{task} {value:.4f}" for task, value in report.validation.items())
    return f"epoch {report.epoch}: validation {losses}{'  (best)' if report.best else ''}"
