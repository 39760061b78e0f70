"""One row of the results file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
