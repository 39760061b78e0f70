"""A training set from log files with a mapping: `[source] kind = "log"`.

All events go through the feature engine in canonical order, so every row has its history. Rows are the events with a known label
of a chosen task, in the ranges of the protocol; with the protocol `cards` also the events between the ranges, which are not
trained on, but whose frauds are known in the evaluation of later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.inputs import EventInputs, SequenceInputs
from model.tasks import SHOP_TASKS
from stream_app.errors import ConfigError
from stream_app.evaluation.session_labels import SessionLabel
from stream_app.events import Action, Click, Event, Order, OrderLine, Scene
from stream_app.features.columns.event_columns import category_bucket, item_bucket
from stream_app.logs.event_table import is_event_table
from stream_app.logs.ingest.mapping import load_mapping, packaged_mappings
from training.data.dataset import LEFT_OUT, SPLITS, UNKNOWN, Arrays, Dataset, ItemTable
from training.data.parsing.section import read_plan
from training.data.sources.events import EventFeaturizer, fraud_labels
from training.data.sources.log_labels import FraudTruth, Recommended, first_item, fraud_truth, imported_labels, labels_of_sessions
from training.data.sources.log_reading import TrainingLog, read_log
from training.data.splitting import BY_TIME, SplitRules, split_rows, splitting_from

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_TRAIN, _TEST = SPLITS.index("train"), SPLITS.index("test")
_DESK: Final = "service-desk"
_PROGRESS_EVERY: Final = 200_000  # events between two progress messages


class ComplaintPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Complaint events: an interaction of a fraud's user with its item at label time.

    Attributes:
        action: action of the events; the catalogue has a rate of carts for items and for categories.
        scene: scene of the events.
        reminders_days: days after the complaint at which the service desk repeats it for the category alone; a window of a week
            over the category's events then contains complaints of several weeks.
    """

    action: Action = "cart"
    scene: Scene = "service"
    reminders_days: tuple[int, ...] = ()


class LogPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "log".

    Attributes:
        mapping: a packaged mapping of `millrace import`, or a TOML file; "" for event tables of `millrace sort`.
        session_gap_minutes: a longer pause begins a new session, where the log names none.
        leave: whether the last event of a session has the next action `leave`; false: next_action is known only where one came.
        recommend: meaning of `next_item`, see `training.data.sources.log_labels`.
        rows: `event`: a row has the inputs that the worker computes; `sequence`: a row is the user's last `length` items (or
            categories, as `recommend` says), the event's own at the end, for the next item alone.
        length: length of a sequence.
        maturity_days: an event this old without a complaint is honest; None = the longest delay of a complaint in the log.
        complaints: if set, the service desk sends an event when a fraud becomes known, and later events of the same user, device
            and item have it in their history. These events are no rows.
        split: see `training.data.splitting`.
    """

    kind: Literal["log"]
    mapping: str = ""
    session_gap_minutes: float = 30.0
    leave: bool = True
    recommend: Recommended = "engaged item"
    rows: Literal["event", "sequence"] = "event"
    length: int = 32
    maturity_days: float | None = None
    complaints: ComplaintPlan | None = None
    split: dict[str, Any] = {}


class _ItemNumbers(NamedTuple):
    """Items and categories of N events, numbered in order of appearance."""

    items: dict[str, int]
    categories: dict[str, int]


@dataclass(frozen=True)
class _RowInputs:
    """Inputs of R rows, and the positions (R,) of their events, ascending."""

    inputs: Arrays
    rows: NDArray[np.int64]
    spec: EventInputs | SequenceInputs
    feature_names: tuple[str, ...] = ()
    catalogue_hash: str = ""


def dataset_from_log(
    paths: Sequence[Path], source: Mapping[str, Any], progress: Callable[[str], None], protocol: str, tasks: Sequence[str] = ()
) -> Dataset:
    """Read files, compute features and labels, split.

    Arguments are those of `training.data.sources.dataset_from`; `source` is a `LogPlan`, protocol "" means time.

    Raises:
        ConfigError: The section or the mapping is wrong, or there is none.
        InputFileError: A file cannot be read.
        ContractError: Labels name no events.
    """
    plan = _plan(source, paths)
    splitting = splitting_from(protocol, plan.split)
    if not paths:
        raise ConfigError("no file to train on: give --data FILE (CSV, JSON lines or Parquet), once for each file.")
    log = read_log(paths, load_mapping(plan.mapping) if plan.mapping else None, progress)
    events = log.events
    progress(f"{len(events):,} events and {len(log.labels):,} labels of {log.rows:,} rows; {log.refused:,} rows refused")
    numbers = _item_numbers(events)
    maturity_ms = None if plan.maturity_days is None else round(plan.maturity_days * _DAY_MS)
    truth = fraud_truth(events, log.labels, maturity_ms)
    labels, known_ms, sessions = _session_labels(log, plan, numbers)
    labels["fraud"] = truth.truth
    users: dict[str, int] = {}
    key = np.array([users.setdefault(event.user, len(users)) for event in events], np.int64)
    time_ms = np.array([event.event_time_ms for event in events], np.int64)
    split, is_row = _split(splitting, labels, time_ms, sessions if splitting.protocol == "sessions" else key, tasks)
    labels = _as_of_training(labels, known_ms, truth, split, time_ms, splitting)
    table, labels["next_item"], cold = _item_table(events, numbers, labels["next_item"], split, plan)
    if plan.rows == "sequence":
        row_inputs = _sequences(events, plan, table, key, is_row)
    else:
        row_inputs = _features(events, truth, plan, is_row, progress)
    rows = row_inputs.rows
    return Dataset(
        inputs=row_inputs.inputs,
        labels={name: value[rows] for name, value in labels.items()},
        split=split[rows],
        segment=np.zeros(len(rows), np.int8),
        time_ms=time_ms[rows],
        key=key[rows],
        tasks=SHOP_TASKS if plan.rows == "event" else tuple(task for task in SHOP_TASKS if task.kind == "retrieval"),
        spec=row_inputs.spec,
        table=table,
        feature_names=row_inputs.feature_names,
        catalogue_hash=row_inputs.catalogue_hash,
        notes={
            "rows of the files": log.rows,
            "rows refused": log.refused,
            "events": len(events),
            "late or repeated events": int(is_row.sum()) - len(rows),
            "next items unknown to the training range": cold,
        },
    )


def _plan(source: Mapping[str, Any], paths: Sequence[Path]) -> LogPlan:
    plan = read_plan(source, LogPlan)
    if not plan.mapping and not all(map(is_event_table, paths)):
        raise ConfigError(
            "the rows of the file have no mapping: give --mapping NAME or FILE.toml. Packaged are "
            f"{', '.join(packaged_mappings())}; docs/imports.md shows how to write one"
        )
    return plan


def _item_numbers(events: Sequence[Event]) -> _ItemNumbers:
    numbers = _ItemNumbers({}, {})
    for event in events:
        for line in _lines(event):
            numbers.items.setdefault(line.item, len(numbers.items))
            if line.category:
                numbers.categories.setdefault(line.category, len(numbers.categories))
    return numbers


def _lines(event: Event) -> Sequence[Click | OrderLine]:
    """Return the parts of an event that name an item: the lines of an order, or the click itself."""
    return event.lines if isinstance(event, Order) else (event,) if isinstance(event, Click) else ()


def _session_labels(log: TrainingLog, plan: LogPlan, numbers: _ItemNumbers) -> tuple[Arrays, Arrays, NDArray[np.int64]]:
    """Return labels (N,) from sessions, when each was known (N,), and the number (N,) of each event's session."""
    sessions = labels_of_sessions(
        log.events,
        numbers.items,
        gap_ms=round(plan.session_gap_minutes * _MINUTE_MS),
        leave=plan.leave,
        recommended=plan.recommend,
        categories=numbers.categories,
    )
    labels: Arrays = {name: sessions.labels[:, at] for at, name in enumerate(SessionLabel._fields)}
    known_ms: Arrays = {name: sessions.known_ms[:, at] for at, name in enumerate(SessionLabel._fields)}
    for task, (value, imported_ms) in imported_labels(log.events, log.labels).items():
        known_ms[task] = np.where(value == UNKNOWN, known_ms[task], imported_ms)
        labels[task] = np.where(value == UNKNOWN, labels[task], value)
    return (
        {name: value if name == "next_item" else value.astype(np.int8) for name, value in labels.items()},
        known_ms,
        sessions.session,
    )


def _split(
    splitting: SplitRules, labels: Arrays, time_ms: NDArray[np.int64], key: NDArray[np.int64], tasks: Sequence[str]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the split (N,) of all events, and a mask (N,) of the rows."""
    row_labels = [task.label for task in SHOP_TASKS if not tasks or task.name in tasks]
    known = np.zeros(len(time_ms), np.bool_)
    for label in row_labels:
        known |= labels[label] != UNKNOWN
    split = np.full(len(time_ms), LEFT_OUT, np.int8)
    split[known] = split_rows(splitting, time_ms[known], key[known])
    is_row = split != LEFT_OUT
    if splitting.protocol == "cards" and is_row.any():
        span = time_ms[is_row]
        is_row = known & (time_ms >= span.min()) & (time_ms <= span.max())
    return split, is_row


def _sequences(
    events: Sequence[Event], plan: LogPlan, table: ItemTable, key: NDArray[np.int64], is_row: NDArray[np.bool_]
) -> _RowInputs:
    """Return each user's items up to and including each row, restricted to items of the training range."""
    number = {name: place for place, name in enumerate(table.ids)}
    of_categories = plan.recommend == "next category"
    rows = np.flatnonzero(is_row)
    sequence = np.zeros((len(rows), plan.length), np.int32)
    row_of = {place: row for row, place in enumerate(rows.tolist())}
    histories: dict[int, list[int]] = {}
    for place, (event, user) in enumerate(zip(events, key.tolist(), strict=True)):
        history, line = histories.setdefault(user, []), first_item(event)
        known = None if line is None else number.get(line.category if of_categories else line.item)
        if known is not None:
            history.append(known + 1)  # 0 is padding
            del history[: -plan.length]
        row = row_of.get(place)
        if row is not None and history:
            sequence[row, -len(history) :] = history
    return _RowInputs({"sequence": sequence}, rows, SequenceInputs(items=len(table.ids), length=plan.length))


def _features(
    events: Sequence[Event], truth: FraudTruth, plan: LogPlan, is_row: NDArray[np.bool_], progress: Callable[[str], None]
) -> _RowInputs:
    """Return the tensors of the rows, as the worker computes them."""
    complaints = _complaints(events, truth, plan.complaints) if plan.complaints else []
    everything = [*events, *complaints]
    times = np.array([event.event_time_ms for event in everything], np.int64)
    order = np.argsort(times, kind="stable")  # at equal times, complaints come after other events
    ordered_rows = np.append(is_row, np.zeros(len(complaints), np.bool_))[order]
    last = int(np.flatnonzero(ordered_rows)[-1]) + 1 if ordered_rows.any() else 0
    featurizer, reported = EventFeaturizer(), 0

    def report(done: int) -> None:
        nonlocal reported
        if done - reported >= _PROGRESS_EVERY or done == last:
            reported = done
            progress(f"computed features of {done:,} of {last:,} events")

    inputs, rows = featurizer.fold([everything[place] for place in order[:last]], ordered_rows[:last], report)
    return _RowInputs(inputs, order[:last][rows], featurizer.spec, featurizer.feature_names, featurizer.catalogue_hash)


def _complaints(events: Sequence[Event], truth: FraudTruth, plan: ComplaintPlan) -> list[Event]:
    complaints: list[Event] = []
    for place in np.flatnonzero(truth.truth == 1).tolist():
        event, line = events[place], first_item(events[place])
        if line is None:
            continue
        complaint = Click(
            event_id=f"complaint-{event.event_id}",
            user=event.user,
            event_time_ms=int(truth.known_ms[place]),
            device=event.device,
            scene=plan.scene,
            platform=event.platform,
            action=plan.action,
            item=line.item,
            category=line.category,
        )
        complaints.append(complaint)
        for days in plan.reminders_days:
            changes = {"event_id": f"reminder-{days}-{event.event_id}", "event_time_ms": complaint.event_time_ms + days * _DAY_MS}
            complaints.append(msgspec.structs.replace(complaint, user=_DESK, device="", item=_DESK, **changes))
    return complaints


def _as_of_training(
    labels: Arrays,
    known_ms: Arrays,
    truth: FraudTruth,
    split: NDArray[np.int8],
    time_ms: NDArray[np.int64],
    splitting: SplitRules,
) -> Arrays:
    """Return the labels (N,) that were known when the training began; rows outside of the training keep all labels.

    With a split by time, the training begins at the first moment of the test range. A split by user or session has no such
    moment, so its rows keep their labels.
    """
    trained = (split != _TEST) & (split != LEFT_OUT)
    by_time = splitting.protocol in BY_TIME
    first_test_ms = int(time_ms[split == _TEST].min(initial=np.iinfo(np.int64).max)) if by_time else int(time_ms.max(initial=0))
    trained_at_ms = splitting.ranges["test"][0] if splitting.ranges else first_test_ms
    known = {
        name: np.where(trained & (known_ms[name] > trained_at_ms), UNKNOWN, value).astype(value.dtype) if by_time else value
        for name, value in labels.items()
        if name != "fraud"
    }
    fraud = fraud_labels(truth.truth, truth.known_ms, truth.mature_ms <= trained_at_ms, trained_at_ms, ~trained)
    return known | {"fraud": fraud}


def _item_table(
    events: Sequence[Event], numbers: _ItemNumbers, next_item: NDArray[np.int32], split: NDArray[np.int8], plan: LogPlan
) -> tuple[ItemTable, NDArray[np.int32], int]:
    """Return the items of the training range, the row (N,) of each next item, and the number of next items not among them."""
    of_categories = plan.recommend == "next category"
    number_of = numbers.categories if of_categories else numbers.items
    names = list(number_of)
    train = np.flatnonzero(split == _TRAIN)
    in_train = np.zeros(len(names), np.bool_)
    in_train[next_item[train][next_item[train] != UNKNOWN]] = True
    category_of: dict[str, str] = {}  # item -> its newest category in the training range
    for place in train.tolist():
        for line in _lines(events[place]):
            category_of[line.item] = line.category or category_of.get(line.item, "")
            if not of_categories:
                in_train[number_of[line.item]] = True
            elif line.category:
                in_train[number_of[line.category]] = True
    listed = np.flatnonzero(in_train)
    row = np.full(len(names) + 1, UNKNOWN, np.int32)  # the last one is for -1, no next item
    row[listed] = np.arange(len(listed), dtype=np.int32)
    ids = [names[number] for number in listed]
    table = ItemTable(
        ids=ids,
        items=np.array([0 if of_categories else item_bucket(name) for name in ids], np.int32),
        categories=np.array([category_bucket(name if of_categories else category_of.get(name, "")) for name in ids], np.int32),
    )
    rows = row[next_item]
    known = (next_item != UNKNOWN) & (split != LEFT_OUT)
    return table, rows, int((known & (rows == UNKNOWN)).sum())
