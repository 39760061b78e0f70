"""A training set from log files that a mapping describes: `[source] kind = "log"`.

Events go through the feature engine in canonical order, all of them, so that the first row that counts has its past. Rows are
the events with a known label of a wanted task, in the ranges of the protocol; with the protocol `cards` also those between the
ranges, which nobody trains on, but whose frauds are known when later ones are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.inputs import EventInputs, SequenceInputs
from model.tasks import SHOP_TASKS
from stream_app.errors import ConfigError
from stream_app.evaluation.session_labels import SessionLabel
from stream_app.events import Action, Click, Event, Order, Scene
from stream_app.features.columns.event_columns import category_bucket, item_bucket
from stream_app.logs.event_table import is_event_table
from stream_app.logs.ingest.mapping import load_mapping, packaged_mappings
from training.data.dataset import LEFT_OUT, SPLITS, UNKNOWN, Arrays, Dataset, ItemTable
from training.data.parsing.section import plan_of
from training.data.sources.events import EventFolder, fraud_labels
from training.data.sources.log_labels import FraudTruth, Recommended, first_thing, fraud_truth, labels_of_sessions, told_labels
from training.data.sources.log_reading import TrainingLog, read_log
from training.data.splitting import BY_TIME, SplitRules, split_rows, splitting_from

__all__ = ["LogPlan", "dataset_from_log"]

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_TRAIN, _TEST = SPLITS.index("train"), SPLITS.index("test")
_DESK: Final = "service-desk"
_TOLD_EVERY: Final = 200_000  # events between two words about progress


class Complaints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a fraud that becomes known comes back as an event: an interaction of its user with its item, at label time.

    Attributes:
        action: of these events; the catalogue has a rate of carts for items and for categories.
        scene: of these events.
        reminders_days: so many days after it became known it is brought up again, by the service desk and for the category
            alone: a window of a week over the category's events then holds complaints of several weeks.
    """

    action: Action = "cart"
    scene: Scene = "service"
    reminders_days: tuple[int, ...] = ()


class LogPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A [source] section of kind "log".

    Attributes:
        mapping: a packaged mapping of `millrace import`, or a TOML file; none for event tables of `millrace sort`.
        session_gap_minutes: a pause longer than this begins a new session, where the log names none.
        leave: whether the last event of a session has the next action `leave`; false: next_action is asked only where one came.
        recommend: what `next_item` is, see `training.data.sources.log_labels`.
        rows: what a row is: an `event` with all that the worker would know of it; or the `sequence` of the user's last
            `length` items (or categories, as `recommend` says), the event's own at the end, for the next one alone.
        length: of a sequence.
        maturity_days: an event this old without a complaint is honest; None = the longest delay of a complaint in the log.
        complaints: if given, known frauds are events too, that the service desk sends when they become known: what later events
            of the same user, device and item have as past. They are no rows.
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
    complaints: Complaints | None = None
    split: dict[str, Any] = {}


@dataclass(frozen=True)
class _Things:
    """Items and categories of N events, numbered in order of appearance."""

    items: dict[str, int]
    categories: dict[str, int]


@dataclass(frozen=True)
class _Made:
    """The inputs of R rows, and which of the events (R,) they are, ascending."""

    inputs: Arrays
    rows: NDArray[np.int64]
    spec: EventInputs | SequenceInputs
    feature_names: tuple[str, ...] = ()
    catalogue_hash: str = ""


def dataset_from_log(
    paths: Sequence[Path], source: Mapping[str, Any], progress: Callable[[str], None], protocol: str, tasks: Sequence[str] = ()
) -> Dataset:
    """Read files, compute features and labels, split.

    Args:
        paths: files that the mapping describes, or event tables.
        source: the [source] section, see `LogPlan`.
        progress: told what is being done, one sentence at a time.
        protocol: a name of `training.evaluation.protocol.PROTOCOLS`; "" = time.
        tasks: names of the tasks that rows are for; empty = all.

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
    things = _things(events)
    maturity_ms = None if plan.maturity_days is None else round(plan.maturity_days * _DAY_MS)
    truth = fraud_truth(events, log.labels, maturity_ms)
    labels, told_ms, sessions = _session_labels(log, plan, things)
    labels["fraud"] = truth.truth
    users: dict[str, int] = {}
    key = np.array([users.setdefault(event.user, len(users)) for event in events], np.int64)
    time_ms = np.array([event.event_time_ms for event in events], np.int64)
    split, wanted = _split(splitting, labels, time_ms, sessions if splitting.protocol == "sessions" else key, tasks)
    labels = _as_of_training(labels, told_ms, truth, split, time_ms, splitting)
    table, labels["next_item"], cold = _table(events, things, labels["next_item"], split, plan)
    made = _made(events, truth, plan, table, key, wanted, progress)
    rows = made.rows
    return Dataset(
        inputs=made.inputs,
        labels={name: value[rows] for name, value in labels.items()},
        split=split[rows],
        segment=np.zeros(len(rows), np.int8),
        time_ms=time_ms[rows],
        key=key[rows],
        tasks=SHOP_TASKS if plan.rows == "event" else tuple(task for task in SHOP_TASKS if task.kind == "retrieval"),
        spec=made.spec,
        table=table,
        feature_names=made.feature_names,
        catalogue_hash=made.catalogue_hash,
        notes={
            "rows of the files": log.rows,
            "rows refused": log.refused,
            "events": len(events),
            "late or repeated events": int(wanted.sum()) - len(rows),
            "next items unknown to the training range": cold,
        },
    )


def _plan(source: Mapping[str, Any], paths: Sequence[Path]) -> LogPlan:
    plan = plan_of(source, LogPlan)
    if not plan.mapping and not all(map(is_event_table, paths)):
        raise ConfigError(
            "no mapping says what the rows of the file are: give --mapping NAME or FILE.toml. Packaged are "
            f"{', '.join(packaged_mappings())}; docs/imports.md tells how to write one"
        )
    return plan


def _things(events: Sequence[Event]) -> _Things:
    things = _Things({}, {})
    for event in events:
        for thing in event.lines if isinstance(event, Order) else (event,) if isinstance(event, Click) else ():
            things.items.setdefault(thing.item, len(things.items))
            if thing.category:
                things.categories.setdefault(thing.category, len(things.categories))
    return things


def _session_labels(log: TrainingLog, plan: LogPlan, things: _Things) -> tuple[Arrays, Arrays, NDArray[np.int64]]:
    """Return labels (N,) of sessions, when each was known (N,), and the number (N,) of each event's session."""
    found = labels_of_sessions(
        log.events,
        things.items,
        gap_ms=round(plan.session_gap_minutes * _MINUTE_MS),
        leave=plan.leave,
        recommended=plan.recommend,
        categories=things.categories,
    )
    labels: Arrays = {name: found.labels[:, at] for at, name in enumerate(SessionLabel._fields)}
    told_ms: Arrays = {name: found.told_ms[:, at] for at, name in enumerate(SessionLabel._fields)}
    for task, (value, known_ms) in told_labels(log.events, log.labels).items():
        told_ms[task] = np.where(value == UNKNOWN, told_ms[task], known_ms)
        labels[task] = np.where(value == UNKNOWN, labels[task], value)
    return {n: v if n == "next_item" else v.astype(np.int8) for n, v in labels.items()}, told_ms, found.session


def _split(
    splitting: SplitRules, labels: Arrays, time_ms: NDArray[np.int64], key: NDArray[np.int64], tasks: Sequence[str]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Return the split (N,) of all events, and which of them are to be rows (N,)."""
    asked = [task.label for task in SHOP_TASKS if not tasks or task.name in tasks]
    known = np.zeros(len(time_ms), np.bool_)
    for label in asked:
        known |= labels[label] != UNKNOWN
    split = np.full(len(time_ms), LEFT_OUT, np.int8)
    split[known] = split_rows(splitting, time_ms[known], key[known])
    wanted = split != LEFT_OUT
    if splitting.protocol == "cards" and wanted.any():
        span = time_ms[wanted]
        wanted = known & (time_ms >= span.min()) & (time_ms <= span.max())
    return split, wanted


def _made(
    events: Sequence[Event],
    truth: FraudTruth,
    plan: LogPlan,
    table: ItemTable,
    key: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    progress: Callable[[str], None],
) -> _Made:
    if plan.rows == "sequence":
        return _sequences(events, plan, table, key, wanted)
    return _features(events, truth, plan, wanted, progress)


def _sequences(
    events: Sequence[Event], plan: LogPlan, table: ItemTable, key: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> _Made:
    """Return what each user had touched up to each wanted event, of the items that the training range knows."""
    number = {name: place for place, name in enumerate(table.ids)}
    of_categories = plan.recommend == "next category"
    rows = np.flatnonzero(wanted)
    sequence = np.zeros((len(rows), plan.length), np.int32)
    row_of = {place: row for row, place in enumerate(rows.tolist())}
    touched: dict[int, list[int]] = {}
    for place, (event, user) in enumerate(zip(events, key.tolist(), strict=True)):
        had, thing = touched.setdefault(user, []), first_thing(event)
        known = None if thing is None else number.get(thing.category if of_categories else thing.item)
        if known is not None:
            had.append(known + 1)  # 0 is padding
            del had[: -plan.length]
        row = row_of.get(place)
        if row is not None and had:
            sequence[row, -len(had) :] = had
    return _Made({"sequence": sequence}, rows, SequenceInputs(items=len(table.ids), length=plan.length))


def _features(
    events: Sequence[Event], truth: FraudTruth, plan: LogPlan, wanted: NDArray[np.bool_], progress: Callable[[str], None]
) -> _Made:
    """Return the tensors of the wanted events, as they would have been served."""
    said = _complaints(events, truth, plan.complaints) if plan.complaints else []
    everything = [*events, *said]
    times = np.array([event.event_time_ms for event in everything], np.int64)
    order = np.argsort(times, kind="stable")  # at the same moment, what is known of the past comes after what happens
    mine = np.append(wanted, np.zeros(len(said), np.bool_))[order]
    last = int(np.flatnonzero(mine)[-1]) + 1 if mine.any() else 0
    folder, told = EventFolder(), 0

    def tell(done: int) -> None:
        nonlocal told
        if done - told >= _TOLD_EVERY or done == last:
            told = done
            progress(f"computed features of {done:,} of {last:,} events")

    inputs, rows = folder.fold([everything[place] for place in order[:last]], mine[:last], tell)
    return _Made(inputs, order[:last][rows], folder.spec, folder.feature_names, folder.catalogue_hash)


def _complaints(events: Sequence[Event], truth: FraudTruth, how: Complaints) -> list[Event]:
    found: list[Event] = []
    for place in np.flatnonzero(truth.truth == 1).tolist():
        event, thing = events[place], first_thing(events[place])
        if thing is None:
            continue
        complaint = Click(
            event_id=f"complaint-{event.event_id}",
            user=event.user,
            event_time_ms=int(truth.known_ms[place]),
            device=event.device,
            scene=how.scene,
            platform=event.platform,
            action=how.action,
            item=thing.item,
            category=thing.category,
        )
        found.append(complaint)
        for days in how.reminders_days:
            at = {"event_id": f"reminder-{days}-{event.event_id}", "event_time_ms": complaint.event_time_ms + days * _DAY_MS}
            found.append(msgspec.structs.replace(complaint, user=_DESK, device="", item=_DESK, **at))
    return found


def _as_of_training(
    labels: Arrays,
    told_ms: Arrays,
    truth: FraudTruth,
    split: NDArray[np.int8],
    time_ms: NDArray[np.int64],
    splitting: SplitRules,
) -> Arrays:
    """Return the labels (N,) that a training could have had; rows that are not trained on keep the whole truth.

    With a split by time that is what was known at the first moment of the test range. Where each user or session is split for
    itself there is no such moment, and labels are as the protocol takes them.
    """
    trained = (split != _TEST) & (split != LEFT_OUT)
    by_time = splitting.protocol in BY_TIME
    first_test_ms = int(time_ms[split == _TEST].min(initial=np.iinfo(np.int64).max)) if by_time else int(time_ms.max(initial=0))
    trained_at_ms = splitting.ranges["test"][0] if splitting.ranges else first_test_ms
    known = {
        name: np.where(trained & (told_ms[name] > trained_at_ms), UNKNOWN, value).astype(value.dtype) if by_time else value
        for name, value in labels.items()
        if name != "fraud"
    }
    fraud = fraud_labels(truth.truth, truth.known_ms, truth.decided_ms <= trained_at_ms, trained_at_ms, ~trained)
    return known | {"fraud": fraud}


def _table(
    events: Sequence[Event], things: _Things, wanted: NDArray[np.int32], split: NDArray[np.int8], plan: LogPlan
) -> tuple[ItemTable, NDArray[np.int32], int]:
    """Return the items of the training range, the rows (N,) that are wanted of them, and how many wanted ones are not there."""
    of_categories = plan.recommend == "next category"
    numbers = things.categories if of_categories else things.items
    names = list(numbers)
    train = np.flatnonzero(split == _TRAIN)
    there = np.zeros(len(names), np.bool_)
    there[wanted[train][wanted[train] != UNKNOWN]] = True
    category_of: dict[str, str] = {}  # item -> its newest category in the training range
    for place in train.tolist():
        event = events[place]
        for thing in event.lines if isinstance(event, Order) else (event,) if isinstance(event, Click) else ():
            category_of[thing.item] = thing.category or category_of.get(thing.item, "")
            if not of_categories:
                there[numbers[thing.item]] = True
            elif thing.category:
                there[numbers[thing.category]] = True
    kept = np.flatnonzero(there)
    row = np.full(len(names) + 1, UNKNOWN, np.int32)  # the last one stands for -1, "none is wanted"
    row[kept] = np.arange(len(kept), dtype=np.int32)
    ids = [names[number] for number in kept]
    table = ItemTable(
        ids=ids,
        items=np.array([0 if of_categories else item_bucket(name) for name in ids], np.int32),
        categories=np.array([category_bucket(name if of_categories else category_of.get(name, "")) for name in ids], np.int32),
    )
    rows = row[wanted]
    asked = (wanted != UNKNOWN) & (split != LEFT_OUT)
    return table, rows, int((asked & (rows == UNKNOWN)).sum())
