"""Rows of files with labels, tasks, scenes, times and split, as the configuration declares them for tables and texts.

[source.split]      see `training.data.parsing.splits`
[[source.labels]]   one for each label: `LabelPlan`
scene = "column"    shop, domain or source of a row; "file" = the name of its file up to the first dot
time = "column"     milliseconds, or seconds below 1e11, since 1970, or ISO 8601
key = "column"      customer of a row, for metrics per customer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.inputs import TableInputs, TextInputs
from model.tasks import Task
from stream_app.errors import ConfigError, ContractError, InputFileError
from training.data.dataset import UNKNOWN, Dataset
from training.data.parsing.columns import ColumnReading, TableColumns, numbers_of, read_files, times_of
from training.data.parsing.section import read_plan
from training.data.parsing.splits import SplitPlan, assign

_SCENES_LIMIT: Final = 127  # segments are int8
_FILE_KEYS: Final = ("train", "validation", "test")


class LabelPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One label, and its task.

    Attributes:
        name: name of the task and of the label.
        column: column of the label.
        kind: `binary` or `classes`.
        positive: binary: texts of the positive class; every other text but a missing one is negative.
        above: binary: instead of `positive`, numbers above it are positive.
        classes: classes: their texts, in order; () = those that occur, sorted.
        by_scene: one task for each scene, with its name, in place of one for all: scenes then share layers as tasks do.
    """

    name: str
    column: str
    kind: Literal["binary", "classes"] = "binary"
    positive: tuple[str, ...] = ()
    above: float | None = None
    classes: tuple[str, ...] = ()
    by_scene: bool = False


class SourcePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Common keys of the sections of tables and texts; see the module.

    Attributes:
        kind: kind of the source.
        train, validation, test: names or patterns of files in the folder, for split `given`; "" = the file of --data.
        missing: texts of an unknown value.
        unique: columns that identify a row: only the first of equal rows is used. () = all rows.
        only: a scene: rows of other scenes are not used. "" = all scenes.
    """

    kind: str
    labels: tuple[LabelPlan, ...]
    reading: ColumnReading = ColumnReading()
    split: SplitPlan = SplitPlan()
    train: str = ""
    validation: str = ""
    test: str = ""
    scene: str = ""
    time: str = ""
    key: str = ""
    missing: tuple[str, ...] = ("", "?", "NA", "NaN", "nan", "null", "None")
    unique: tuple[str, ...] = ()
    only: str = ""


Plan = TypeVar("Plan", bound=SourcePlan)


@dataclass(frozen=True)
class LabelledRows:
    """N rows of files, with everything but their features.

    Attributes:
        columns: the cells.
        labels: name -> (N,) int32, -1 = unknown.
        first: (N,) int32, the first declared label, over all scenes; n-grams are weighted by it.
        tasks: the tasks of the labels.
        split: (N,) int8, codes of training.data.dataset.SPLITS.
        segment: (N,) int8, index of `segments`.
        segments: names of the scenes; one named "all" without scenes.
        time_ms: (N,) int64, 0 where unknown.
        key: (N,) int64.
    """

    columns: TableColumns
    labels: dict[str, NDArray[np.int32]]
    first: NDArray[np.int32]
    tasks: tuple[Task, ...]
    split: NDArray[np.int8]
    segment: NDArray[np.int8]
    segments: tuple[str, ...]
    time_ms: NDArray[np.int64]
    key: NDArray[np.int64]

    @property
    def scene(self) -> NDArray[np.int32]:
        """(N,) int32 scenes as the network reads them: 0 = unknown, 1.. = the scenes in order of `segments`."""
        return self.segment.astype(np.int32) + 1

    def dataset(
        self,
        inputs: dict[str, NDArray[Any]],
        spec: TableInputs | TextInputs,
        fitted: dict[str, NDArray[Any]],
        feature_names: tuple[str, ...] = (),
    ) -> Dataset:
        """Return the data set of these rows."""
        return Dataset(
            inputs=inputs,
            labels=dict(self.labels),
            split=self.split,
            segment=self.segment,
            time_ms=self.time_ms,
            key=self.key,
            tasks=self.tasks,
            spec=spec,
            feature_names=feature_names,
            segments=self.segments,
            fitted=fitted,
        )


def plan_from_section(section: Mapping[str, Any], kind: type[Plan]) -> Plan:
    """Read a [source] section with labels.

    Raises:
        ConfigError: As `read_plan`, or it declares no label.
    """
    plan = read_plan(section, kind)
    if not plan.labels:
        raise ConfigError("[source] declares no label: give at least one [[source.labels]] with name and column")
    return plan


def rows_from_files(path: Path, plan: SourcePlan) -> LabelledRows:
    """Read the files of a source, with labels and split.

    Raises:
        InputFileError: A file or a cell cannot be read; the message names the place and the fix.
        ContractError: There are too many scenes, or a part of the split is empty.
    """
    columns, file_split = _read(path, plan)
    columns, file_split = _selected(columns, file_split, plan)
    scenes = columns[plan.scene] if plan.scene else ["all"] * len(columns)
    segments = tuple(sorted(set(scenes)))
    if len(segments) > _SCENES_LIMIT:
        raise ContractError(
            f"[source] scene {plan.scene!r} has {len(segments)} values, at most {_SCENES_LIMIT} are possible. Operator action: "
            "declare it as a categorical column instead."
        )
    number = {name: code for code, name in enumerate(segments)}
    segment = np.array([number[scene] for scene in scenes], np.int8)
    tasks, labels = _labels(columns, plan, segment, segments)
    time_ms = times_of(columns, plan.time or plan.split.time)
    split = assign(plan.split, _strata(columns, plan, segment), file_split, time_ms)
    key = np.array([crc32(text.encode()) for text in columns[plan.key]] if plan.key else range(len(columns)), np.int64)
    first = _values(columns, plan.labels[0], plan.missing)[1]
    return LabelledRows(columns, labels, first, tasks, split, segment, segments, time_ms, key)


def scenes_of(path: Path, plan: SourcePlan) -> list[str]:
    """Return the names of the scenes in the files of a source, sorted; empty if it declares no scene; as `rows_from_files`."""
    return sorted(set(_read(path, plan)[0][plan.scene])) if plan.scene else []


def _read(path: Path, plan: SourcePlan) -> tuple[TableColumns, NDArray[np.int8] | None]:
    """Return the rows of all files, and their split (N,) by file or column (None for other kinds of split)."""
    parts = {name: pattern for name in _FILE_KEYS if (pattern := str(getattr(plan, name)))}
    if not parts:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder; name the file in it, or the patterns train and test in [source]")
        columns = read_files([path], plan.reading)
        return columns, _split_by_column(columns, plan.split) if plan.split.kind == "given" else None
    files_of = {name: _matches(path, pattern) for name, pattern in parts.items()}
    columns = read_files([file for files in files_of.values() for file in files], plan.reading)
    code = {str(file): _FILE_KEYS.index(name) for name, files in files_of.items() for file in files}
    file_split = np.array([code[file] for file, _ in columns.places], np.int8)
    return columns, file_split if plan.split.kind == "given" else None


def _matches(path: Path, pattern: str) -> list[Path]:
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputFileError(f"{folder} has no file {pattern!r}, which [source] names; give the folder of the file")
    return files


def _split_by_column(columns: TableColumns, split: SplitPlan) -> NDArray[np.int8]:
    code = {text: part for part, texts in enumerate(split.values) for text in texts}
    codes = np.full(len(columns), -1, np.int8)
    for row, text in enumerate(columns[split.column]):
        if text not in code:
            raise InputFileError(
                f"{columns.where(row, split.column)}: {text!r} is none of the parts {', '.join(code)}. Add it to values in "
                "[source.split]"
            )
        codes[row] = code[text]
    return codes


def _selected(
    columns: TableColumns, file_split: NDArray[np.int8] | None, plan: SourcePlan
) -> tuple[TableColumns, NDArray[np.int8] | None]:
    """Return the rows of scene `only`, without repeated rows if `unique` is set."""
    rows = list(range(len(columns)))
    if plan.only:
        scenes = columns[plan.scene] if plan.scene else []
        rows = [row for row, scene in enumerate(scenes) if scene == plan.only]
        if not rows:
            raise ConfigError(
                f"[source] only is {plan.only!r}, which is no scene; there are {', '.join(sorted(set(scenes))) or 'none'}"
            )
    if plan.unique:
        texts = [columns[name] for name in plan.unique]
        first: dict[tuple[str, ...], int] = {}
        for row in rows:
            first.setdefault(tuple(column[row] for column in texts), row)
        rows = list(first.values())
    if len(rows) == len(columns):
        return columns, file_split
    cells = {name: [values[row] for row in rows] for name, values in columns.cells.items()}
    return TableColumns(cells, [columns.places[row] for row in rows]), None if file_split is None else file_split[rows]


def _strata(columns: TableColumns, plan: SourcePlan, segment: NDArray[np.int8]) -> NDArray[np.int64]:
    by_name = {label.name: label for label in plan.labels}
    name = plan.split.stratify or plan.labels[0].name
    if name not in by_name:
        raise ConfigError(f"[source.split] stratify is {name!r}, which is no label; there are {', '.join(by_name)}")
    codes = _values(columns, by_name[name], plan.missing)[1].astype(np.int64)
    return (codes - UNKNOWN) * _SCENES_LIMIT + segment


def _labels(
    columns: TableColumns, plan: SourcePlan, segment: NDArray[np.int8], segments: tuple[str, ...]
) -> tuple[tuple[Task, ...], dict[str, NDArray[np.int32]]]:
    tasks: list[Task] = []
    labels: dict[str, NDArray[np.int32]] = {}
    for label in plan.labels:
        classes, values = _values(columns, label, plan.missing)
        for code, name in enumerate(segments if label.by_scene else (label.name,)):
            tasks.append(Task(name=name, kind=label.kind, label=name, classes=classes))
            labels[name] = np.where(segment == code, values, np.int32(UNKNOWN)) if label.by_scene else values
    if len(labels) != len(tasks):
        raise ConfigError(
            f"[[source.labels]]: two tasks have one name among {', '.join(task.name for task in tasks)}; rename one"
        )
    return tuple(tasks), labels


def _values(columns: TableColumns, label: LabelPlan, missing: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return the names of the classes (none for binary) and (N,) int32 codes."""
    texts, unknown = columns[label.column], frozenset(missing)
    if label.kind == "binary":
        if label.above is None:
            yes = frozenset(label.positive)
            codes = [UNKNOWN if text in unknown else int(text in yes) for text in texts]
        else:
            numbers = numbers_of(columns, label.column, missing)
            codes = [UNKNOWN if np.isnan(number) else int(number > label.above) for number in numbers]
        return (), np.array(codes, np.int32)
    classes = label.classes or tuple(sorted(set(texts) - unknown))
    code = {name: place for place, name in enumerate(classes)} | dict.fromkeys(unknown, UNKNOWN)
    for row, text in enumerate(texts):
        if text not in code:
            raise InputFileError(
                f"{columns.where(row, label.column)}: {text!r} is no class of {label.name!r}. "
                "Add it to classes, or to missing, in [source]"
            )
    return classes, np.array([code[text] for text in texts], np.int32)
