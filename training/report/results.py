"""The results of record: `results/results.json`, written by the commands that measured them, and the page generated from it.

A row is one metric of one way on one data set, over its seeds. Rows are replaced by (name, dataset, metric), so a command that
runs again corrects its own rows and no other. Baseline and published figure of each row are looked up again whenever the file is
written: from the baselines of the row's own run, boosted trees on the same rows where the file has them, and
`training.report.references`.

Several trainings may write at once: the file's folder is locked, and the file is replaced as a whole.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from devservices.state import write_atomically
from stream_app.errors import ContractError
from stream_app.reporting.provenance import origin
from training.evaluation.baselines import baselines_of
from training.evaluation.metrics import higher_is_better
from training.report.references import NOTES, Reference, reference_of
from training.report.results_page import OTHER_SPLIT, ResultRow, results_markdown

Metrics = Mapping[str, Mapping[str, float]]
RECORD: Final = Path("results/results.json")  # from the folder of the checkout, as is the page
_PAGE: Final = Path("docs/results.md")
# Figures of a report that are no results.
_NOT_RESULTS: Final = frozenset(
    {"rows", "threshold", "rejection_threshold", "trees", "trained_rows", "brier", "in_scope_accuracy_if_never_refused"}
)
_TREES: Final = "lightgbm (control)"  # the rows of boosted trees: a baseline of the other rows
_UNNAMED: Final = "on the same rows"  # in files that do not name the baseline
_STEP: Final = ("training", "ms_per_step")  # task and metric of the time of a step


def default_name(sharing: str, neighbour_weight: float) -> str:
    """Return the default name of a way."""
    return "hybrid (network + neighbours)" if neighbour_weight else sharing


def step_time(epochs: Iterable[Mapping[str, Any]]) -> float | None:
    """Return the median of `ms_per_step` over the records of epochs; None if none has it."""
    known = [epoch["ms_per_step"] for epoch in epochs if epoch.get("ms_per_step") is not None]
    return float(np.median(known)) if known else None


def with_step_time(metrics: Metrics, epochs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the metrics and the time of a training step, as `training.ms_per_step`, if `epochs` have it."""
    step_ms, (task, metric) = step_time(epochs), _STEP
    return {name: dict(values) for name, values in metrics.items()} | ({} if step_ms is None else {task: {metric: step_ms}})


def rows_from_metrics(
    name: str, dataset: str, of_seeds: Sequence[Metrics], floors: Metrics, command: str, only: Sequence[str] = ()
) -> list[ResultRow]:
    """Return a row for each metric of each task of a way, with its references (`with_references`).

    Args:
        name: of the way.
        dataset: name of the data set.
        of_seeds: task -> metric -> value, one for each seed, in the order of the seeds.
        floors: task -> `<way>_<metric>` -> value, measured on the same rows.
        command: that was run.
        only: metrics to take, as "auc" or "income.auc"; all results if empty. The time of a step is always taken, and with a
            metric of a hybrid that of its network alone.
    """
    here, rows = origin(), []
    for task, metrics in of_seeds[0].items():
        for metric in metrics:
            values = [seed[task][metric] for seed in of_seeds if math.isfinite(seed.get(task, {}).get(metric, math.nan))]
            if not values or not _is_result(task, metric, only):
                continue
            row = ResultRow(
                name=name,
                dataset=dataset,
                metric=f"{task}.{metric}",
                value=float(np.mean(values)),
                spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                seeds=len(values),
                floors=baselines_of(floors.get(task, {}), metric),
                higher_is_better=higher_is_better(metric),
                command=command,
                commit=str(here["commit"]),
                machine=f"{here['machine']}, {here['cores']} cores",
                date=str(here["date"]),
                values=tuple(values) if len(values) > 1 else (),
            )
            rows.append(row)
    return with_references(rows)


def with_references(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Return the rows with floor, published figure and note of each, looked up among all of them.

    The floor is the best of: the baselines of the row's own run, boosted trees on the same data set (except for their own row),
    and the reference; a reference of another split only where there are no such trees.
    """
    by_key = {row.key: row for row in rows}
    return [_with_references(row, by_key) for row in by_key.values()]


def read_rows(path: Path) -> list[ResultRow]:
    """Return the rows of a file, in its order; none if there is no file.

    Raises:
        ContractError: The file is not a results file.
    """
    if not path.exists():
        return []
    known = ", ".join(sorted(field.name for field in fields(ResultRow)))
    try:
        rows = json.loads(path.read_text())["rows"]
        return [ResultRow(**{**row, "values": tuple(row.get("values", ()))}) for row in rows]
    except (ValueError, KeyError, TypeError) as err:
        raise ContractError(
            f'{path} is no file of results ({err}); it holds {{"rows": [...]}} with {known}. '
            "Operator action: name another file with --results, or restore this one."
        ) from err


def page_of(path: Path) -> Path:
    """Return the page of a file of results: beside it, or `docs/results.md` for the results of record."""
    return _PAGE if path.resolve() == RECORD.resolve() else path.with_suffix(".md")


def add_rows(path: Path, rows: Iterable[ResultRow]) -> None:
    """Put rows into the file, each replacing the row of its key, and write the page (`page_of`).

    A row without a published figure or floors of its own keeps those of the row that it replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        by_key = {row.key: row for row in read_rows(path)}
        for row in rows:
            old = by_key.get(row.key, row)
            published = row.published if row.published is not None else old.published
            by_key[row.key] = replace(row, floors=_measured(row) or _measured(old), published=published)
        ordered = sorted(with_references(by_key.values()), key=lambda row: (row.dataset, row.metric, row.name))
        filled = [
            {name: value for name, value in asdict(row).items() if name not in {"values", "floors"} or value} for row in ordered
        ]
        write_atomically(path, json.dumps({"rows": filled}, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        page = page_of(path)
        write_atomically(page, results_markdown(ordered, os.path.relpath(path, page.parent)))


def _is_result(task: str, metric: str, only: Sequence[str]) -> bool:
    if not only or (task, metric) == _STEP:
        return metric not in _NOT_RESULTS
    return bool({metric, (whole := metric.removeprefix("alone_")), f"{task}.{metric}", f"{task}.{whole}"} & set(only))


def _with_references(row: ResultRow, by_key: Mapping[tuple[str, str, str], ResultRow]) -> ResultRow:
    task, _, metric = row.metric.rpartition(".")
    known, whole = reference_of(row.dataset, task, metric) or Reference(), f"{task}.{metric.removeprefix('alone_')}"
    measured = _measured(row) or _measured(by_key.get((row.name, row.dataset, whole), row))
    ways = dict(measured)
    trees = None if row.name == _TREES else by_key.get((_TREES, row.dataset, whole))
    if trees is not None:
        ways[_TREES] = trees.value
    if known.floor is not None and not (known.other_split and trees is not None):
        ways[known.way + (f", {OTHER_SPLIT}" if known.other_split else "")] = known.floor
    best = (max if row.higher_is_better else min)(ways, key=ways.__getitem__) if ways else ""
    notes = [f"published: {OTHER_SPLIT}"] if known.other_split and known.published is not None else []
    notes += ["the network alone, of a hybrid"] if whole != row.metric else []
    notes += ["hybrid: network + neighbours"] if (row.name, row.dataset, f"{task}.alone_{metric}") in by_key else []
    notes += [NOTES[row.dataset]] if row.dataset in NOTES and (ways or known.published is not None) else []
    return replace(
        row,
        floor=ways.get(best),
        floor_from=best,
        floors=measured,
        published=row.published if known.published is None else known.published,
        note="; ".join(notes),
    )


def _measured(row: ResultRow) -> Mapping[str, float]:
    """Return the baselines of the row's own run; for a row without names, its floor if that is not the reference's."""
    task, _, metric = row.metric.rpartition(".")
    known = reference_of(row.dataset, task, metric) or Reference()
    if row.floors or row.floor_from or row.floor is None or row.floor == known.floor:
        return row.floors
    return {_UNNAMED: row.floor}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
