"""Compare the answers and features of a live run with those of a replay, event by event.

Both folders are read twice: first a hash of every message, then the whole messages whose hashes differ. So a comparison needs
some hundred bytes of memory per message, and the messages themselves only where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from stream_app.codec.feature_rows import decode_tensors
from stream_app.events import FeatureRow
from stream_app.replay.answer_files import FEATURES, AnswerRecord, answers_in, has_answer, read_start_offsets, source_of

_MOST_FIELDS: Final = 10  # of the first event that differs
_MOST_COMPARED: Final = 200_000  # differing messages compared field by field; beyond them messages are only counted

Key = tuple[str, str]  # topic, answer id

_json: Final = msgspec.json.Decoder()
_row: Final = msgspec.json.Decoder(FeatureRow).decode


class ReplayDifference(msgspec.Struct):
    """A field, or a feature, with both values; None where a side has no such message or field."""

    topic: str
    field: str
    live: Any
    replay: Any


@dataclass
class ReplayDifferences:
    """Differences between a live run and a replay.

    Attributes:
        events: Number of events that the live run answered.
        before: Events of the live run before the replay's start offsets; they are not compared.
        messages: Number of distinct messages of the live run.
        features: Whether both sides have features.
        differing_events: Events with any difference.
        missing: Messages that the replay lacks.
        extra: Messages that only the replay has.
        unequal_repeats: Messages that one side has twice with different bytes.
        fields: "topic: field" -> events in which it differs.
        largest: Feature -> largest difference of it.
        first: The first event that differs, in canonical order, and its differences.
    """

    events: int = 0
    before: int = 0
    messages: int = 0
    features: bool = False
    differing_events: int = 0
    missing: int = 0
    extra: int = 0
    unequal_repeats: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)
    first: dict[str, Any] | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing_events or self.unequal_repeats)

    def line(self) -> dict[str, Any]:
        """Return what the command prints with --json."""
        return {"same": self.same, **vars(self), "fields": dict(self.fields.most_common())}


def compare(live: Path, replay: Path, feature_names: Sequence[str], ignore: Collection[str] = ()) -> ReplayDifferences:
    """Compare two folders of answers, without the fields in `ignore`; `feature_names` are the columns of the tensor `dense`.

    Raises:
        InputFileError: A folder has no answers, or a file is damaged.
    """
    result = ReplayDifferences()
    known: dict[Key, int] = {}
    with_features = [any(record.topic == FEATURES for record in answers_in(folder)) for folder in (live, replay)]
    result.features = all(with_features)
    start, before = read_start_offsets(replay), set[str]()
    for record in _compared(live, result.features):
        if start and not has_answer(source_of(record.answer_id), start):
            before.add(record.answer_id)
            continue
        result.unequal_repeats += _enter(known, record, ignore)
    result.messages, result.before = len(known), len(before)
    result.events = len({answer_id for _, answer_id in known})
    seen: dict[Key, int] = {}
    for record in _compared(replay, result.features):
        result.unequal_repeats += _enter(seen, record, ignore)
    different = {key for key, digest in seen.items() if known.get(key, digest) != digest}
    result.missing, result.extra = len(known.keys() - seen.keys()), len(seen.keys() - known.keys())
    different |= known.keys() ^ seen.keys()
    result.differing_events = len({answer_id for _, answer_id in different})
    if different:
        _describe_differences(result, live, replay, different, (feature_names, ignore))
    return result


def _compared(folder: Path, features: bool) -> Iterator[AnswerRecord]:
    return (record for record in answers_in(folder) if features or record.topic != FEATURES)


def _enter(known: dict[Key, int], record: AnswerRecord, ignore: Collection[str]) -> bool:
    """Enter a message; return whether its side has the same message with different bytes."""
    digest = hash(_without(record, ignore))
    return known.setdefault((record.topic, record.answer_id), digest) != digest


def _without(record: AnswerRecord, ignore: Collection[str]) -> bytes:
    if not ignore or record.topic == FEATURES:
        return record.value
    answer = _json.decode(record.value)
    return msgspec.json.encode({name: value for name, value in answer.items() if name not in ignore})


def _describe_differences(
    result: ReplayDifferences, live: Path, replay: Path, different: set[Key], how: tuple[Sequence[str], Collection[str]]
) -> None:
    events = {answer_id for _, answer_id in different}
    times: dict[str, int] = {}
    sides: list[dict[Key, bytes]] = [{}, {}]
    for side, folder in zip(sides, (live, replay), strict=True):
        for record in answers_in(folder):
            if record.answer_id in events and record.answer_id not in times and record.topic != FEATURES:
                times[record.answer_id] = _json.decode(record.value).get("event_time_ms", -1)
            key = (record.topic, record.answer_id)
            if key in different and len(side) < _MOST_COMPARED:
                side[key] = record.value
    by_event: dict[str, list[ReplayDifference]] = {}
    for topic, answer_id in sorted(different):
        both = [side.get((topic, answer_id)) for side in sides]
        if both == [None, None]:
            continue  # beyond _MOST_COMPARED
        by_event.setdefault(answer_id, []).extend(_differences(topic, both[0], both[1], *how))
    for differences in by_event.values():
        result.fields.update({f"{difference.topic}: {difference.field}" for difference in differences})
        _enter_largest(result.largest, differences)
    first = min(by_event, key=lambda answer_id: (times.get(answer_id, -1), *msgspec.structs.astuple(source_of(answer_id))))
    source = source_of(first)
    result.first = {
        "answer_id": first, "event_time_ms": times.get(first, -1), "topic": source.topic, "partition": source.partition,
        "offset": source.offset,
        "differences": [msgspec.structs.asdict(difference) for difference in by_event[first][:_MOST_FIELDS]],
    }  # fmt: skip


def _differences(
    topic: str, live: bytes | None, replay: bytes | None, feature_names: Sequence[str], ignore: Collection[str]
) -> Iterator[ReplayDifference]:
    if live is None or replay is None:
        yield ReplayDifference(topic, "(message)", None if live is None else "there", None if replay is None else "there")
    elif topic == FEATURES:
        yield from _of_features(live, replay, feature_names)
    else:
        yield from _of_values(topic, "", _json.decode(_without(AnswerRecord(topic, "", live), ignore)),
                              _json.decode(_without(AnswerRecord(topic, "", replay), ignore)))  # fmt: skip


def _of_features(live: bytes, replay: bytes, feature_names: Sequence[str]) -> Iterator[ReplayDifference]:
    ours, theirs = _row(live), _row(replay)
    if ours.features_version != theirs.features_version:
        yield ReplayDifference(FEATURES, "features_version", ours.features_version, theirs.features_version)
        return
    right = decode_tensors(theirs)
    for name, left in decode_tensors(ours).items():
        ours_flat, theirs_flat = left.reshape(-1), right[name].reshape(-1)
        for at in np.flatnonzero(ours_flat.view("<u4") != theirs_flat.view("<u4")).tolist():  # to the bit
            column = feature_names[at] if name == "dense" and at < len(feature_names) else name
            yield ReplayDifference(FEATURES, column, ours_flat[at].item(), theirs_flat[at].item())


def _of_values(topic: str, path: str, live: Any, replay: Any) -> Iterator[ReplayDifference]:  # noqa: ANN401 (JSON values)
    if isinstance(live, dict) and isinstance(replay, dict):
        for name in {**live, **replay}:
            yield from _of_values(topic, f"{path}.{name}".lstrip("."), live.get(name), replay.get(name))
    elif live != replay:
        yield ReplayDifference(topic, path, live, replay)


def _enter_largest(largest: dict[str, float], differences: Sequence[ReplayDifference]) -> None:
    for difference in differences:
        if difference.topic == FEATURES and isinstance(difference.live, float) and isinstance(difference.replay, float):
            largest[difference.field] = max(largest.get(difference.field, 0.0), abs(difference.live - difference.replay))
