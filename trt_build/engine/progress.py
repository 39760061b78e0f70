"""Progress of a build on the screen, by TensorRT's phases and steps; an inner phase stands indented below its outer phase.

TensorRT calls from its own threads; rich's display is thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from model.tensorrt.protocols import ProgressMonitor, TensorRt


@contextmanager
def display() -> Iterator[Progress]:
    """Show progress on stderr within the context; without a terminal only the final state is printed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def progress_monitor(trt: TensorRt, progress: Progress) -> ProgressMonitor:
    """Return an `IProgressMonitor` that shows phases in `progress`."""
    tasks: dict[str, tuple[TaskID, int]] = {}  # phase -> its line and its depth

    def start(self: object) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(_self: object, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        depth = tasks[parent_phase][1] + 1 if parent_phase in tasks else 0
        tasks[phase_name] = (progress.add_task("  " * depth + phase_name, total=num_steps), depth)

    def step_complete(_self: object, phase_name: str, step: int) -> bool:
        if phase_name in tasks:
            progress.update(tasks[phase_name][0], completed=step + 1)
        return True  # False would end the build

    def phase_finish(_self: object, phase_name: str) -> None:
        if phase_name in tasks:
            task, depth = tasks.pop(phase_name)
            if depth:  # the outermost phases stay visible
                progress.remove_task(task)

    members = {"__init__": start, "phase_start": phase_start, "step_complete": step_complete, "phase_finish": phase_finish}
    derived: Callable[[], ProgressMonitor] = type("_Monitor", (trt.IProgressMonitor,), members)
    return derived()
