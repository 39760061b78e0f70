"""The output of `millrace models`: the stages, the artefacts, the workers, a comparison of two models."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.table import Table

from stream_app.clock import Clock
from stream_app.errors import EngineNotHereError, InputFileError
from stream_app.inference.artifact import load_manifest, load_samples
from stream_app.inference.engines.plans import verified_plans
from stream_app.inference.engines.selection import engine_of
from stream_app.inference.loading import RankerLoader
from stream_app.inference.ranker import ModelRanker
from stream_app.inference.registry.answer_deltas import AnswerSide, Deltas, row_deltas, summarise
from stream_app.inference.registry.document import StageChange, Stages, WorkerStatus
from stream_app.inference.registry.model_registry import ModelRegistry

_DEAD_AFTER_MS: Final = 60_000  # four times as long as a worker stays silent
_LOOK_S: Final = 0.2
_SLICE: Final = 256  # rows of one call
_BAR: Final = 40  # characters
_STAGES: Final = ("champion", "previous", "challenger", "shadow")
_MEANING: Final = {
    "fraud_mean": "fraud probability, mean difference",
    "click_mean": "click probability, mean difference",
    "intent_mean": "intent, total variation",
    "next_action_mean": "next action, total variation",
    "alert_flips": "alerts that flip",
    "intent_flips": "intents that flip",
    "next_action_flips": "next actions that flip",
    "candidate_overlap": "candidates in common",
}


def whoami() -> str:
    """Return the author of a change of the registry: the user of this process, and the machine."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a number without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def check_artefact(folder: Path, loader: RankerLoader) -> str:
    """Load an artefact as a worker would, and return what was checked here and what only a worker's own machine can check.

    Where the configured engine needs a GPU that this machine lacks, the model is tested on the CPU, and of TensorRT plans the
    files are compared with their manifests.

    Raises:
        ContractError: No worker with these settings could load the artefact; the message has the fix.
    """
    not_here = ""
    try:
        ranker = loader.load(folder)
    except EngineNotHereError as error:
        plans = verified_plans(folder, load_manifest(folder))
        if loader.engine == "tensorrt" and not any(loader.precision in {"", plan.precision} for _, plan in plans):
            raise  # on no machine
        ranker, not_here = replace(loader, engine="onnxruntime").load(folder), str(error)
    with closing(ranker):
        plans, engine = verified_plans(folder, ranker.scorer.manifest), engine_of(ranker.scorer)
    checked = [f"answers as recorded on {engine}"]
    if not_here:
        why = not_here.partition(" Operator action")[0].rstrip(".")
        checked.append(f"not tested on {loader.engine}, which cannot run here ({why})")
    if plans and engine != "tensorrt":
        names = ", ".join(path.name for path, _ in plans)
        checked.append(
            f"TensorRT plans {names}: files and manifests only, since no GPU ran them; a worker tests the one it loads"
        )
    return "; ".join(checked)


def living(registry: ModelRegistry, now_ms: int) -> list[WorkerStatus]:
    """Return the statuses of the last minute."""
    return [status for status in registry.workers() if now_ms - status.seen_ms <= _DEAD_AFTER_MS]


def await_workers(
    registry: ModelRegistry, change: StageChange, clock: Clock, limit_s: float
) -> tuple[list[WorkerStatus], list[str]]:
    """Wait until every living worker has applied or refused a change, or a later one.

    Returns:
        The statuses of these workers, and the names of workers without an answer after `limit_s` seconds.
    """
    deadline = time.monotonic() + limit_s
    while True:
        workers = living(registry, clock.now_ms())
        done = [status for status in workers if _has_seen(status, change)]
        if len(done) == len(workers) or time.monotonic() >= deadline:
            return done, [status.worker for status in workers if not _has_seen(status, change)]
        time.sleep(_LOOK_S)


def _has_seen(status: WorkerStatus, change: StageChange) -> bool:
    """Compare number and time: numbers repeat when stages are deleted and created again."""
    since = not status.at_ms or status.at_ms >= change.at_ms  # an older release writes no time
    return status.revision >= change.revision and since


def overview(registry: ModelRegistry, now_ms: int) -> dict[str, Any]:
    """Return the output of `list` as JSON values."""
    stages = registry.stages()
    return {
        "registry": registry.place,
        "revision": stages.revision,
        "line_up": {name: getattr(stages.line_up, name) for name in (*_STAGES, "percent")},
        "models": [{"version": version, "stage": _stage(stages, version)} for version in registry.versions()],
        "workers": [msgspec.to_builtins(status) for status in living(registry, now_ms)],
        "history": [msgspec.to_builtins(change) for change in stages.history],
    }


def models_table(registry: ModelRegistry) -> Table:
    """Return the artefacts with their stage and figures of their training."""
    stages = registry.stages()
    table = Table("version", "stage", "preset", "commit", "fraud threshold")
    for version in registry.versions():
        manifest = load_manifest(registry.folder(version))
        table.add_row(version, _stage(stages, version), manifest.preset, manifest.commit[:12], f"{manifest.fraud_threshold:.4g}")
    return table


def workers_table(workers: list[WorkerStatus]) -> Table:
    """Return the statuses of workers as a table."""
    table = Table("worker", "serves", "change", "outcome", "why")
    for status in workers:
        table.add_row(status.worker, status.serving, str(status.revision), status.outcome, status.reason)
    return table


def recorded_inputs(path: Path) -> dict[str, np.ndarray]:
    """Read recorded rows: an artefact's folder, or an `.npz` file with arrays `in_<tensor>` as in `samples.npz`.

    Raises:
        InputFileError: It is neither.
        ContractError: The artefact is damaged.
    """
    if path.is_dir():
        return load_samples(path, load_manifest(path))[0]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs = {name.removeprefix("in_"): values for name, values in arrays.items() if name.startswith("in_")}
    except (OSError, ValueError) as error:
        raise InputFileError(
            f"{path} is no npz file of recorded inputs: {error}; give an artefact's folder or its samples.npz"
        ) from error
    if not inputs:
        raise InputFileError(f"{path} has no arrays called in_<tensor>; give an artefact's folder or a file like its samples.npz")
    return inputs


def compare(a: ModelRanker, b: ModelRanker, inputs: dict[str, np.ndarray], progress: Callable[[int, int], None]) -> Deltas:
    """Score recorded rows with both models; `progress` gets the number of scored rows and of all."""
    rows, parts = len(next(iter(inputs.values()))), []
    for start in range(0, rows, _SLICE):
        part = {name: values[start : start + _SLICE] for name, values in inputs.items()}
        parts.append(row_deltas(AnswerSide(a.answer(part), a.norms), AnswerSide(b.answer(part), b.norms)))
        progress(min(start + _SLICE, rows), rows)
    columns = zip(*parts, strict=True)
    return summarise(type(parts[0])(*(np.concatenate(column) for column in columns)))


def bars(deltas: Deltas) -> list[str]:
    """Return the comparison as lines for a terminal: one bar for each share or mean, 0 to 1."""
    lines = []
    for name, meaning in _MEANING.items():
        value = float(getattr(deltas, name))
        lines.append(f"{meaning:<36} {value:8.4f} {'█' * round(min(value, 1.0) * _BAR):<{_BAR}}|")
    return lines


def _stage(stages: Stages, version: str) -> str:
    named = [name for name in _STAGES if getattr(stages.line_up, name) == version]
    if "challenger" in named:
        named[named.index("challenger")] = f"challenger {stages.line_up.percent:g} %"
    return ", ".join(named)
