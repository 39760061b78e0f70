"""A row of the results file, and the page of results: every row beside its baseline and published figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from training.evaluation.significance import holm, paired_all
from training.report.references import Reference, reference_of

CONTROL: Final = "(control)"  # suffix of the names of controls, which do not count for the network
OTHER_SPLIT: Final = "other split"  # suffix of a floor that was measured on other rows
_HEAD: Final = """# Results

Generated from [results.json]({source}) by `python -m training results`; the rows are written by the commands that measured.

A floor is the best baseline without the network (a table, a regression, counting neighbours, boosted trees) that was measured on
the same rows or under the same split; without boosted trees among them it may be of another split, and is marked so. A
published figure is from work under the same protocol as far as we know; the note names differences.

*Better* and *worse* mean by more than the spread over the seeds (one standard deviation); *level* means that the spread covers
the difference. With one seed there is no spread, and *better* may be luck. Controls are other models on the same rows; they do
not count in the sums below.
"""


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One figure.

    Attributes:
        name: of the way, such as "mmoe".
        dataset: of the data set, such as "census".
        metric: a task and its metric, such as "income.auc".
        value: mean over the seeds.
        spread: standard deviation over the seeds; None for one seed.
        seeds: how many trainings.
        floor: the best known baseline; None if there is none.
        floor_from: name of that baseline; marked if it is of another split.
        floors: name -> baseline that the row's own run measured on the same rows.
        published: a published figure; None if there is none.
        note: how floor or published figure differ from the value.
        higher_is_better: whether more is better.
        command: that measured it.
        commit: of the code; "+" after it = with changes.
        machine: processor, system, Python.
        date: ISO 8601, UTC.
        values: of each seed, in the order of the seeds, for paired tests.
    """

    name: str
    dataset: str
    metric: str
    value: float
    spread: float | None = None
    seeds: int = 1
    floor: float | None = None
    floor_from: str = ""
    floors: Mapping[str, float] = field(default_factory=dict)
    published: float | None = None
    note: str = ""
    higher_is_better: bool = True
    command: str = ""
    commit: str = ""
    machine: str = ""
    date: str = ""
    values: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """Return name, data set and metric, which identify a row."""
        return self.name, self.dataset, self.metric


def results_markdown(rows: Sequence[ResultRow], source: str = "results.json") -> str:
    """Return the page of the rows, in any order; `source` is the link from the page to the results file."""
    ordered = sorted(rows, key=lambda row: (row.dataset, row.metric, row.name))
    parts = [_HEAD.format(source=source), _summary(ordered)]
    for dataset, of_dataset in groupby(ordered, key=lambda row: row.dataset):
        group = list(of_dataset)
        parts += [f"## {dataset}\n", _table(group), _sources(group), _tests(group), _origins(group)]
    return "\n".join(part for part in parts if part)


def _summary(rows: Sequence[ResultRow]) -> str:
    if not rows:
        return "No results yet.\n"
    ours = [row for row in rows if not row.name.endswith(CONTROL)]
    floors: dict[bool, list[str]] = {False: [], True: []}
    for row in ours:
        if row.floor is not None:
            floors[row.floor_from.endswith(OTHER_SPLIT)].append(_verdict(row, row.floor))
    published = [_verdict(row, row.published) for row in ours if row.published is not None]
    return (
        "\n".join(
            f"Of {len(verdicts)} figures with {name} beside them, {verdicts.count('better')} are better, "
            f"{verdicts.count('level')} level, {verdicts.count('worse')} worse."
            for verdicts, name in (
                (floors[False], "a floor"),
                (floors[True], "a floor of another split"),
                (published, "a published figure"),
            )
            if verdicts
        )
        + "\n"
    )


def _table(rows: Sequence[ResultRow]) -> str:
    lines = [
        "| metric | way | value | seeds | floor | against the floor | floor from | published | against the published | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        metric = row.metric if row.higher_is_better else f"{row.metric} (lower is better)"
        value = _number(row.value) + (f" ± {_number(row.spread)}" if row.spread is not None else "")
        cells = [metric, row.name, value, str(row.seeds)]
        against = [["", ""] if each is None else [_number(each), _verdict(row, each)] for each in (row.floor, row.published)]
        cells += [*against[0], row.floor_from, *against[1], row.note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _verdict(row: ResultRow, beside: float) -> str:
    gained = (row.value - beside) * (1.0 if row.higher_is_better else -1.0)
    if abs(gained) <= (row.spread or 0.0):
        return "level"
    return "better" if gained > 0.0 else "worse"


def _sources(rows: Iterable[ResultRow]) -> str:
    """List the sources of the group's published figures, once each."""
    sources: dict[str, None] = {}
    for row in rows:
        task, _, metric = row.metric.rpartition(".")
        known = reference_of(row.dataset, task, metric) or Reference()
        if known.published is not None and known.published == row.published:
            sources[f"published {row.metric}: {known.source}"] = None
    return "".join(f"- {source}\n" for source in sources)


def _tests(rows: Sequence[ResultRow]) -> str:
    """Compare the ways of a metric, pair by pair, where they have values of several seeds."""
    lines = []
    for metric, of_metric in groupby(rows, key=lambda row: row.metric):
        tests = paired_all({row.name: row.values for row in of_metric if len(row.values) > 1})
        corrected = holm([test.t_test for test in tests.values()])
        lines += [
            f"| {metric} | {second} - {first} | {test.difference:+.4f} | {test.low:+.4f} .. {test.high:+.4f} | "
            f"{test.t_test:.3f} | {p:.3f} | {test.wilcoxon:.3f} | {test.seeds} |"
            for ((first, second), test), p in zip(tests.items(), corrected, strict=True)
        ]
    if not lines:
        return ""
    head = "| metric | pair | mean difference | 95 % interval | p (paired t) | p (Holm) | p (Wilcoxon) | seeds |"
    return "\n".join(["Paired over seeds:\n", head, "| --- | --- | --- | --- | --- | --- | --- | --- |", *lines]) + "\n"


def _origins(rows: Sequence[ResultRow]) -> str:
    """List command, commit and machine of the figures, once for each command."""
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        of_command = names.setdefault((row.command, row.commit, row.machine, row.date), [])
        of_command += [row.name] if row.name not in of_command else []
    return "".join(
        f"- {', '.join(of_command)}: `{command}` at {commit}, {date}, on {machine}\n"
        for (command, commit, machine, date), of_command in sorted(names.items(), key=lambda item: item[1])
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
