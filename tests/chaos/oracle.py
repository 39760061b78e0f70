"""What the state and the answers must be, counted by brute force over the raw events; shares no arithmetic with the engine.

State is compared tile by tile: every measure of every window, first and newest time, and the times of the sequence. The events of
these tests span less than any window keeps, so nothing has been dropped and the order of arrival leaves no trace.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from model.contract import SEQUENCE_LENGTH
from stream_app.events import Click, Event, Order, Search

__all__ = ["AnswerLog", "check_answers", "check_journal", "check_state", "expected_tiles", "joined"]

_TILE_MS: Final = {"10m": 60_000, "1h": 300_000, "1d": 3_600_000, "7d": 43_200_000, "30d": 172_800_000}


def _acts(*actions: str) -> Callable[[Event], int]:
    return lambda event: int(isinstance(event, Click) and event.action in actions)


_MEASURES: Final[dict[str, Callable[[Event], int]]] = {
    "events": lambda event: 1,
    "searches": lambda event: int(isinstance(event, Search)),
    "views": _acts("view"),
    "clicks": _acts("click"),
    "browses": _acts("view", "click"),
    "carts": _acts("cart"),
    "favourites": _acts("favourite"),
    "orders": lambda event: int(isinstance(event, Order)),
    "spend": lambda event: round(event.amount * 100) if isinstance(event, Order) else 0,
}

State = dict[str, Any]


def expected_tiles(events: Iterable[Event], name: str) -> dict[int, int]:
    """The tiles `name` ("measure/window") of an entity, from all its events: start of the tile -> sum."""
    measure, _, window = name.partition("/")
    tiles: Counter[int] = Counter()
    for event in events:
        value = _MEASURES[measure](event)
        if value:
            tiles[event.event_time_ms // _TILE_MS[window] * _TILE_MS[window]] += value
    return dict(tiles)


def joined(replicas: Sequence[Mapping[str, Any]]) -> State:
    """One entity's described replicas as one; distinct counts stay out, a repeated event leaves no trace in them."""
    tiles: dict[str, Counter[int]] = defaultdict(Counter)
    for replica in replicas:
        for name, found in replica["tiles"].items():
            tiles[name].update(found)
    known = [replica for replica in replicas if replica["newest_ms"] is not None]
    return {
        "tiles": {name: dict(found) for name, found in tiles.items()},
        "first_ms": min((replica["first_ms"] for replica in known), default=None),
        "newest_ms": max((replica["newest_ms"] for replica in known), default=None),
        "sequence": sorted(entry["time_ms"] for replica in known for entry in replica.get("sequence", ())),
    }


def check_state(entity: str, events: Sequence[Event], found: State, *, sequence: bool) -> None:
    """Assert that the state of `entity` is that of each of its events applied once."""
    times = sorted(event.event_time_ms for event in events)
    for name, tiles in found["tiles"].items():
        wanted = expected_tiles(events, name)
        assert tiles == wanted, f"miscounted: {entity} {name} holds {tiles}, its events make {wanted}"
    counted = sum(found["tiles"].get("events/10m", {}).values())
    assert counted == len(events), f"miscounted: {entity} holds {counted} events of {len(events)}"
    assert (found["first_ms"], found["newest_ms"]) == (times[0], times[-1]), f"miscounted: first and newest of {entity}"
    sequence = sequence and len(events) <= SEQUENCE_LENGTH
    assert not sequence or found["sequence"] == times, f"miscounted: {entity}'s sequence holds {found['sequence']}, not {times}"


AnswerLog = list[tuple[str, int, bytes | None, bytes]]  # topic, partition, key, value


def check_answers(wanted: Mapping[str, Event], published: AnswerLog, *, decided_again: bool = False) -> None:
    """Assert that every event has its two answers, nothing else is there, and that what was repeated is the same to the byte.

    Args:
        wanted: The events by the id of their answers.
        decided_again: Redis went back in time: what it forgot was decided a second time, and may differ in the time of scoring.
    """
    seen: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for topic, partition, key, value in published:
        if topic == "journal":
            continue
        answer = msgspec.json.decode(value)
        assert partition == answer["source"]["partition"], f"{topic} {answer['answer_id']} stands in partition {partition}"
        assert key == answer["user"].encode(), f"the key of {topic} {answer['answer_id']} is {key!r}"
        if decided_again:
            answer.pop("scored_time_ms")
        seen[topic, answer["answer_id"]].add(msgspec.json.encode(answer) if decided_again else value)
    answers = {(topic, identifier) for topic in ("intent-labels", "recommendation-candidates") for identifier in wanted}
    missing, foreign = answers - seen.keys(), seen.keys() - answers
    assert not missing, f"missing: {len(missing)} answers were never published, as {sorted(missing)[:3]}"
    assert not foreign, f"foreign: {sorted(foreign)[:3]} belong to no event"
    differing = [identifier for identifier, values in seen.items() if len(values) > 1]
    assert not differing, f"differing: {len(differing)} answers were repeated with other bytes, as {sorted(differing)[:3]}"


def check_journal(ends: Mapping[tuple[str, int], int], published: AnswerLog) -> None:
    """Assert that the journal's lines, without repeats and by commit number, cover each offset below `ends` once."""
    lines = sorted({value for topic, _, _, value in published if topic == "journal"}, key=_commit_number)
    fronts: dict[tuple[str, int], int] = dict.fromkeys(ends, 0)
    for line in map(msgspec.json.decode, lines):
        for topic, (start, end) in line["ranges"].items():
            place = (topic, line["group"])
            assert start == fronts[place], f"miscounted: the journal goes on at {start} of {place}, it stood at {fronts[place]}"
            fronts[place] = end
    assert fronts == ends, f"missing: the journal ends at {fronts}, the log at {dict(ends)}"


def _commit_number(line: bytes) -> tuple[int, int]:
    decoded = msgspec.json.decode(line)
    return decoded["group"], decoded["commit"]
