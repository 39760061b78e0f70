"""Compares the answers and features of a live run with those of a replay, event by event.

Both folders are read twice: first all messages by a hash, then those that differ as a whole. So a comparison needs some hundred
bytes a message, and the messages themselves only where they differ.
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
from stream_app.replay.answer_files import FEATURES, AnswerRecord, answers_in, source_of
from stream_app.replay.start_offsets import read_begins

__all__ = ["ReplayDifference", "ReplayDifferences", "compare"]

_MOST_FIELDS: Final = 10  # of the first event that differs
_MOST_HELD: Final = 200_000  # differing messages that are looked into; the others are counted

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
    """What differs.

    Attributes:
        events: Events that the live run answered.
        before: Events of the live run that stand before the replay's beginning; they are not compared.
        messages: Of the live run, each once.
        features: Whether both sides have features.
        differing: Events with any difference.
        missing: Messages that the replay lacks.
        extra: Messages that only the replay has.
        unequal_repeats: Messages that a side has twice with different bytes.
        fields: "topic: field" -> events in which it differs.
        largest: Feature -> largest difference of it.
        first: The first event that differs, in canonical order, and its differences.
    """

    events: int = 0
    before: int = 0
    messages: int = 0
    features: bool = False
    differing: int = 0
    missing: int = 0
    extra: int = 0
    unequal_repeats: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)
    first: dict[str, Any] | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.differing or self.unequal_repeats)

    def line(self) -> dict[str, Any]:
        """Return what the command prints with --json."""
        return {
            "same": self.same,
            "events": self.events,
            "before": self.before,
            "messages": self.messages,
            "features": self.features,
            "differing_events": self.differing,
            "missing": self.missing,
            "extra": self.extra,
            "unequal_repeats": self.unequal_repeats,
            "fields": dict(self.fields.most_common()),
            "largest": self.largest,
            "first": self.first,
        }


def compare(live: Path, replay: Path, feature_names: Sequence[str], ignore: Collection[str] = ()) -> ReplayDifferences:
    """Compare two folders (see `answer_files.answers_in`).

    Args:
        live: The recorded run.
        replay: The replay.
        feature_names: Columns of the tensor `dense`.
        ignore: Fields of answers that may differ, as `scored_time_ms`.

    Raises:
        InputFileError: A folder has no answers, or a file is damaged.
    """
    result = ReplayDifferences()
    known: dict[Key, int] = {}
    with_features = [any(said.topic == FEATURES for said in answers_in(folder)) for folder in (live, replay)]
    result.features = all(with_features)
    begins, before = read_begins(replay), set[str]()
    for said in _compared(live, result.features):
        if begins and begins.is_before(source_of(said.answer_id)):
            before.add(said.answer_id)
            continue
        result.unequal_repeats += _entered(known, said, ignore)
    result.messages, result.before = len(known), len(before)
    result.events = len({answer_id for _, answer_id in known})
    seen: dict[Key, int] = {}
    for said in _compared(replay, result.features):
        result.unequal_repeats += _entered(seen, said, ignore)
    different = {key for key, digest in seen.items() if known.get(key, digest) != digest}
    result.missing, result.extra = len(known.keys() - seen.keys()), len(seen.keys() - known.keys())
    different |= known.keys() ^ seen.keys()
    result.differing = len({answer_id for _, answer_id in different})
    if different:
        _look_into(result, live, replay, different, (feature_names, ignore))
    return result


def _compared(folder: Path, features: bool) -> Iterator[AnswerRecord]:
    return (said for said in answers_in(folder) if features or said.topic != FEATURES)


def _entered(known: dict[Key, int], said: AnswerRecord, ignore: Collection[str]) -> bool:
    """Enter a message; tell whether the same was said before in other words."""
    digest = hash(_without(said, ignore))
    return known.setdefault((said.topic, said.answer_id), digest) != digest


def _without(said: AnswerRecord, ignore: Collection[str]) -> bytes:
    if not ignore or said.topic == FEATURES:
        return said.value
    answer = _json.decode(said.value)
    return msgspec.json.encode({name: value for name, value in answer.items() if name not in ignore})


def _look_into(
    result: ReplayDifferences, live: Path, replay: Path, different: set[Key], how: tuple[Sequence[str], Collection[str]]
) -> None:
    events = {answer_id for _, answer_id in different}
    times: dict[str, int] = {}
    sides: list[dict[Key, bytes]] = [{}, {}]
    for side, folder in zip(sides, (live, replay), strict=True):
        for said in answers_in(folder):
            if said.answer_id in events and said.answer_id not in times and said.topic != FEATURES:
                times[said.answer_id] = _json.decode(said.value).get("event_time_ms", -1)
            key = (said.topic, said.answer_id)
            if key in different and len(side) < _MOST_HELD:
                side[key] = said.value
    found: dict[str, list[ReplayDifference]] = {}
    for topic, answer_id in sorted(different):
        both = [side.get((topic, answer_id)) for side in sides]
        if both == [None, None]:
            continue  # beyond what is looked into
        found.setdefault(answer_id, []).extend(_differences(topic, both[0], both[1], *how))
    for of_event in found.values():
        result.fields.update({f"{one.topic}: {one.field}" for one in of_event})
        _enter_largest(result.largest, of_event)
    first = min(found, key=lambda answer_id: (times.get(answer_id, -1), *msgspec.structs.astuple(source_of(answer_id))))
    source = source_of(first)
    result.first = {
        "answer_id": first, "event_time_ms": times.get(first, -1), "topic": source.topic, "partition": source.partition,
        "offset": source.offset, "differences": [msgspec.structs.asdict(one) for one in found[first][:_MOST_FIELDS]],
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
    for one in differences:
        if one.topic == FEATURES and isinstance(one.live, float) and isinstance(one.replay, float):
            largest[one.field] = max(largest.get(one.field, 0.0), abs(one.live - one.replay))
